"""A config composed as train.py composes it, and Hydra's refusals in words that say what would be right."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from alphard.check import nearest
from alphard.errors import UserError
from alphard.foreign import leads_elsewhere
from alphard.hydra_seam import BASE

# Hydra raises ValueError for GROUP=null, and for flags that contradict each other.
Refusals = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
# What other programs call a setting.
SHORT = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "max_epochs": "epochs", "n_epochs": "epochs"}


def compose(configs: Path, overrides: Sequence[str]) -> DictConfig:
    """The config of `python train.py OVERRIDES`; raises what Hydra raises."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs.absolute()), **BASE):
        return hydra_compose("config", list(overrides))


def explain(configs: Path, line: Namespace, refusal: Exception) -> tuple[list[str], DictConfig | None]:
    """Every problem of a command line that Hydra refused, and the config without what it refused.

    Hydra stops at the first; here each override is tried beside those that passed, group choices first.
    """
    if leads_elsewhere(line):  # there, Hydra's own words have to do
        return [first_line(refusal)], None
    parsed, problems = _parsed(line)
    parsed.sort(key=lambda pair: not _options(configs, pair[1].key_or_group))
    passed: list[str] = []
    for text, override in parsed:
        key, _, value = text.partition("=")
        if override.is_sweep_override() and not line.multirun:
            problems.append(f"{key}: {value}: several values; for a sweep add -m, for a list write {key}=[{value}]")
        if override.is_sweep_override() and not override.is_discrete_sweep():
            continue  # an interval is its sweeper's to judge
        for number, one in enumerate(_single(text, override)):
            try:
                compose(configs, [*passed, one])
            except Refusals as error:
                problems.append(_translate(configs, one, override, error, passed))
            else:
                passed += [one] if number == 0 else []
    try:
        rest = compose(configs, passed)
    except Refusals:
        rest = None
    return list(dict.fromkeys(problems)) or [first_line(refusal)], rest


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
            problems.append(f"{text}: {_grammar(text, error)}")
    return parsed, problems


def _ends(values: list[str], most: int = 16) -> list[str]:
    return values if len(values) <= 2 * most else [*values[:most], *values[-most:]]


def refused(configs: Path, line: Namespace, refusal: Exception) -> UserError:
    """What Hydra refused, together with everything else that is wrong with the config."""
    problems, rest = explain(configs, line, refusal)
    said = {problem.split(":")[0].split("=")[0] for problem in problems}
    try:
        if rest is not None:
            must_be_sound(of_one_run(rest))
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
        return f"{key}: no such key{_meant(configs, text, key, compose(configs, passed))}"
    return f"{text}: {first_line(error)}"


def _meant(configs: Path, text: str, key: str, config: DictConfig) -> str:
    """The key that a misspelt one may have been, or how it is added."""
    known, (parent, dot, last) = list(paths(config)), key.rpartition(".")
    # `dropout` is model.net.dropout; and a misspelt last word is nearer to its siblings than to all paths.
    deeper = [path for path in known if path.startswith(f"{parent}{dot}") and path.endswith(f".{last}")]
    exact = [SHORT[key]] if SHORT.get(key) in known else deeper
    siblings = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == parent]
    meant = exact[:3] or [f"{parent}{dot}{name}" for name in get_close_matches(last, siblings, n=1)]
    if not exact and (elsewhere := _option_with(configs, text, key)):
        return elsewhere
    if meant:
        return f"; did you mean `{'` or `'.join(meant)}`?"
    node = OmegaConf.select(config, parent, throw_on_resolution_failure=False) if parent else None
    if isinstance(node, DictConfig) and "_target_" in list(node):
        return f"; +{text} adds it, where {node._target_} takes it"
    return nearest(key, known) or "; --cfg job shows them all"


def _option_with(configs: Path, text: str, key: str) -> str:
    """Of `data.path`, the options of `data` that have a `path`."""
    group, _, rest = key.partition(".")
    names = []
    for option in _options(configs, group) if rest else []:
        try:
            found = OmegaConf.load(configs / group / f"{option}.yaml")
        except (OSError, *Refusals):
            continue
        if rest in paths(found):
            names.append(option)
    return f"; {' or '.join(f'{group}={name}' for name in names)} has it: {group}={names[0]} {text}" if names else ""


def _options(configs: Path, group: str) -> list[str]:
    """The options of a config group, or none where `group` is no group."""
    if not group or "." in group:
        return []
    return sorted(path.stem for path in (configs / group).glob("*.yaml"))


def _grammar(text: str, error: Exception) -> str:
    if "=" not in text and not text.startswith("~"):
        return f"is no override; write key=value, as in seed=1, or ~{text} to leave it out"
    remedy = "quote a value that holds , = : ( ) [ ] { } or blanks twice: 'key=\"a, b\"'"
    return f"Hydra cannot read this: {first_line(error)}; {remedy}"


def first_line(error: BaseException) -> str:
    """What Hydra, OmegaConf or YAML said, as one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem_mark.name}:{error.problem_mark.line + 1}: {error.problem}"
    cause = error.__cause__
    lines = [line for line in str(error).strip().split("\n") if line.strip()]
    if isinstance(cause, OmegaConfBaseException):
        lines += [line for line in str(cause).strip().split("\n") if line.strip()][:1]
    return "; ".join(line.strip() for line in lines[:2]) or type(error).__name__


def of_one_run(config: DictConfig) -> DictConfig:
    """The config of one of a search's runs, in place: its objective is the search's, the test split stays sealed."""
    with open_dict(config):
        search = config.pop("search", None)
        if search is not None:
            config.objective, config.score_test = search.objective, False
    return config


def must_be_sound(config: DictConfig) -> None:
    """Check `config` whole; raises UserError with every problem."""
    from alphard.check import check
    from alphard.run import GROUPS, run

    check(config, run, GROUPS)
