"""What a job on Vertex AI may be told: configs/job.yaml, the user's local.yaml beside it, and key=value."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from alphard import literals, schema
from alphard.errors import UserError
from alphard.refusals import Refusals, first_line
from alphard.types import Count, Positive

CONFIGS = Path("vertex_ai/configs")  # in the project's folder
WORD = re.compile(r"\+{0,2}([a-z_]+)(\.[^=]*)?=(.*)", re.DOTALL)
SERVICE = r"AIP_|CLOUD_ML_|CLUSTER_SPEC$"  # variables that the service sets
RESERVED = re.compile(rf"{SERVICE}|ALPHARD_SEALED$|SM_")  # and those that the image sets, or takes for a sign


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job's settings; configs/job.yaml says what each means.

    disk: GB.  timeout: hours of each trial.  price_per_hour: of one machine, in any currency.
    """

    project: str | None = None
    region: str | None = None
    image: str | None = None
    base: str | None = None
    staging: str | None = None
    name: str | None = None
    machine_type: str = "n1-standard-4"
    accelerator: str | None = None
    accelerator_count: Count = 1
    disk: Count = 100
    replicas: Count = 1
    spot: bool = False
    timeout: Positive = 6
    restart: bool = True
    price_per_hour: Positive | None = None
    service_account: str | None = None
    network: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    tensorboard: str | None = None
    endpoint: str | None = None
    dry_run: bool = False
    wait: bool = False


FIELDS = {one.name: one.type for one in dataclasses.fields(Job)}
TEXTS = {name for name, kind in FIELDS.items() if kind in (str, str | None)}
MAPS = {name for name, kind in FIELDS.items() if kind == dict[str, str]}


def read(words: Sequence[str], needed: Sequence[str] = ()) -> tuple[Job, list[str]]:
    """The settings that the words of a command line give, and the other words, which are the training's overrides.

    needed: what has to be given.

    Raises UserError with all that is missing and all that is wrong.
    """
    ours = [_override(match[1], match[2] or "", match[3]) for match in map(_ours, words) if match]
    node = _node(ours)
    job = schema.read(Job, {name: _text(name, value) for name, value in node.items()}, "", "a job")
    if job.base is None and job.staging is not None:
        job = dataclasses.replace(job, base=f"{job.staging.rstrip('/')}/alphard")
    if problems := [*_problems(job), *_missing(job, needed)]:
        raise UserError(*problems)
    return job, others(words)


def given(words: Sequence[str]) -> list[str]:
    """The settings of the job that the words give."""
    return [match[1] for match in map(_ours, words) if match]


def others(words: Sequence[str]) -> list[str]:
    """The words that say nothing of the job."""
    return [word for word in words if not _ours(word)]


def _ours(word: str) -> re.Match[str] | None:
    match = WORD.fullmatch(word)
    return match if match and match[1] in FIELDS and (match[2] is None or match[1] in MAPS) else None


def _node(ours: Sequence[str]) -> dict[str, Any]:
    """job.yaml, local.yaml over it, and `ours` over both, resolved."""
    if not (CONFIGS / "job.yaml").is_file():
        raise UserError(f"{CONFIGS}/job.yaml: not in {Path.cwd()}; call alphard in the project's folder")
    at = ""
    try:
        config = OmegaConf.create()
        for path in (CONFIGS / "job.yaml", CONFIGS / "local.yaml"):
            at = str(path)
            config = OmegaConf.merge(config, OmegaConf.load(path)) if path.is_file() else config  # type: ignore[assignment]
        for word in ours:
            at = word
            override = OverridesParser.create().parse_override(word)
            if override.is_sweep_override():
                raise UserError(f"{word}: a job has one value; give one")
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
        at = str(CONFIGS)
        node: Any = OmegaConf.to_container(config, resolve=True)
    except (*Refusals, TypeError) as refusal:  # OmegaConf's, of a list where keys are meant
        said = first_line(refusal)
        raise UserError(said if said.startswith(at) else f"{at}: {said}") from None
    return dict(node)


def _override(name: str, inner: str, value: str) -> str:
    """A word as Hydra takes it: text is text, whatever it looks like, unless it is quoted, null or a reference."""
    if (name in TEXTS or inner) and not re.match(r"['\"]|\$\{|null$", value):
        value = literals.write(value)
    return f"{name}{inner}={value}"


def _text(name: str, value: Any) -> Any:
    """YAML's 123 is text where a project's number or a label is meant."""
    if name in MAPS and isinstance(value, Mapping):
        return {str(key): _word(inner) for key, inner in value.items()}
    return _word(value) if name in TEXTS and value is not None else value


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _missing(job: Job, needed: Sequence[str]) -> Iterator[str]:
    said = {
        "project": "the Google Cloud project, as in my-project",
        "region": "as in europe-west4",
        "image": "the container, as in europe-west4-docker.pkg.dev/my-project/my-repository/alphard:0.1.0",
        "base": "a folder for what the trials leave, as in gs://my-bucket/alphard; staging=gs://my-bucket would do",
    }
    for name in needed:
        if getattr(job, name) is None:
            yield f"{name}: is missing; give {name}=…, or put it into {CONFIGS}/local.yaml: {said[name]}"


def _problems(job: Job) -> Iterator[str]:
    for name in ("base", "staging"):
        place = getattr(job, name)
        if place is not None and not re.fullmatch(r"gs://[a-z0-9][\w.-]*(/.*)?", place):
            yield f"{name}: {place}: Vertex AI writes to Cloud Storage; give gs://BUCKET/FOLDER"
    if job.region is not None and not re.fullmatch(r"[a-z]+(-[a-z]+)+\d+", job.region):
        yield f"region: {job.region}: give one region, as in europe-west4"
    if job.endpoint is not None and not re.fullmatch(r"https?://[^/]+/?", job.endpoint):
        yield f"endpoint: {job.endpoint}: give an address, as in http://127.0.0.1:8080"
    if job.tensorboard is not None and job.service_account is None:
        yield f"tensorboard: {job.tensorboard}: needs service_account=…, which uploads the events"
    for key, value in job.labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            yield f"labels.{key}: {value}: labels are of small letters, digits, _ and -, at most 63"
    if job.timeout * 3600 < 60:
        yield f"timeout: {job.timeout:g}: is in hours, and less than a minute; give 0.02 or more"
    for key in job.environment:
        if not re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII):
            yield f"environment.{key}: is no variable's name; give letters, digits and _"
        elif RESERVED.match(key):
            yield f"environment.{key}: is set by Vertex AI or by the image; leave it out"
