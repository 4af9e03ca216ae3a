"""Build the Dockerfile and run the image with the engine that this machine has, or can be given.

    python tests/container/engine.py build [ARG...]   ARGs go to `docker build` or `podman build`
    python tests/container/engine.py run [ARG...]     the image's arguments; no network; its exit status is ours
    python tests/container/engine.py clean            forget the image, and all that this script has set up

Docker or podman serve as they are where they can get the base image.  Where neither can, root on Debian gets podman
from Debian's packages, with settings and storage of its own, and a base image made of Debian's packages as well.
What pip is told on this machine (index, wheels in a folder, certificate) is lent to the build, and stays in no layer.
"""

import ast
import contextlib
import fcntl
import functools
import http.server
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphard-container"
IMAGE = "localhost/alphard:test"
BASE = "python:3.11-slim"  # as in the Dockerfile
OWN_BASE = "localhost/alphard-base:latest"  # never under BASE's name: it is not that image
PACKAGES = {"podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap"}  # command: Debian package

# Where packages come from and how to get there.  Not where they go: PIP_TARGET and its like speak of this machine.
LENT = {
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "proxy", "timeout",
    "default-timeout", "retries", "prefer-binary", "only-binary", "no-binary",
}  # fmt: skip


class EngineError(Exception):
    """Nothing here can run a container; one line says what is missing."""


@dataclass(frozen=True)
class Engine:
    """`docker` or `podman`.  base: the image that FROM names.  own: set up by this script, under STATE."""

    command: str
    base: str
    own: bool = False
    env: dict[str, str] = field(default_factory=dict)

    def __call__(self, *args: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run one engine command; its output is captured, and its status is the caller's to look at."""
        options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL} | options
        return subprocess.run([self.command, *args], env=os.environ | self.env, check=False, **options)

    def build(self, *args: str, context: Path = ROOT, image: str = IMAGE) -> str:
        """Build `context` as `image`; return what the engine said.  RuntimeError with its last lines if it failed."""
        before = self("image", "inspect", "--format={{.Id}}", image).stdout.strip()
        with _locked("build"), pip_lent() as lent:
            command = ["build", *lent, "--build-arg", f"BASE_IMAGE={self.base}", "--tag", image]
            if self.command == "podman":
                command.append("--layers")
            if self.base == OWN_BASE:
                command.append("--pull=never")
            if self.own and "--network=host" not in lent:  # our podman comes without a bridge
                command.append("--network=host")
            command += [*_labels(context), *args, str(context)]
            done = self(*command, capture_output=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise RuntimeError(f"{self.command} build failed:\n" + "\n".join(done.stdout.splitlines()[-40:]))
        if before and before != self("image", "inspect", "--format={{.Id}}", image).stdout.strip():
            self("rmi", before)  # nobody calls it by a name any more
        return done.stdout

    def run(self, *args: str, flags: tuple[str, ...] = (), image: str = IMAGE, **options: Any) -> Any:
        """Run the image with these arguments: no network, no new privileges, removed at its end."""
        command = ["run", "--rm", "--network=none", "--security-opt=no-new-privileges", *flags, image, *args]
        return self(*command, **options)

    def inspect(self, image: str = IMAGE) -> Any:
        """The engine's description of an image, as JSON says it."""
        return json.loads(self("image", "inspect", image).stdout)[0]


def find() -> Engine:
    """An engine that works here, with a base image at hand.  EngineError says in one line why there is none."""
    with _locked("setup"):
        own = _own_engine()
        if shutil.which("podman") and STATE.joinpath("containers.conf").exists() and _has(own, OWN_BASE):
            _write_settings()  # limits are this process's, not those of the day it was set up
            return own
        problems = []
        for command in ("docker", "podman"):
            engine = Engine(command, BASE)
            problem = _problem(engine)
            if problem is None:
                return engine
            problems.append(problem)
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise EngineError(
                f"no container engine: {'; '.join(problems)}.  Start one that can pull {BASE}, or run this as root on "
                "Debian, where it sets one up"
            )
        _install()
        _write_settings()
        if not _has(own, OWN_BASE):
            _make_base(own)
        problem = _problem(own)
        if problem:
            raise EngineError(f"podman was set up, and still does not run: {problem}")
        return own


def clean() -> None:
    """Remove the image, and where this script set an engine up, its storage with everything in it."""
    if not STATE.exists():
        for command in filter(shutil.which, ("docker", "podman")):
            Engine(command, BASE)("rmi", "--force", IMAGE)
        return
    own = _own_engine()
    own("rm", "--all", "--force")
    own("rmi", "--all", "--force")
    # podman mounts its store on itself
    subprocess.run(["umount", str(STATE / "graph/overlay")], check=False, capture_output=True)
    shutil.rmtree(STATE)


# ---- What is here ----


def _problem(engine: Engine) -> str | None:
    """Why this engine cannot serve, or None: it answers, has its base image, and runs it."""
    if not shutil.which(engine.command):
        return f"{engine.command} is not installed"
    steps = [["info"], ["run", "--rm", "--network=none", engine.base, "true"]]
    if not _has(engine, engine.base):
        steps.insert(1, ["pull", engine.base])
    for step in steps:
        done = engine(*step)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["no reason given"]
            return f"{engine.command} {step[0]}: {said[-1]}"
    return None


def _has(engine: Engine, image: str) -> bool:
    return engine("image", "inspect", image).returncode == 0


# ---- What root on Debian is given ----


def _own_engine() -> Engine:
    env = {"CONTAINERS_CONF": str(STATE / "containers.conf"), "CONTAINERS_STORAGE_CONF": str(STATE / "storage.conf")}
    return Engine("podman", OWN_BASE, own=True, env=env)


def _install() -> None:
    missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    if not missing:
        return
    print(f"installing {' '.join(missing)} from Debian's packages", file=sys.stderr)
    debian(*missing)


def debian(*packages: str) -> None:
    """Install Debian's packages, as root; EngineError with apt's last words.  Tests that need other programs call it.

    One process at a time: apt waits for no other at all steps, and test workers come at once.
    """
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600"]
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _locked("packages"):
        for step in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run([*command, *step], env=env, check=False, capture_output=True, text=True)
            if done.returncode:
                raise EngineError(f"apt-get {step[0]} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def _write_settings() -> None:
    """Settings of our own, so that nothing outside STATE changes.

    runc, for the crun of Debian 12 refuses cgroup trees of both versions; cgroupfs, for there may be no systemd; and
    the limits of this process, for podman asks for more, which root without CAP_SYS_RESOURCE may not have.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    limits = []
    most = {"nofile": 1 << 20, "nproc": int(Path("/proc/sys/kernel/pid_max").read_text())}
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(kind)[1]
        value = most[name] if hard == resource.RLIM_INFINITY else min(hard, most[name])
        limits.append(f"{name}={value}:{value}")
    STATE.joinpath("containers.conf").write_text(
        f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n"
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
    )
    STATE.joinpath("storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{STATE}/graph"\nrunroot = "{STATE}/run"\n'
    )


def _make_base(engine: Engine) -> None:
    """A stand-in for python:3.11-slim: this Debian's smallest system and its Python."""
    print("making a base image from Debian's packages, once; about a minute", file=sys.stderr)
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    listed = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    sources = next((path for path in listed if path.exists()), None)
    if sources is None:
        raise EngineError(f"no base image: neither {listed[0]} nor {listed[1]} says where this Debian's packages are")
    tar = STATE / "base.tar"
    made = subprocess.run(
        [
            "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--aptopt=APT::Install-Recommends false",
            "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            # usr-is-merged, with its hook: the other way, usrmerge, leaves Perl and 50 MB in the image
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--include=usr-is-merged,ca-certificates,python3,python3-venv",
            '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*',
            release["VERSION_CODENAME"], str(tar), str(sources),
        ],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        raise EngineError(f"no base image: {(made.stderr.strip().splitlines() or ['mmdebstrap failed'])[-1]}")
    path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    imported = engine("import", "--quiet", "--change", path, "--change", "ENV LANG=C.UTF-8", str(tar), engine.base)
    tar.unlink()
    if imported.returncode:
        raise EngineError(f"no base image: {imported.stderr.strip().splitlines()[-1]}")


# ---- What the build is told ----


def _labels(context: Path) -> list[str]:
    version = tomllib.loads(context.joinpath("pyproject.toml").read_text())["project"]["version"]
    described = subprocess.run(
        ["git", "-C", str(context), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return ["--build-arg", f"VERSION={version}", "--build-arg", f"REVISION={described.stdout.strip() or 'unknown'}"]


def pip_settings() -> dict[str, str]:
    """What pip is told on this machine, by files and by PIP_ variables, as far as a build may borrow it."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=False, capture_output=True, text=True)
    merged: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):  # the later wins, as in pip
        for line in listed.stdout.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section) and (key := name.removeprefix(section)) in LENT:
                merged[key] = ast.literal_eval(value)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if os.environ.get(name):
            merged.setdefault("cert", os.environ[name])
    return merged


@contextlib.contextmanager
def pip_lent() -> Iterator[list[str]]:
    """Arguments for `build` that lend it pip's settings as secrets; folders of wheels are served on the loopback."""
    settings = pip_settings()
    args: list[str] = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shelf = Shelf()
        stack.callback(shelf.close)
        wheels = [_folder(value) for value in settings.get("find-links", "").split()]
        if any(folder and list(folder.glob("torch-*.whl")) for folder in wheels):
            args += ["--build-arg", "TORCH_INDEX="]  # torch is here: no index to ask
        for key, served in (("find-links", 0), ("index-url", 1), ("extra-index-url", 1)):
            if key in settings:
                # An index of files points to its wheels as ../../files, so the folder above it is served.
                settings[key] = "\n    ".join(shelf.url(value, above=served) for value in settings[key].split())
        if shelf.folders:
            args.append("--network=host")
        cert = Path(settings.get("cert", ""))
        if cert.is_file():
            settings["cert"] = "/run/secrets/ca.pem"
            args.append(f"--secret=id=ca.pem,src={cert}")
        if settings:
            told = scratch / "pip.conf"
            told.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
            args.append(f"--secret=id=pip.conf,src={told}")
        yield args


class Shelf:
    """Folders of this machine, served on the loopback while a build lasts; a build sees no other folder of ours."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.server: http.server.ThreadingHTTPServer | None = None

    def url(self, source: str, above: int = 0) -> str:
        """Where a build finds `source`, a folder or a URL; `above`: how many folders up the served one is."""
        folder = _folder(source)
        if folder is None:
            return source
        if self.server is None:
            self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Served, self.folders))
            threading.Thread(target=self.server.serve_forever, daemon=True).start()
        top = folder.parents[above - 1] if above else folder
        self.folders.append(top)
        rest = folder.relative_to(top).as_posix()
        return f"http://127.0.0.1:{self.server.server_port}/{len(self.folders) - 1}/{rest}/".replace("/./", "/")

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()


class _Served(http.server.SimpleHTTPRequestHandler):
    """`/N/rest` is `rest` in the N-th folder."""

    def __init__(self, folders: list[Path], *args: Any) -> None:
        self.folders = folders
        super().__init__(*args)

    def translate_path(self, path: str) -> str:
        number, _, rest = path.lstrip("/").partition("/")
        known = number.isdecimal() and int(number) < len(self.folders)
        self.directory = str(self.folders[int(number)]) if known else os.devnull
        return super().translate_path("/" + rest)

    def log_message(self, *_: Any) -> None:
        pass


def _folder(source: str) -> Path | None:
    """The folder that a path or a file: URL names, if it is one of this machine's."""
    path = Path(unquote(urlsplit(source).path) if source.startswith("file:") else source)
    return path.resolve() if path.is_dir() else None


@contextlib.contextmanager
def _locked(what: str) -> Iterator[None]:
    """One process at a time: test workers share the engine and the image."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    with STATE.parent.joinpath(f"alphard-container-{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(args: list[str]) -> int:
    """Carry out one command; its exit status."""
    match args:
        case ["build", *rest]:
            print(find().build(*rest))
            return 0
        case ["run", *rest]:
            return int(find().run(*rest, capture_output=False, stdin=None).returncode)
        case ["clean"]:
            clean()
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (EngineError, RuntimeError) as error:
        sys.exit(str(error))
