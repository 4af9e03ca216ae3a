"""A search as a config and a command line say it: read, narrowed, and checked."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from alphard.compose import of_one_run
from alphard.errors import UserError
from alphard.places import is_url, must_be_meant
from alphard.search import checking, grammar, settings
from alphard.search.configs import Configs, group_choices
from alphard.search.settings import Settings
from alphard.search.space import Space


@dataclass
class Plan:
    """A search as a config and a command line say it, read and not yet checked.

    base:    the config of all its trials, without what the space sets.
    choices: each config group's option in it.
    folder:  of the study.
    there:   its URL where it lies elsewhere, and the config path that says so; then `folder` says what it is called.
    node:    the `search:` node as it is written.
    """

    settings: Settings
    space: Space
    configs: Configs
    base: DictConfig
    choices: dict[str, Any]
    folder: Path
    there: tuple[str, str] | None
    node: dict[str, Any]


def plan(config: DictConfig, overrides: Sequence[str]) -> Plan:
    """Read `config.search` and the overrides that narrow its space; UserError with what is wrong in them.

    config:    composed by Hydra with its own node, the command line's sweeps left out.
    overrides: the command line's.
    """
    _must_not_sweep_the_search(overrides)
    if config.get("overwrite"):
        raise UserError("overwrite: true: a study is never overwritten; give output_dir=ANOTHER_FOLDER")
    if config.get("resume") == "must":
        raise UserError("resume: must: a search's trials begin, and go on where one was interrupted; leave it out")
    resolved: Any = OmegaConf.to_container(config.search, resolve=True)
    written = resolved.get("space")
    if not isinstance(written, Mapping):
        raise UserError(f"{grammar.AT}: {written!r}; give {{key: sweep}}")
    given = grammar.of_space(written, overrides)
    space = grammar.read(written, given)
    said = grammar.fitted(settings.read(resolved), space, written, given)
    parser = OverridesParser.create()
    parsed = [(text, parser.parse_override(text)) for text in overrides]
    for _, override in parsed:
        if override.key_or_group == "objective" and config.objective != said.objective:
            other = f"search.objective: {said.objective}; give search.objective={config.objective}"
            raise UserError(f"objective: {config.objective}: this search says another, {other}")
    # What the space took is no override of all trials: sweeps, and what exists only with some choice.
    rest = tuple(text for text, o in parsed if not o.is_sweep_override() and o.key_or_group not in space)
    choices = group_choices(config)
    sources = {source.provider: source.path for source in config.hydra.runtime.config_sources}
    extra = tuple(s.path for s in config.hydra.runtime.config_sources if s.provider == "command-line")
    groups = frozenset(dimension.key for dimension in space if dimension.key in choices)
    configs = Configs(sources["main"], config.hydra.job.config_name, extra, rest, groups)
    checking.must_agree(space, said, configs, grammar.keys(written))
    node: Any = OmegaConf.to_container(config.search, resolve=False)
    base = of_one_run(configs.compose())
    return Plan(said, space, configs, base, choices, *_folder(config, choices), node)


def checked(configs: Path, overrides: Sequence[str]) -> Plan:
    """The search that a command line chooses, checked as its first worker does before the first trial.

    Raises UserError with every problem, and what Hydra raises.
    """
    parser = OverridesParser.create()
    fixed = tuple(text for text in overrides if not parser.parse_override(text).is_sweep_override())
    this = plan(Configs(str(configs.absolute()), "config", (), fixed).compose(hydra=True), overrides)
    checking.check(this.space, this.settings, this.configs, this.base)
    return this


def _folder(config: DictConfig, choices: Mapping[str, Any]) -> tuple[Path, tuple[str, str] | None]:
    said = {"output_dir": config.get("output_dir"), "search.folder": config.search.get("folder")}
    said["AIP_MODEL_DIR"] = os.environ.get("AIP_MODEL_DIR")
    at, given = next(((at, path) for at, path in said.items() if path), ("", None))
    names = [str(choices[group]).replace("/", "-") for group in ("experiment", "search") if choices.get(group)]
    own = Path("studies") / "-".join(names)
    if given is None:
        return own, None
    must_be_meant(given, at)
    return (own, (given.rstrip("/"), at)) if is_url(given) else (Path(given).expanduser(), None)


def _must_not_sweep_the_search(overrides: Sequence[str]) -> None:
    problems = []
    for text in overrides:
        override = OverridesParser.create().parse_override(text)
        key = override.key_or_group
        if key.startswith(f"{grammar.AT}."):
            path = key.removeprefix(f"{grammar.AT}.")
            problems.append(f"{text}: a dimension is narrowed by its own path: {path}={text.partition('=')[2]!r}")
        elif override.is_sweep_override() and (key == "search" or key.startswith("search.")):
            problems.append(f"{text}: a search's own settings are not swept; give one value")
    if problems:
        raise UserError(*problems)
