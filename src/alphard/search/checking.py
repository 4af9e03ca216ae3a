"""A space held against the config that it searches, before the first trial: each value that stands for others."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from alphard.check import nearest
from alphard.compose import must_be_sound
from alphard.errors import UserError
from alphard.lookup import options, options_with, paths, similar
from alphard.refusals import Refusals, first_line, no_option, shown
from alphard.search.configs import Configs, existing, group_choices
from alphard.search.grammar import AT
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Condition, Continuous, Dimension, Space

GOLDEN = 0.618034  # no end, and no whole number, where an interval has room for others


def must_agree(space: Space, settings: Settings, configs: Configs, written: Iterable[str] = ()) -> None:
    """Raise UserError with what is wrong whatever the config holds: known at once, without torch.

    written: keys of the space as its file has it, which a misspelt initial value may have meant.
    """
    problems = [*_settings(space, settings, written)]
    for dimension in space:
        problems += _options(space, dimension, configs)
    if problems:
        raise UserError(*dict.fromkeys(problems))


def check(space: Space, settings: Settings, configs: Configs, base: DictConfig) -> None:
    """Raise UserError with everything that would go wrong in a trial.

    base: the config of all trials, checked first, for its own problems would be said of every value.
    """
    must_be_sound(base)
    problems = [*_settings(space, settings)]
    for dimension in space:
        problems += [*_options(space, dimension, configs)] or _dimension(space, dimension, configs)
    if problems:
        raise UserError(*dict.fromkeys(problems))


def place(dimension: Dimension) -> str:
    """Where a dimension is written."""
    return f"{AT}.when.{dimension.when}.{dimension.key}" if dimension.when else f"{AT}.{dimension.key}"


def _settings(space: Space, settings: Settings, written: Iterable[str] = ()) -> Iterator[str]:
    for dimension in space:
        if settings.algorithm == "grid" and isinstance(dimension, Continuous) and dimension.step is None:
            remedy = "give choice(...) or range(a, b, step=c), or another search.algorithm"
            yield f"{place(dimension)}: {dimension}: a grid has no intervals of floats; {remedy}"
    for number, values in enumerate(settings.initial):
        for key, value in values.items():
            at = f"search.initial[{number}].{key}"
            if key not in space:
                known = [*(dimension.key for dimension in space), *written]
                yield f"{at}: is no dimension of this space{nearest(key, known)}"
            elif not space[key].holds(value):
                yield f"{at}: {value!r}: lies outside {space[key]}"


def _options(space: Space, dimension: Dimension, configs: Configs) -> Iterator[str]:
    """The options that a config group lacks.  Hydra is asked only where no file is found."""
    at, key = f"{place(dimension)}: {dimension}", dimension.key
    if key not in configs.groups:
        return
    known = sorted({option for folder in _folders(configs) for option in options(folder, key)})
    if not isinstance(dimension, Categorical):
        yield f"{at}: {key} is a config group; give choice({', '.join(known)})"
        return
    for choice in dimension.choices:
        try:
            if choice not in known:
                configs.trial(space, {**existing(space, dimension), key: choice})
        except Refusals:
            yield f"{at}: {no_option(choice, known)}"


def _dimension(space: Space, dimension: Dimension, configs: Configs) -> Iterator[str]:
    """Each value that stands for others; and, beside each option of each group, whether the key is there at all."""
    at, key = f"{place(dimension)}: {dimension}", dimension.key
    there: dict[Condition | None, bool] = {}
    problems: list[str] = []
    for beside, chosen in _company(space, dimension, configs):
        # Below a group, another option is another meaning.
        whole = beside is None or key.startswith(f"{beside.parent}.")
        for value in [*_stand_ins(dimension)][: None if whole else 1]:
            try:
                config = configs.trial(space, {**chosen, key: value})
                there[beside] = True
                if whole:
                    must_be_sound(config)
            except OmegaConfBaseException:
                there[beside] = False
            except Refusals as error:
                problems += [f"{at}: {first_line(error)}"] if beside is None else []  # else it is said of the group
            except UserError as error:
                problems += _of_this(at, dimension, value, error.problems)
    lacking = [*_lacking(dimension, there)]
    if not lacking and False in there.values():
        yield f"{place(dimension)}: no such key{_near(configs, space, dimension)}"
    yield from lacking or problems


def _company(space: Space, dimension: Dimension, configs: Configs) -> Iterator[tuple[Condition | None, dict[str, Any]]]:
    """The groups' options with which a dimension is tried: the first of each, then each of each beside the others'."""
    must = existing(space, dimension)
    yield None, _first(space, configs, must)
    for group in space:
        whole = existing(space, group)
        apart = any(must.get(key, choice) != choice for key, choice in whole.items())  # never in one trial
        if group.key in configs.groups - {dimension.key, *must} and dimension.key not in configs.groups | {*whole}:
            for choice in group.choices if isinstance(group, Categorical) and not apart else ():
                yield Condition(group.key, choice), _first(space, configs, {**must, **whole, group.key: choice})


def _first(space: Space, configs: Configs, settled: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's groups: what is settled, and else the first option."""
    chosen: dict[str, Any] = {}
    for dimension in space.active(chosen):
        if dimension.key in settled:
            chosen[dimension.key] = settled[dimension.key]
        elif dimension.key in configs.groups and isinstance(dimension, Categorical):
            chosen[dimension.key] = dimension.choices[0]
    return chosen


def _lacking(dimension: Dimension, there: Mapping[Condition | None, bool]) -> Iterator[str]:
    """The options without a key that others of the same group have."""
    for group in dict.fromkeys(beside.parent for beside in there if beside):
        beside = [condition for condition in there if condition and condition.parent == group]
        having = [condition for condition in beside if there[condition]]
        for lacking in beside if having else ():
            if not there[lacking]:
                remedy = f"write it under when: {{{having[0]}: {{…}}}}"
                remedy += f", or take {lacking.choice} out of {group}" if having[1:] else ""
                yield f"{place(dimension)}: {lacking} has no such key; {remedy}"


def _of_this(at: str, dimension: Dimension, value: Any, problems: tuple[str, ...]) -> Iterator[str]:
    """The config's problems as the space's; what is wrong elsewhere is said as it is."""
    for problem in problems:
        path, _, why = problem.partition(": ")
        if path.partition("[")[0] != dimension.key:
            yield problem
        elif isinstance(dimension, Continuous) and "integer" in why:
            low, high = round(dimension.low), round(dimension.high)
            yield f"{at}: the key takes whole numbers; write int(interval({low}, {high}))"
        else:
            yield f"{at}: {why}"


def _stand_ins(dimension: Dimension) -> Iterator[Any]:
    """Both ends and a value between, or every choice's text."""
    if isinstance(dimension, Categorical):
        yield from dimension.choices
    else:
        if isinstance(dimension, Continuous) and dimension.step is None:
            yield dimension.low + GOLDEN * (dimension.high - dimension.low)
        yield from dimension.ends()


def _near(configs: Configs, space: Space, dimension: Dimension) -> str:
    """The key that a misspelt one may have been, who has it, or where it is added."""
    key, chosen = dimension.key, _first(space, configs, existing(space, dimension))
    config: DictConfig = configs.trial(space, chosen)
    known = [*paths(config)]
    having = list(dict.fromkeys(one for folder in _folders(configs) for one in options_with(folder, key)))
    (group, *_), (parent, _, last) = key.split("."), key.rpartition(".")
    meant, _ = similar(key, config)
    if having:
        remedy = f"write it under when: {{{having[0]}: {{…}}}}" if group in space else f"say {having[0]}"
        return f"; {' or '.join(having)} has it: {remedy}"
    if meant:
        return f"; did you mean `{'` or `'.join(meant)}`?"
    if parent not in known:
        return nearest(key, [path for path in known if not key.startswith(f"{path}.")]) or "; --cfg job shows them all"
    option = chosen.get(group) or group_choices(configs.compose(hydra=True)).get(group)
    files = [folder / group / f"{option}.yaml" for folder in _folders(configs)]
    where = next((f" in {shown(file)}" for file in files if file.is_file()), "")
    return f"; a dimension needs a key that the config has: add `{last}: …` to {parent}{where}"


def _folders(configs: Configs) -> list[Path]:
    return [Path(configs.folder), *map(Path, configs.extra)]
