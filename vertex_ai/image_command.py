"""`alphard image`: the container's image, built and pushed under the git revision that is in it."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alphard import schema
from alphard.check import nearest
from alphard.errors import TrainingError, UserError
from vertex_ai import settings
from vertex_ai.revision import Revision, revision_of

ENGINES = ("docker", "podman")
CLOUD_BUILD = "vertex_ai/configs/cloudbuild.yaml"
NAME = re.compile(r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*")
REGISTRY = "give image=REGION-docker.pkg.dev/PROJECT/REPOSITORY/alphard"
TEXTS = {"extras"}  # which YAML's eyes are kept from


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is built, and by whom.

    engine: None is docker where it is on PATH, else podman, else Cloud Build's command.
    dirty:  take a tree that differs from its revision.
    cuda:   torch for GPUs.
    extras: of pyproject.toml, separated by commas.
    """

    engine: Literal["docker", "podman", "cloud"] | None = None
    dirty: bool = False
    cuda: bool = False
    extras: str = ""


@dataclass(frozen=True)
class Image:
    """An image to build or push: its name with the tag, its build arguments, and the job's settings."""

    tagged: str
    arguments: dict[str, str]
    job: settings.Job


def main(arguments: Sequence[str]) -> int:
    """Build the image, or push the one that was built: `build|push key=value…`."""
    what, *words = arguments or [""]
    if what not in ("build", "push"):
        said = f"alphard image: {what or 'no argument'}: give build or push{nearest(what, ('build', 'push'))}"
        raise UserError(f"{said}, as in alphard image build")
    job, options = _read(words)
    engine: str = options.engine or next((each for each in ENGINES if shutil.which(each)), "cloud")
    if engine != "cloud" and not shutil.which(engine):
        raise UserError(f"engine: {engine}: is not on PATH; {_others(engine)}")
    revision = revision_of(Path.cwd())
    if what == "build" or engine == "cloud":
        revision.must_be_clean(options.dirty)
    image = _image(job, options, revision)
    if engine == "cloud":
        _print_cloud_build(image, options)
    elif what == "build":
        _build(engine, image)
    else:
        _push(engine, image, revision, options)
    return 0


def _read(words: Sequence[str]) -> tuple[settings.Job, Options]:
    """The job's settings and ours; UserError for a word that is neither's, and outside a project."""
    job, rest = settings.read(words)
    node: dict[str, Any] = {}
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: is no setting; write key=value, as in dirty=true")
        node[name] = {"true": True, "false": False, "null": None}.get(value, value) if name not in TEXTS else value
    options = schema.read(Options, node, "", "alphard image")
    if not Path("Dockerfile").is_file():
        raise UserError(f"Dockerfile: not in {Path.cwd()}; call alphard in the project's folder")
    known = _project().get("optional-dependencies", {})
    for name in filter(None, options.extras.split(",")):
        if name not in known:
            raise UserError(f"extras: {name}: pyproject.toml has none of this name{nearest(name, known)}")
    return job, options


def _image(job: settings.Job, options: Options, revision: Revision) -> Image:
    """The image's whole name and build arguments; a tag in `image` gives way to the revision's."""
    given = job.image or "alphard"
    name = re.sub(r"(:[^/:@]*)?(@[^/]*)?$", "", given)
    if not NAME.fullmatch(name):
        raise UserError(f"image: {given}: is no image's name, which has small letters, digits, . _ - and /; {REGISTRY}")
    tagged = f"{name}:{revision.tag}{'-cuda' * options.cuda}{'-dirty' * (revision.unclean and options.dirty)}"
    if given not in (name, tagged):
        print(f"image: the tag of {given} gives way to the revision's", file=sys.stderr)
    told = {"VERSION": str(_project()["version"]), "REVISION": revision.whole + "-dirty" * bool(revision.changed)}
    if options.extras:
        told["EXTRAS"] = options.extras
    if options.cuda:
        told |= {"TORCH": _default("TORCH").partition("+")[0], "TORCH_INDEX": ""}
    return Image(tagged, told, job)


def _build(engine: str, image: Image) -> None:
    command = [engine, "build", "--tag", image.tagged]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        command.append("--platform=linux/amd64")  # as the cloud's machines are
    for name, value in image.arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    _call([*command, "."], _others(engine))
    print(f"image: {image.tagged}")
    print("  next: alphard image push sends it to its registry; alphard rehearse image=… runs a job in it here")


def _push(engine: str, image: Image, revision: Revision, options: Options) -> None:
    name, registry = image.tagged, image.tagged.partition("/")[0]
    if "/" not in name or not re.search(r"[.:]", registry):
        raise UserError(f"image: {name}: names no registry; {REGISTRY}, and build it under that name")
    _must_be_built(engine, name, revision, options)
    login = f"gcloud auth configure-docker {registry} lets {engine} in" if registry.endswith(".pkg.dev") else ""
    _call([engine, "push", name], login or f"{engine} login {registry} lets you in")
    print(f"pushed; in {settings.CONFIGS}/local.yaml jobs find it by\n  image: {name}")


def _must_be_built(engine: str, name: str, revision: Revision, options: Options) -> None:
    looked = subprocess.run(  # noqa: S603  the engine that PATH names
        [engine, "image", "inspect", name], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if looked.returncode == 0:
        return
    said = looked.stderr.strip().split("\n")[-1]
    if not re.search("no such|not known|not found", said, re.IGNORECASE):
        raise TrainingError(f"engine: {engine} image inspect: {said or f'status {looked.returncode}'}; start {engine}")
    if revision.changed and not options.dirty:
        aside = f"; the tree differs from its revision, and what was built of it with dirty=true is {name}-dirty"
    else:
        aside = ""
    raise UserError(f"image: {name}: is not built here; alphard image build comes first, with the same settings{aside}")


def _print_cloud_build(image: Image, options: Options) -> None:
    """The command for Google's builder, which pushes what it builds; nobody is contacted."""
    if "/" not in image.tagged:
        raise UserError(f"image: {image.tagged}: names no registry; {REGISTRY}")
    torch = {name: _default(name) for name in ("TORCH", "TORCH_INDEX")}
    told = {"IMAGE": image.tagged, "EXTRAS": ""} | torch | image.arguments
    # Another separator than the comma, which EXTRAS has.
    given = "^|^" + "|".join(f"_{name}={value}" for name, value in told.items())
    command = ["gcloud", "builds", "submit", f"--config={CLOUD_BUILD}", f"--substitutions={given}"]
    job = image.job
    command += [f"--project={job.project}"] if job.project else []
    command += [f"--region={job.region}"] if job.region else []
    if job.staging:
        command.append(f"--gcs-source-staging-dir={job.staging.rstrip('/')}/source")
    why = "as asked" if options.engine else "neither docker nor podman is on PATH"
    print(f"# {why}: Cloud Build builds and pushes it, by {CLOUD_BUILD}; nothing has been sent")
    print(shlex.join([*command, "."]))
    print(f"# then, in {settings.CONFIGS}/local.yaml:  image: {image.tagged}")


def _call(command: list[str], remedy: str) -> None:
    """Run an engine, its output for all to see; TrainingError where it fails."""
    print(f"$ {shlex.join(command)}", flush=True)
    told = os.environ | {"DOCKER_BUILDKIT": "1"}  # before 23, docker has to be asked
    done = subprocess.run(command, env=told, stdin=subprocess.DEVNULL, check=False)  # noqa: S603  as printed
    if done.returncode:
        what = " ".join(command[:2])
        raise TrainingError(f"image: {what} ended with status {done.returncode}, for the reason above; {remedy}")


def _others(engine: str) -> str:
    other = next((each for each in ENGINES if each != engine and shutil.which(each)), None)
    return (f"engine={other} takes {other}, " if other else "") + "engine=cloud prints the command for Cloud Build"


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return project


def _default(argument: str) -> str:
    """What the Dockerfile says of a build argument."""
    found = re.search(rf"^ARG {argument}=(.*)$", Path("Dockerfile").read_text(), re.MULTILINE)
    if found is None:
        raise UserError(f"Dockerfile: has no `ARG {argument}=…`, which alphard image needs")
    return found[1]
