"""Where a job's processes run: ./convert_command.sh of a project, or a container of the built image."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

# What a user's shell may hold of another cloud's or cluster's job; the service's machines know nothing of it.
FOREIGN = re.compile(
    r"(CLOUD_ML_|AIP_|SM_|SLURM_|TORCHELASTIC_|OMPI_|JSM_|PL_).*|CLUSTER_SPEC|TF_CONFIG|"
    r"MASTER_(ADDR|PORT)|((LOCAL|NODE|GROUP)_)?RANK|(LOCAL_)?WORLD_SIZE"
)
ENGINES = ("docker", "podman")


class Running(Protocol):
    """One replica that runs."""

    def wait(self) -> int:
        """Its exit status, when it has ended; negative for a signal, which a container tells as 128 plus its number."""

    def terminate(self) -> None:
        """Ask its first process to end, as the service does, by SIGTERM."""

    def kill(self) -> None:
        """End every process of it, whether or not the first has ended."""


class Place(Protocol):
    """Starts the replicas of a job."""

    says: str  # one line for the user

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Running:
        """Start one, its stdout and stderr into `log`; OSError where it cannot be started."""


class Direct:
    """`convert_command.sh` of the project at `root`, called in the user's folder by this interpreter.

    threads: CPU threads of a trial's torch, where several trials share this machine; None leaves the choice to torch.
    """

    def __init__(self, root: Path, threads: int | None = None) -> None:
        self.command = str(root.absolute() / "convert_command.sh")
        self.threads = threads
        self.says = "as processes of this machine, by ./convert_command.sh"

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Running:
        """Start a process in a session of its own, which Ctrl-C in the terminal does not reach."""
        kept = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
        told = kept | _threads(self.threads) | {"PATH": path, "ALPHARD_SEALED": "1"} | dict(environment)
        return _Process(_popen([self.command, *arguments], log, told))


class Container:
    """`docker run` or `podman run` of an image that is here.

    mounts: folders of this machine that a trial writes to, at the same path inside.
    data:   files and folders that it reads, by their path inside; relative ones are relative to /app.
    host:   on this machine's network, so that the replicas of a job find each other.
    """

    def __init__(
        self,
        engine: str,
        image: str,
        mounts: Sequence[Path] = (),
        data: Mapping[str, Path] | None = None,
        threads: int | None = None,
        host: bool = False,
    ) -> None:
        self.engine, self.image, self.threads = engine, image, threads
        self.flags = [f"--volume={path.absolute()}:{path.absolute()}" for path in mounts]
        self.flags += [f"--volume={path.absolute()}:{Path('/app') / at}:ro" for at, path in (data or {}).items()]
        self.flags += ["--network=host"] if host else []
        self.flags += [f"--user={os.getuid()}:0"]
        if Path(engine).name == "podman" and os.geteuid():
            self.flags.append("--userns=keep-id")
        if list(Path("/dev").glob("nvidia[0-9]*")):
            self.flags.append("--gpus=all" if Path(engine).name == "docker" else "--device=nvidia.com/gpu=all")
        self.says = f"as containers of {image}, by {Path(engine).name}"

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Running:
        """Start a container under a name of its own, by which it can be ended."""
        name = f"alphard-{uuid.uuid4().hex[:12]}"
        told = _threads(self.threads) | dict(environment)
        flags = [*self.flags, *(f"--env={key}={value}" for key, value in told.items())]
        process = _popen([self.engine, "run", "--rm", f"--name={name}", *flags, self.image, *arguments], log)
        return _Contained(process, self.engine, name)


def place_for(
    image: str | None,
    root: Path,
    mounts: Sequence[Path] = (),
    data: Mapping[str, Path] | None = None,
    threads: int | None = None,
    host: bool = False,
) -> Place:
    """Containers of `image` where docker or podman is here and has it, else processes of this machine."""
    if image is None:
        return Direct(root, threads)
    engines = [engine for engine in ENGINES if shutil.which(engine)]
    for engine in engines:
        if _call(engine, "image", "inspect", image):
            return Container(engine, image, mounts, data, threads, host)
    place = Direct(root, threads)
    lacking = f"{' and '.join(engines)} here {'have' if len(engines) > 1 else 'has'} no image {image}"
    place.says += f" ({lacking if engines else 'neither docker nor podman is here'})"
    return place


class _Process:
    """A process and those of its group."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def wait(self) -> int:
        return self.process.wait()

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says so of a group that is gone
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class _Contained(_Process):
    """A container, and the client that shows what it says."""

    def __init__(self, process: subprocess.Popen[bytes], engine: str, name: str) -> None:
        super().__init__(process)
        self.engine, self.name = engine, name

    def terminate(self) -> None:
        if not _call(self.engine, "kill", "--signal=TERM", self.name):
            self.process.terminate()  # it is only being made

    def kill(self) -> None:
        super().kill()
        _call(self.engine, "rm", "--force", self.name)


def _popen(
    command: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  the command is ours
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def _call(*command: str) -> bool:
    done = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL)  # noqa: S603
    return done.returncode == 0


def _threads(count: int | None) -> dict[str, str]:
    return {} if count is None else dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count))
