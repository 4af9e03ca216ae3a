"""A config composed as train.py composes it, and Hydra's refusals in words that say what would be right."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alphard.check import nearest
from alphard.errors import UserError
from alphard.hydra_seam import BASE

Refusals = (HydraException, OmegaConfBaseException, yaml.YAMLError)
# Flags that lead to other configs than ours: there, Hydra's own words have to do.
ELSEWHERE = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")


def compose(configs: Path, overrides: Sequence[str]) -> DictConfig:
    """The config of `python train.py OVERRIDES`; raises what Hydra raises."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs.absolute()), **BASE):
        return hydra_compose("config", list(overrides))


def explain(configs: Path, arguments: Sequence[str], refusal: Exception) -> tuple[list[str], DictConfig | None]:
    """Every problem of a command line that Hydra refused, and the config without what it refused.

    Hydra stops at the first; here each override is tried beside those that passed, group choices first.
    """
    if _elsewhere(arguments):
        return [_first_line(refusal)], None
    parsed: list[tuple[str, Override]] = []
    problems: list[str] = []
    for text in (a for a in arguments if not a.startswith("-")):
        try:
            parsed.append((text, OverridesParser.create().parse_override(text)))
        except Refusals as error:
            problems.append(f"{text}: {_grammar(error)}")
    parsed.sort(key=lambda pair: not _options(configs, pair[1].key_or_group))
    passed: list[str] = []
    sweeps = bool({"-m", "--multirun"} & {*arguments})
    for text, override in parsed:
        key, _, value = text.partition("=")
        if override.is_sweep_override() and not sweeps:
            problems.append(f"{key}: {value}: several values; for a sweep add -m, for a list write {key}=[{value}]")
        for one in _single(text, override):
            try:
                compose(configs, [*passed, one])
            except Refusals as error:
                problems.append(_translate(configs, one, override, error, passed))
            else:
                passed.append(one) if one == next(_single(text, override)) else None
    try:
        rest = compose(configs, passed)
    except Refusals:
        return problems or [_first_line(refusal)], None
    return problems or [_first_line(refusal)], rest


def check_sweep(configs: Path, arguments: Sequence[str]) -> None:
    """Check a multirun's values before its first job trains: each once, beside the first values of the other keys.

    Raises UserError with all problems.  What Hydra itself refuses is left to it; of a long list both ends are checked.
    """
    if _elsewhere(arguments):
        return
    parser = OverridesParser.create()
    try:
        parsed = [(text, parser.parse_override(text)) for text in arguments if not text.startswith("-")]
        jobs = [_ends(list(_single(text, override))) for text, override in parsed]
        problems: list[str] = []
        first = [values[0] for values in jobs]
        for at, values in enumerate(jobs):
            for value in values:
                try:
                    must_be_sound(compose(configs, [*first[:at], value, *first[at + 1 :]]))
                except UserError as error:
                    problems += error.problems
    except Refusals:
        return
    if problems:
        raise UserError(*dict.fromkeys(problems))


def _ends(values: list[str], most: int = 16) -> list[str]:
    return values if len(values) <= 2 * most else [*values[:most], *values[-most:]]


def _elsewhere(arguments: Sequence[str]) -> bool:
    return any(a.split("=")[0] in ELSEWHERE for a in arguments)


def refused(configs: Path, arguments: Sequence[str], refusal: Exception) -> UserError:
    """What Hydra refused, together with everything else that is wrong with the config."""
    problems, rest = explain(configs, arguments, refusal)
    said = {problem.split(":")[0].split("=")[0] for problem in problems}
    try:
        if rest is not None:
            must_be_sound(rest)
    except UserError as error:
        # What could not be read is not missing as well.
        problems += [problem for problem in error.problems if problem.split(":")[0] not in said]
    return UserError(*problems)


def paths(config: Any, at: str = "") -> Iterator[str]:
    """Every config path, without following references."""
    plain: Any = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    if isinstance(plain, dict):
        for key, value in plain.items():
            path = f"{at}.{key}" if at else str(key)
            yield path
            yield from paths(value, path)


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
    key, options = override.key_or_group, _options(configs, override.key_or_group)
    if options and not override.is_delete():
        value = text.split("=", 1)[1]
        return f"{key}: there is no option {value}{nearest(value, options) or '.'} The options are {', '.join(options)}"
    message = str(error) + str(error.__cause__ or "")
    if "is not in struct" in message or "No match in the defaults list" in message or "Could not override" in message:
        known = list(paths(compose(configs, passed)))
        # A misspelt last word is nearer to its siblings than to all paths.
        siblings = [path for path in known if path.rpartition(".")[0] == key.rpartition(".")[0]]
        hint = nearest(key, siblings) or nearest(key, known)
        parent = OmegaConf.select(compose(configs, passed), key.rpartition(".")[0] or "nothing")
        if not hint and isinstance(parent, DictConfig) and "_target_" in parent:
            hint = f"; +{text} adds it, where {parent._target_} takes it"
        return f"{key}: no such key{hint or '; --cfg job shows them all'}"
    return f"{text}: {_first_line(error)}"


def _options(configs: Path, group: str) -> list[str]:
    """The options of a config group, or none where `group` is no group."""
    if not group or "." in group:
        return []
    return sorted(path.stem for path in (configs / group).glob("*.yaml"))


def _grammar(error: Exception) -> str:
    remedy = "quote a value that holds , = : ( ) [ ] { } or blanks twice: 'key=\"a, b\"'"
    return f"Hydra cannot read this: {_first_line(error)}; {remedy}"


def _first_line(error: BaseException) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem_mark.name}:{error.problem_mark.line + 1}: {error.problem}"
    cause = error.__cause__
    lines = [line for line in str(error).strip().split("\n") if line.strip()]
    if isinstance(cause, OmegaConfBaseException):
        lines += [line for line in str(cause).strip().split("\n") if line.strip()][:1]
    return "; ".join(line.strip() for line in lines[:2]) or type(error).__name__


def must_be_sound(config: DictConfig) -> None:
    """Check `config` whole; raises UserError with every problem."""
    from alphard.check import check
    from alphard.run import GROUPS, run

    check(config, run, GROUPS)
