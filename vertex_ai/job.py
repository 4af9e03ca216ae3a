"""What a command line would submit: the training's config as train.py composes it, and the job around it."""

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alphard import guard
from alphard.compose import Refused, must_be_sound, of_one_run, refused
from alphard.errors import UserError
from alphard.hydra_seam import command_line
from alphard.lookup import here, options
from alphard.multirun import searches
from alphard.search import chosen
from alphard.search.configs import Configs, group_choices
from alphard.search.plan import Plan, checked
from vertex_ai import container, settings, spec, whole_search
from vertex_ai.body import body
from vertex_ai.names import CUSTOM, TUNING
from vertex_ai.settings import Job

NEEDED = ("project", "region", "image", "base")


@dataclass
class Submission:
    """A job, and what it was made of.

    job:         as the REST API takes it.
    kind:        TUNING, whose trials are each a container's; or CUSTOM: one training, or one whole search.
    study:       the name of what is searched or trained.
    plan:        of a search; None for a training.
    config:      what is trained, but for the values of each trial's parameters.
    local_paths: what lies on this machine alone, as `data.path: rows.csv`.
    ignored:     what only spends less, and Vertex AI has no counterpart for.
    """

    job: dict[str, Any]
    kind: str
    settings: Job
    study: str
    plan: Plan | None
    config: DictConfig
    local_paths: list[str]
    ignored: list[str]

    @property
    def tuning(self) -> bool:
        """Whether the service makes the trials."""
        return self.kind == TUNING

    @property
    def trials(self) -> int:
        """How many configs are trained, whoever makes them."""
        if self.tuning:
            return int(self.job["maxTrialCount"])
        return self.plan.settings.total(self.plan.space) if self.plan else 1

    @property
    def spec(self) -> dict[str, Any]:
        """The CustomJobSpec of the job, or of each of its trials."""
        found: dict[str, Any] = self.job["trialJobSpec" if self.tuning else "jobSpec"]
        return found

    @property
    def base(self) -> str:
        """The folder in which the trials' folders lie."""
        return str(self.spec["baseOutputDirectory"]["outputUriPrefix"])


def of_line(words: Sequence[str], needed: Sequence[str] = NEEDED) -> Submission:
    """The job that the `key=value` words of a command line describe, checked whole, nothing contacted.

    Raises UserError with everything that is missing or wrong, in the job's settings and in the training's.
    """
    problems: list[str] = []
    job, rest = Job(), list(words)
    try:
        job, rest = settings.read(words, needed)
    except UserError as error:
        problems += error.problems
        rest = settings.others(words)
    try:
        with _as_there(job):
            made = _of(job, rest, settings.given(words))
    except UserError as error:
        raise UserError(*problems, *error.problems) from None
    if problems:
        raise UserError(*problems)
    return made


def _of(job: Job, rest: list[str], told: Sequence[str]) -> Submission:
    """The job around the training that `rest` says.  told: the job's settings that the line gives."""
    configs = here()
    _must_be_overrides(rest, configs)
    line = command_line(rest)
    line.multirun = searches(line)
    try:
        plan, config, choices, given = _composed(configs, line, rest)
        whole = plan if plan and plan.settings.engine == "packed" else None  # stacked models are one machine's
        if problems := [*_unsuited(job, config, told), *(whole_search.unsuited(job, whole) if whole else [])]:
            raise UserError(*problems)
        if whole:
            said = whole_search.arguments(configs, rest, whole)
        else:
            tuned = {dimension.key for dimension in plan.space if dimension.when is None} if plan else set()
            said = container.arguments(configs, given, config, choices, tuned)
    except Refused as refusal:
        raise refused(configs, line, refusal) from None
    guard.refuse(said, sealed=True)
    names = [str(choices[group]).replace("/", "-") for group in ("experiment", "search") if choices.get(group)]
    study, kind = "-".join(names) or "train", TUNING if plan and not whole else CUSTOM
    local = [*container.local_paths(config.get("data")), *(whole_search.local_paths(whole) if whole else [])]
    ignored = spec.ignored(plan.settings) if plan and not whole else []
    return Submission(body(job, kind, study, said, plan), kind, job, study, plan, config, local, ignored)


def _composed(
    configs: Path, line: Namespace, rest: list[str]
) -> tuple[Plan | None, DictConfig, dict[str, Any], tuple[str, ...]]:
    """A search's plan, the config of what is trained, each group's option in it, and the overrides of all trials."""
    if line.multirun:
        chosen.must_be_one(line, configs)
        plan = checked(configs, rest)
        return plan, plan.base, plan.choices, plan.configs.overrides
    configured = Configs(str(configs.absolute()), "config", (), tuple(rest))
    config, choices = of_one_run(configured.compose()), group_choices(configured.compose(hydra=True))
    must_be_sound(config)
    return None, config, choices, configured.overrides


@contextmanager
def _as_there(job: Job) -> Iterator[None]:
    """Inside, the environment has what the container's will have, for references to it."""
    before = dict(os.environ)
    os.environ.update(job.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _must_be_overrides(rest: Sequence[str], configs: Path) -> None:
    """Raise UserError for flags, and for what is near to a job's setting and nothing of the training's."""
    problems = [f"{word}: give overrides alone, as in epochs=5" for word in rest if word.startswith("-")]
    config = Configs(str(configs.absolute()), "config", (), ()).compose()
    for word in rest:
        key = re.split(r"[=.]", word.lstrip("+~"), maxsplit=1)[0]
        near = get_close_matches(key, settings.FIELDS, n=1, cutoff=0.75)
        if near and key not in config and not options(configs, key) and not get_close_matches(key, map(str, config), 1):
            problems.append(f"{key}: neither the training nor a job has this key; did you mean `{near[0]}`?")
    if problems:
        raise UserError(*problems)


def _unsuited(job: Job, config: DictConfig, told: Sequence[str]) -> Iterator[str]:
    """Why a config cannot be what each trial trains there."""
    if config.get("output_dir"):
        remedy = "leave it out; base=gs://… names the folder, and each trial gets its own in it"
        yield f"output_dir: {config.output_dir}: {remedy}"
    if config.trainer.get("accelerator") in ("gpu", "cuda") and job.accelerator is None:
        remedy = "give one, as in accelerator=NVIDIA_TESLA_T4, or trainer=auto"
        yield f"trainer.accelerator: {config.trainer.accelerator}: the job's machines have no accelerator; {remedy}"
    for name in told:
        if name in config:
            yield f"{name}: the job and the training both have this key; name the training's otherwise"
    yield from container.unset(container.leaves(config), job.environment)
