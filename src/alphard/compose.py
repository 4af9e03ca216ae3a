"""A config composed as train.py composes it, and Hydra's refusals in words that say what would be right."""

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, OmegaConf, open_dict

from alphard.check import nearest
from alphard.errors import UserError
from alphard.foreign import leads_elsewhere
from alphard.hydra_seam import BASE
from alphard.lookup import how_to_choose, options, options_with, paths, similar
from alphard.refusals import QUOTED, Refusals, first_line, illegible, no_option, ungrammatical
from alphard.targets import own_packages

__all__ = ["Refusals", "Refused", "compose", "first_line", "must_be_sound", "of_one_run", "refused"]

Refused = (*Refusals, TypeError)  # which is all that Hydra says of trainer=[1]


def compose(configs: Path, overrides: Sequence[str]) -> DictConfig:
    """The config of `python train.py OVERRIDES`; raises what Hydra raises."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs.absolute()), **BASE):
        return hydra_compose("config", list(overrides))


def explain(configs: Path, line: Namespace, refusal: Exception) -> tuple[list[str], DictConfig | None]:
    """Every problem of a command line that Hydra refused, and the config without what it refused.

    Hydra stops at the first; here each override is tried beside those that passed, group choices first.
    """
    parsed, problems = _parsed(line)
    if leads_elsewhere(line):  # there, Hydra's own words have to do
        folders = (Path(path) for path in (line.config_dir, line.config_path) if path)
        return problems or [*chain.from_iterable(map(illegible, folders))] or [first_line(refusal)], None
    parsed.sort(key=lambda pair: not options(configs, pair[1].key_or_group))
    passed: list[str] = []
    lost: set[str] = set()  # groups without an option: what is wrong below them may follow from that
    for text, override in parsed:
        key, _, value = text.partition("=")
        if override.is_sweep_override() and not line.multirun:
            problems.append(f"{key}: {value}: several values; for a sweep add -m, for a list write {key}=[{value}]")
        if override.is_sweep_override() and not override.is_discrete_sweep():
            continue  # an interval is its sweeper's to judge
        sound = []
        for one in _single(text, override):
            try:
                compose(configs, [*passed, one])
            except Refusals as error:
                if override.key_or_group.partition(".")[0] not in lost:
                    problems.append(_translate(configs, one, override, error, passed))
            else:
                sound.append(one)
        passed += sound[:1]
        lost |= {override.key_or_group} if not sound and options(configs, override.key_or_group) else set()
    try:
        rest = compose(configs, passed)
    except Refusals:
        rest = None
    return list(dict.fromkeys(problems)) or [first_line(refusal)], rest


def _nameless(configs: Path, line: Namespace) -> list[str]:
    """The groups of which a command line asks for what is no word; of `trainer=[1]` Hydra only says TypeError."""
    problems = []
    for text, override in _parsed(line)[0]:
        value: Any = override.value()
        given = value.list if isinstance(value, ChoiceSweep) else [value]
        names = [name for one in given if isinstance(one, list) for name in one]
        known = options(configs, override.key_or_group)
        if known and not all(isinstance(name, str) for name in names):
            key, _, said = text.partition("=")
            problems.append(f"{key}: {said}: an option is a word; the options are {', '.join(known)}")
    return problems


def check_sweep(configs: Path, line: Namespace) -> None:
    """Check a multirun's values before its first job trains: each once, beside the first values of the other keys.

    Raises UserError with all problems.  Of a long list both ends are checked; intervals are their sweeper's to judge.
    """
    parsed, problems = _parsed(line)
    whole = any(override.is_sweep_override() and not override.is_discrete_sweep() for _, override in parsed)
    if problems or whole or leads_elsewhere(line):
        return
    jobs = [_ends(list(_single(text, override))) for text, override in parsed]
    first = [values[0] for values in jobs]
    try:
        for at, values in enumerate(jobs):
            for value in values:
                try:
                    must_be_sound(compose(configs, [*first[:at], value, *first[at + 1 :]]))
                except UserError as error:
                    problems += error.problems
    except Refusals as refusal:
        raise refused(configs, line, refusal) from None
    if problems:
        raise UserError(*dict.fromkeys(problems))


def _parsed(line: Namespace) -> tuple[list[tuple[str, Override]], list[str]]:
    """The overrides that Hydra can read, and what is wrong with the others."""
    parser, parsed, problems = OverridesParser.create(), [], []
    for text in line.overrides:
        try:
            parsed.append((text, parser.parse_override(text)))
        except Refusals as error:
            problems.append(_unreadable(text, error))
    return parsed, problems


def _ends(values: list[str], most: int = 16) -> list[str]:
    return values if len(values) <= 2 * most else [*values[:most], *values[-most:]]


def refused(configs: Path, line: Namespace, refusal: Exception) -> Exception:
    """What Hydra refused, with everything else that is wrong with the config; a TypeError of anything else as it is."""
    if isinstance(refusal, TypeError):
        strange = _nameless(configs, line)
        return UserError(*strange) if strange else refusal
    if isinstance(refusal, OSError) and not isinstance(
        refusal, Refusals
    ):  # which is what OmegaConf makes of a file that holds no keys
        folders = (Path(path) for path in (configs, line.config_dir, line.config_path) if path)
        strange = [*chain.from_iterable(map(illegible, folders))]
        return UserError(*strange) if strange else refusal
    problems, rest = explain(configs, line, refusal)
    said = {problem.split(":")[0].split("=")[0] for problem in problems}
    try:
        if rest is not None:
            must_be_sound(of_one_run(rest))
    except UserError as error:
        # What could not be read is not missing as well.
        problems += [problem for problem in error.problems if problem.split(":")[0] not in said]
    return UserError(*problems)


def _single(text: str, override: Override) -> Iterator[str]:
    """A sweep as the overrides of its jobs; anything else as it is."""
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        yield text
        return
    key = text.split("=", 1)[0]
    values: list[Any] = [*override.sweep_string_iterator()]
    for value in values:
        yield "=".join((key, str(value)))


def _translate(configs: Path, text: str, override: Override, error: Exception, passed: list[str]) -> str:
    key, value = override.key_or_group, text.partition("=")[2]
    known, message = options(configs, key), str(error) + str(error.__cause__ or "")
    if isinstance(error, yaml.YAMLError):
        return first_line(error)
    if known and not override.is_delete():
        return f"{key}: {no_option(value, known) if value not in known else f'{value}: {first_line(error)}'}"
    inner = re.search(r"full_key: (\S+)", message)
    key = inner[1] if inner and inner[1].startswith(f"{key}.") else key  # of model.net={colour: red}, model.net.colour
    if "is not in struct" in message or "No match in the defaults list" in message or "Could not override" in message:
        return f"{key}: no such key{meant(configs, text, key, compose(configs, passed))}"
    if "Cannot merge" in message and isinstance(override.value(), dict):
        return f"{key}: {value}: should be a list; [{value}] is one of {{key: value}}"
    if "Cannot merge" in message:
        return f"{key}: {value}: should be {{key: value}}"
    return f"{text}: {first_line(error)}"


def meant(configs: Path, text: str, key: str, config: DictConfig) -> str:
    """The key that a misspelt one may have been, or how it is added."""
    if key.startswith("search.") and config.get("search") is None:
        return f"; choose a search first: {how_to_choose(configs, 'search')}"
    known, exact = similar(key, config)
    having = [] if exact else options_with(configs, key)
    elsewhere = f"; {' or '.join(having)} has it: {having[0]} {text}" if having else ""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent, throw_on_resolution_failure=False) if parent else None
    target = str(node._target_) if isinstance(node, DictConfig) and "_target_" in list(node) else ""
    # The YAML of ours names all that its class takes; a user's own may leave to its class what it rarely says.
    if elsewhere and target.partition(".")[0] not in own_packages():
        return elsewhere
    if known:
        return f"; did you mean `{'` or `'.join(known)}`?"
    if target:
        return f"; +{text} adds it, where {target} takes it{elsewhere}"
    groups = (path.name for path in configs.iterdir() if path.is_dir())
    return nearest(key, [*paths(config), *groups]) or "; --cfg job shows them all"


def _unreadable(text: str, error: Exception) -> str:
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        return f"{text}: is no override; write key=value, as in seed=1, or ~{text} to leave it out"
    why = ungrammatical(error, QUOTED)  # of a call alone Hydra knows that it is a value
    return f"{text if why.startswith('Hydra') else f'{key}: {value}'}: {why}"


def of_one_run(config: DictConfig) -> DictConfig:
    """The config of one of a search's runs, in place: its objective is the search's, the test split stays sealed."""
    with open_dict(config):
        search = config.pop("search", None)
        if search is not None:
            config.objective, config.score_test, config.baselines = search.objective, False, False
    return config


def must_be_sound(config: DictConfig) -> None:
    """Check `config` whole; raises UserError with every problem."""
    from alphard.check import check
    from alphard.run import GROUPS, run

    check(config, run, GROUPS)
