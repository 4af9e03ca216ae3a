"""`alphard image build|push`: what the engine is asked, from real git checkouts; and once, by a real engine."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alphard.cli import main
from tests.conftest import ROOT, copied

REGISTRY = "europe-west4-docker.pkg.dev"
NAME = f"{REGISTRY}/my-project/images/alphard"
# An engine that writes down what it is asked, knows the images that it has built, and fails where it is told to.
ENGINE = """#!{python}
import json, os, sys
folder, name = {folder!r}, os.path.basename(sys.argv[0])
with open(folder + "/asked", "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if os.path.exists(folder + "/fails"):
    sys.exit("Cannot connect to the daemon")
if sys.argv[1] == "build":
    print("STEP 1: FROM python")
    with open(folder + "/built", "a") as file:
        file.write(sys.argv[sys.argv.index("--tag") + 1] + "\\n")
if sys.argv[1] == "image" and sys.argv[3] not in open(folder + "/built").read().split():
    sys.exit("Error: No such image: " + sys.argv[3])
"""


class Machine:
    """A folder with git and some engines on its PATH, and what the engines were asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        git = shutil.which("git")
        assert git is not None
        (folder / "bin").mkdir()
        (folder / "bin/git").symlink_to(git)
        (folder / "built").touch()
        monkeypatch.setenv("PATH", str(folder / "bin"))
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def has(self, *engines: str) -> None:
        for engine in engines:
            path = self.folder / "bin" / engine
            path.write_text(ENGINE.format(python=sys.executable, folder=str(self.folder)))
            path.chmod(0o755)

    def asked(self) -> list[list[str]]:
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def project(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What an image is made of, as far as `alphard image` reads it, committed; the working folder."""
    folder = tmp_path / "project"
    (folder / "vertex_ai/configs").mkdir(parents=True)
    for name in ("Dockerfile", "pyproject.toml", ".gitignore", "vertex_ai/configs/job.yaml"):
        shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "core.hooksPath=/dev/null")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=state")
    return git(folder, "rev-parse", "HEAD")


def image(*words: str) -> int:
    return main(["image", *words])


def arguments_of(command: list[str]) -> dict[str, str]:
    """The build arguments among a command's words."""
    given = [command[at + 1] for at, word in enumerate(command) if word == "--build-arg"]
    return dict(word.split("=", 1) for word in given)


def refused(capfd: pytest.CaptureFixture[str], *words: str, status: int = 2) -> str:
    """The one error that these words end in."""
    assert image(*words) == status
    said = capfd.readouterr().err
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    return said


def test_an_image_is_built_under_its_revision_and_pushed(
    project: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.has("docker", "podman")
    revision = git(project, "rev-parse", "HEAD")
    tagged = f"{NAME}:{revision[:12]}"
    assert image("build", f"image={NAME}:0.1.0") == 0
    said = capfd.readouterr()
    assert f"image: the tag of {NAME}:0.1.0 gives way to the revision's" in said.err
    assert "STEP 1: FROM python" in said.out  # the engine's own words
    assert f"image: {tagged}\n" in said.out
    (built,) = machine.asked()
    assert built[:4] == ["docker", "build", "--tag", tagged]
    assert arguments_of(built) == {"VERSION": "0.1.0", "REVISION": revision}
    assert built[-1] == "."
    assert image("push", f"image={NAME}") == 0
    assert machine.asked()[-1] == ["docker", "push", tagged]
    said = capfd.readouterr()
    assert said.err == ""
    assert yaml.safe_load(said.out.splitlines()[-1]) == {"image": tagged}
    assert "vertex_ai/configs/local.yaml" in said.out


def test_podman_serves_where_docker_is_not_and_either_can_be_asked_for(project: Path, machine: Machine) -> None:
    machine.has("podman")
    assert image("build") == 0
    machine.has("docker")
    assert image("build", "engine=podman") == 0
    assert [command[0] for command in machine.asked()] == ["podman", "podman"]
    assert machine.asked()[0][3] == f"alphard:{git(project, 'rev-parse', 'HEAD')[:12]}"


def test_the_name_stands_in_local_yaml_and_has_a_port_or_a_digest(project: Path, machine: Machine) -> None:
    machine.has("docker")
    tag = git(project, "rev-parse", "HEAD")[:12]
    for given in (
        "localhost:5000/a/alphard",
        "localhost:5000/a/alphard:1",
        f"localhost:5000/a/alphard@sha256:{'0' * 64}",
    ):
        (project / "vertex_ai/configs/local.yaml").write_text(f"image: {given}\n")  # which git ignores
        assert image("build") == 0
    assert {command[3] for command in machine.asked()} == {f"localhost:5000/a/alphard:{tag}"}


def test_cuda_and_extras_are_build_arguments(project: Path, machine: Machine) -> None:
    machine.has("docker")
    assert image("build", "cuda=true", "extras=tensorboard,mlflow") == 0
    (built,) = machine.asked()
    assert built[3].endswith("-cuda")
    told = arguments_of(built)
    assert (told["EXTRAS"], told["TORCH_INDEX"]) == ("tensorboard,mlflow", "")
    assert f"\nARG TORCH={told['TORCH']}+cpu\n" in (project / "Dockerfile").read_text()


def test_a_tree_that_differs_from_its_revision_is_refused_unless_told(
    project: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.has("docker")
    revision = git(project, "rev-parse", "HEAD")
    (project / "Dockerfile").write_text((project / "Dockerfile").read_text() + "\n# mine\n")
    for number in range(7):
        (project / f"new {number}.py").touch()
    said = refused(capfd, "build")
    assert f"the tree is not what revision {revision[:12]} says (M Dockerfile, ?? new 0.py," in said
    assert "and 3 more); commit them, or say dirty=true" in said
    assert not machine.asked()
    assert image("build", "dirty=true") == 0
    (built,) = machine.asked()
    assert built[3] == f"alphard:{revision[:12]}-dirty"
    assert arguments_of(built)["REVISION"] == f"{revision}-dirty"
    after = commit(project)
    assert image("build", "dirty=true") == 0  # nothing is dirty any more
    assert machine.asked()[-1][3] == f"alphard:{after[:12]}"


def test_what_git_ignores_makes_no_tree_unclean(project: Path, machine: Machine) -> None:
    machine.has("docker")
    (project / "outputs").mkdir()
    (project / "outputs/model.pt").touch()
    (project / "vertex_ai/configs/local.yaml").write_text("project: mine\n")
    assert image("build") == 0


def test_a_push_wants_an_image_that_was_built(
    project: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.has("docker")
    tag = git(project, "rev-parse", "HEAD")[:12]
    assert f"image: {NAME}:{tag}: is not built here; alphard image build comes first" in refused(
        capfd, "push", f"image={NAME}"
    )
    (project / "new.py").touch()
    assert image("build", "dirty=true", f"image={NAME}") == 0
    assert f"what was built of it with dirty=true is {NAME}:{tag}-dirty" in refused(capfd, "push", f"image={NAME}")
    assert image("push", "dirty=true", f"image={NAME}") == 0
    assert machine.asked()[-1] == ["docker", "push", f"{NAME}:{tag}-dirty"]
    assert "names no registry; give image=REGION-docker.pkg.dev/" in refused(capfd, "push")


def test_an_engine_that_fails_is_one_error(project: Path, machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.has("docker", "podman")
    assert image("build", f"image={NAME}") == 0
    (machine.folder / "fails").touch()
    capfd.readouterr()
    said = refused(capfd, "build", status=1)
    assert said.startswith("Cannot connect to the daemon\nerror: image: docker build ended with status 1")
    assert "engine=podman takes podman, engine=cloud prints" in said
    said = refused(capfd, "push", f"image={NAME}", status=1)
    assert "engine: docker image inspect: Cannot connect to the daemon; start docker" in said


def test_without_an_engine_the_command_for_cloud_build_is_printed(
    project: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    revision = git(project, "rev-parse", "HEAD")
    words = (f"image={NAME}", "project=my-project", "region=europe-west4", "staging=gs://my-bucket/a folder")
    assert image("build", *words, "extras=tensorboard,mlflow") == 0
    said = capfd.readouterr()
    why, line, then = said.out.splitlines()
    assert why.startswith("# neither docker nor podman is on PATH: Cloud Build builds and pushes it")
    assert f"image: {NAME}:{revision[:12]}" in then
    command = shlex.split(line)
    assert command[:3] == ["gcloud", "builds", "submit"]
    assert {
        "--project=my-project",
        "--region=europe-west4",
        "--gcs-source-staging-dir=gs://my-bucket/a folder/source",
    } <= {*command}
    assert command[-1] == "."
    given = next(word for word in command if word.startswith("--substitutions=")).partition("=")[2]
    assert given.startswith("^|^")
    values = dict(word.split("=", 1) for word in given.removeprefix("^|^").split("|"))
    assert values["_IMAGE"] == f"{NAME}:{revision[:12]}"
    assert (values["_EXTRAS"], values["_REVISION"]) == ("tensorboard,mlflow", revision)
    assert values["_TORCH"].endswith("+cpu")
    config = yaml.safe_load(
        (ROOT / next(w for w in command if w.startswith("--config=")).partition("=")[2]).read_text()
    )
    used = {word for word in values if f"${{{word}}}" in str(config)}
    assert used == {*values}  # Cloud Build refuses those that its file does not name
    (step,) = config["steps"]
    declared = [
        line.split()[1].partition("=")[0]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line[:4] == "ARG "
    ]
    told = [word.removeprefix("--build-arg=").partition("=")[0] for word in step["args"] if "build-arg" in word]
    assert {*told} <= {*declared}
    assert image("push", *words, "engine=cloud", "cuda=true") == 0
    assert "# as asked: Cloud Build builds and pushes it" in (out := capfd.readouterr().out)
    assert "|_TORCH_INDEX=|" in out
    assert "names no registry" in refused(capfd, "build")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "alphard image: no argument: give build or push, as in alphard image build"),
        (["biuld"], "alphard image: biuld: give build or push; did you mean `build`?"),
        (["build", "dirty"], "dirty: is no setting; write key=value, as in dirty=true"),
        (["build", "dirty=perhaps"], "dirty: 'perhaps': should be a valid boolean"),
        (["build", "engin=docker"], "engin: alphard image has no such setting; did you mean `engine`?"),
        (["build", "engine=moby"], "engine: 'moby': should be 'docker', 'podman' or 'cloud'"),
        (["build", "engine=podman"], "engine: podman: is not on PATH; engine=docker takes docker, engine=cloud prints"),
        (["build", "extras=tensorbord"], "extras: tensorbord: pyproject.toml has none of this name; did you mean `tensorboard`?"),
        (["build", "image=My Image"], "image: My Image: is no image's name"),
        (["build", "region=here"], "region: here: give one region, as in europe-west4"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_an_engine_is_asked(
    words: list[str], said: str, project: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.has("docker")
    assert said in refused(capfd, *words)
    assert not machine.asked()


def test_a_folder_that_is_no_checkout_is_told_the_remedy(
    project: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.has("docker")
    shutil.rmtree(project / ".git")
    said = refused(capfd, "build")
    assert f"git: {project} has no revision to tag an image with (not a git repository" in said
    assert "git init && git add --all && git commit makes it one" in said
    git(project, "init", "--quiet")
    assert "has no revision to tag an image with (Needed a single revision)" in refused(capfd, "build")
    (machine.folder / "bin/git").unlink()
    assert "git: is not on PATH; install it" in refused(capfd, "build")
    (project / "Dockerfile").unlink()
    assert f"Dockerfile: not in {project}; call alphard in the project's folder" in refused(capfd, "build")


WRAPPER = """#!{python}
import os, sys
words = sys.argv[1:]
at = 1 if words[0] == "build" else len(words)
os.environ.update({env!r})
os.execv({engine!r}, [{engine!r}, *words[:at], *({lent!r} if at == 1 else []), *words[at:]])
"""


@pytest.mark.more
@pytest.mark.timeout(1500)
def test_a_real_engine_builds_an_image_that_tells_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("container_engine", ROOT / "tests/container/engine.py")
    assert spec is not None
    assert spec.loader is not None
    engines: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, engines)
    spec.loader.exec_module(engines)
    engine = engines.find()
    files = (path.name for path in ROOT.iterdir() if path.is_file() and path.name != ".git")
    project = copied(tmp_path / "project", "configs", "src", "vertex_ai", *files)
    git(project, "init", "--quiet")
    revision = commit(project)
    tagged = f"localhost/alphard:{revision[:12]}"
    real = shutil.which(engine.command)
    with engines.pip_lent() as lent:
        # What this machine's engine has to be told besides, as tests/container tells it.
        besides = [*lent, "--build-arg", f"BASE_IMAGE={engine.base}"]
        besides += ["--pull=never"] if engine.base == engines.OWN_BASE else []
        besides += ["--network=host"] if engine.own and "--network=host" not in lent else []
        besides += ["--layers"] if engine.command == "podman" else []
        (tmp_path / "bin").mkdir()
        wrapper = tmp_path / "bin" / engine.command
        wrapper.write_text(WRAPPER.format(python=sys.executable, env=engine.env, engine=real, lent=besides))
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        monkeypatch.chdir(project)
        assert image("build", f"engine={engine.command}", "image=localhost/alphard") == 0, capfd.readouterr()
    try:
        labels = engine.inspect(tagged)["Config"]["Labels"]
        assert labels["org.opencontainers.image.revision"] == revision
        assert labels["org.opencontainers.image.version"] == "0.1.0"
        done = engine.run("epochs=1", "threads=1", image=tagged)
        assert done.returncode == 0, done.stderr
        assert "validation_accuracy: " in done.stdout.splitlines()[-1]
    finally:
        engine("rmi", "--force", tagged)
