"""A search that one container runs from beginning to end: what it has to be told, so that it is the search of here."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from alphard.arguments import rewrite
from alphard.compose import Refused, first_line
from alphard.errors import UserError
from alphard.search import grammar
from alphard.search.checking import place
from alphard.search.configs import Configs, existing
from alphard.search.plan import Plan, checked
from alphard.search.space import Categorical, Continuous, Dimension, Space
from alphard.storage import is_url
from vertex_ai import container
from vertex_ai.settings import Job


def arguments(configs: Path, words: Sequence[str], here: Plan) -> list[str]:
    """The container's arguments: the line's own words, and what configs/local adds to the config and to the search.

    They are composed as the container does, and UserError names what would be another search there.
    """
    given = here.configs.overrides
    options = [f"{each.key}={each.choices[0]}" for each in _groups(here) if each.when is None]
    tuned = [dimension.key for dimension in here.space]
    told = container.arguments(configs, given, here.configs.compose(*options), here.choices, tuned, options)
    said = [*words, *told[len(given) :]]
    for dimension in others(_space_there(configs, told, words), here.space):
        said = [word for word in said if _key(word) != dimension.key] + [f"{dimension.key}={_sweep(dimension)}"]
    if problems := [*_differences(_there(configs, said), here)]:
        raise UserError(*problems)
    return said


def unsuited(job: Job, plan: Plan) -> Iterator[str]:
    """Why a search cannot be one container's."""
    if job.replicas > 1:
        each = f"search.engine=local makes a tuning job whose trials have {job.replicas} machines each"
        yield f"replicas: {job.replicas}: a packed search is one machine's; leave it out, or {each}"
    if plan.settings.folder:
        remedy = "leave it out, or say search.folder=null; base=gs://… names the folder"
        yield f"search.folder: {plan.settings.folder}: {remedy}"
    if (plan.settings.storage or "").startswith("sqlite"):
        remedy = "leave it out, for a journal in the job's folder, or name a database that the job reaches"
        yield f"search.storage: {plan.settings.storage}: a file that is lost with the job's machine; {remedy}"
    yield from container.unset(container.of_search(plan.node), job.environment)


def local_paths(plan: Plan) -> Iterator[str]:
    """The study of this machine that the search would learn from."""
    warm = plan.settings.warm_start
    if warm and not is_url(warm) and not warm.startswith("/gcs/"):
        yield f"search.warm_start: {warm}"


def rehearsed(job: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The same job, whose search has `count` trials, and keeps them in its folder: none is one of the job's own."""
    found = copy.deepcopy(dict(job))
    for pool in found["jobSpec"]["workerPoolSpecs"]:
        said = [word for word in pool["containerSpec"]["args"] if _key(word) not in ("search.trials", "search.storage")]
        pool["containerSpec"]["args"] = [*said, f"search.trials={count}", "search.storage=null"]
    return found


def _space_there(configs: Path, told: Sequence[str], words: Sequence[str]) -> Space:
    """The space that the image's own file and the line make."""
    config = Configs(str(configs.absolute()), "config", (), container.without_local(configs)).compose(*told)
    written: Any = OmegaConf.to_container(config.search.space)
    with _without_local():
        return grammar.read(written, grammar.of_space(written, words))


def _there(configs: Path, said: Sequence[str]) -> Plan:
    """What the container makes of its arguments."""
    with _without_local():
        return checked(configs, [*rewrite(said, configs), *container.without_local(configs)])


@contextmanager
def _without_local() -> Iterator[None]:
    """An error says why it is one, for here there is none."""
    try:
        yield
    except (UserError, *Refused) as error:
        problems = error.problems if isinstance(error, UserError) else (first_line(error),)
        why = "so it is without configs/local, which no image has"
        raise UserError(*(f"{problem}; {why}" for problem in problems)) from None


def _differences(there: Plan, here: Plan) -> Iterator[str]:
    """Where the container's search would be another one."""
    for dimension in [*others(there.space, here.space), *(each for each in there.space if each.key not in here.space)]:
        yield f"{place(dimension)}: {dimension}: {container.UNSAID}"
    if {*there.space} == {*here.space} and there.space != here.space:
        yield f"search.space: the order of its keys: {container.UNSAID}"
    settings, theirs = asdict(here.settings), asdict(there.settings)
    for name in (name for name, value in settings.items() if theirs[name] != value):
        yield f"search.{name}: {settings[name]!r}: {container.UNSAID}"
    for chosen in _beside(here):
        set_anyway = {dimension.key for dimension in here.space.active(chosen)}
        configs = (plan.configs.trial(here.space, chosen) for plan in (here, there))
        wanted, found = (container.leaves(config, set_anyway) for config in configs)
        if wrong := container.differs(found, wanted):
            beside = "".join(f" with {key}={option}" for key, option in chosen.items())
            yield f"{wrong}: {wanted.get(wrong)!r}{beside}: {container.UNSAID}"
            return


def _beside(plan: Plan) -> Iterator[dict[str, str]]:
    """The first option of each group that every trial chooses, and each option of each group beside them."""
    first = {group.key: group.choices[0] for group in _groups(plan) if group.when is None}
    yield first
    for group in _groups(plan):
        yield from (first | existing(plan.space, group) | {group.key: option} for option in group.choices)


def _groups(plan: Plan) -> Iterator[Categorical]:
    """The dimensions that choose a group's option, which is always one of several."""
    yield from (each for each in plan.space if isinstance(each, Categorical) and each.key in plan.configs.groups)


def others(there: Space, here: Space) -> list[Dimension]:
    """The dimensions that are not so there."""
    return [dimension for dimension in here if dimension.key not in there or there[dimension.key] != dimension]


def _key(word: str) -> str:
    return str(OverridesParser.create().parse_override(word).key_or_group)


def _sweep(dimension: Dimension) -> str:
    """A dimension in Hydra's grammar, to its last digit."""
    if isinstance(dimension, Categorical):
        return str(dimension)
    low, high, step = dimension.low, dimension.high, dimension.step
    if isinstance(dimension, Continuous):
        text = f"range({low!r}, {high + step / 2!r}, {step!r})" if step else f"interval({low!r}, {high!r})"
    else:
        text = f"range({low}, {high + 1}, {step})" if dimension.step > 1 else f"int(interval({low}, {high}))"
    return f"tag(log, {text})" if dimension.log else text
