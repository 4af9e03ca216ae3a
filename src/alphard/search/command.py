"""`python train.py search=NAME`: a study begun, or gone on with, to its end."""

import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from alphard import storage
from alphard.compose import of_one_run
from alphard.errors import Interrupted, TrainingError, UserError
from alphard.fingerprint import fingerprint, resolved_sha256
from alphard.search import checking, grammar, live, local, report, results, settings
from alphard.search.configs import Configs, group_choices
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Space
from alphard.search.study import Study, masked
from alphard.search.warm import warm_trials
from alphard.search.worker import Setup

MAY_CHANGE = {"trials", "parallel", "max_failures", "time_budget", "storage", "folder"}


@dataclass
class Plan:
    """A search as a config and a command line say it, read and not yet checked.

    base:    the config of all its trials, without what the space sets.
    choices: each config group's option in it.
    node:    the `search:` node as it is written.
    """

    settings: Settings
    space: Space
    configs: Configs
    base: DictConfig
    choices: dict[str, Any]
    folder: Path
    node: dict[str, Any]


def plan(config: DictConfig, overrides: Sequence[str]) -> Plan:
    """Read `config.search` and the overrides that narrow its space; UserError with what is wrong in them.

    config:    composed by Hydra with its own node, the command line's sweeps left out.
    overrides: the command line's.
    """
    _must_not_sweep_the_search(overrides)
    if config.get("overwrite"):
        raise UserError("overwrite: true: a study is never overwritten; give output_dir=ANOTHER_FOLDER")
    resolved: Any = OmegaConf.to_container(config.search, resolve=True)
    written = resolved.get("space")
    if not isinstance(written, Mapping):
        raise UserError(f"{grammar.AT}: {written!r}; give {{key: sweep}}")
    given = grammar.of_space(written, overrides)
    space = grammar.read(written, given)
    said = grammar.fitted(settings.read(resolved), space, written, given)
    # What the space took is no override of all trials: sweeps, and what exists only with some choice.
    parser = OverridesParser.create()
    parsed = [(text, parser.parse_override(text)) for text in overrides]
    rest = tuple(text for text, o in parsed if not o.is_sweep_override() and o.key_or_group not in space)
    choices = group_choices(config)
    sources = {source.provider: source.path for source in config.hydra.runtime.config_sources}
    extra = tuple(s.path for s in config.hydra.runtime.config_sources if s.provider == "command-line")
    groups = frozenset(dimension.key for dimension in space if dimension.key in choices)
    configs = Configs(sources["main"], config.hydra.job.config_name, extra, rest, groups)
    checking.must_agree(space, said, configs, grammar.keys(written))
    node: Any = OmegaConf.to_container(config.search, resolve=False)
    base = of_one_run(configs.compose())
    return Plan(said, space, configs, base, choices, _folder(config, choices), node)


def check(configs: Path, overrides: Sequence[str]) -> int:
    """Check the search that a command line chooses, as its first worker does before the first trial.

    Returns the number of dimensions; raises UserError with every problem, and what Hydra raises.
    """
    parser = OverridesParser.create()
    fixed = tuple(text for text in overrides if not parser.parse_override(text).is_sweep_override())
    this = plan(Configs(str(configs.absolute()), "config", (), fixed).compose(hydra=True), overrides)
    checking.check(this.space, this.settings, this.configs, this.base)
    return len(this.space.dimensions)


def search(config: DictConfig, overrides: Sequence[str]) -> None:
    """Search until the study has its trials; said again, go on or show the result.

    Raises UserError before the first trial for what the user can mend.
    """
    this = plan(config, overrides)
    study = None
    if (this.folder / results.ABOUT).exists():
        _must_be_there(this)
        study = _open(this)
        if not study.left():
            study.close()
            return conclude(this)
    setup = Setup(this.configs, this.space, this.settings, this.folder)
    with local.Workers(setup, this.base, study.left() if study else this.settings.trials) as workers:
        try:
            if study is None:
                workers.probe()
                study = _open(this)
                _describe(this, overrides)
            _say_of_grid(study)
            budget = this.settings.time_budget
            until = None if budget is None else time.monotonic() + 60 * budget
            with live.Progress(study) as view:
                workers.search(study, view, lambda: until is None or time.monotonic() < until)
        except Interrupted:
            _say_again(study)
            raise
        finally:
            if study is not None:
                study.close()
    if study.left():
        print(f"search.time_budget: {budget:g} minutes are spent")
        _say_again(study)
    return conclude(this)


def conclude(this: Plan) -> None:
    """Print what the study found; raises TrainingError where no trial came to its end."""
    said, rows, columns = results.rows(this.folder)
    report.show(this.folder, said, rows, columns, most=10)
    if rows and all(row["state"] == "failed" for row in rows):
        raise TrainingError(f"search: all {len(rows)} trials failed; the first said: {rows[0]['error']}")


def _open(this: Plan) -> Study:
    known = fingerprint(this.base)
    known = {path: value for path, value in known.items() if path not in this.space and path != "search"}
    known |= {f"search.{name}": value for name, value in asdict(this.settings).items() if name not in MAY_CHANGE}
    known["what its resolvers give"] = resolved_sha256(this.base)
    for dimension in this.space:
        when = f"{dimension.when}: " if dimension.when else ""
        known[f"{grammar.AT}.{dimension.key}"] = f"{when}{dimension}"
    warm = warm_trials(this.settings, this.space, this.base, this.choices, this.folder)
    return Study(this.folder, this.settings, this.space, known, _most_epochs(this), warm)


def _most_epochs(this: Plan) -> int:
    if "epochs" not in this.space:
        return int(this.base.epochs)
    dimension = this.space["epochs"]
    return max(map(int, dimension.ends())) if isinstance(dimension, Categorical) else int(dimension.high)


def _describe(this: Plan, overrides: Sequence[str]) -> None:
    """Leave in the folder what results and retrain need to know."""
    configs = this.configs
    where = [_seen_from(this.folder, path) for path in (configs.folder, *configs.extra)]
    told: dict[str, Any] = {"folder": where[0], "name": configs.name, "extra": where[1:]}
    told |= {"overrides": list(configs.overrides), "choices": this.choices, "groups": sorted(configs.groups)}
    node = this.node | {"objective": this.settings.objective}
    said = {"configs": told, "overrides": list(overrides), "search": node}
    storage.Folder(str(this.folder)).write(results.ABOUT, yaml.safe_dump(said, sort_keys=False).encode())


def _seen_from(folder: Path, path: str) -> str:
    """A path of this project relative to the study's folder, so that both may move; another one as it is."""
    here = Path.cwd()
    inside = all(here in (one, *one.parents) for one in (Path(path).resolve(), folder.resolve()))
    return os.path.relpath(path, folder) if inside else path


def _must_be_there(this: Plan) -> None:
    """Raise UserError where the folder's study lies in another storage than this line names."""
    there = results.about(this.folder)["search"].get("storage")
    if there != this.node.get("storage"):
        place = "its own journal" if there is None else masked(str(there))
        remedy = "say the same search.storage, or give output_dir=ANOTHER_FOLDER"
        raise UserError(f"search.storage: the study in {this.folder} is kept in {place}; {remedy}")


def _folder(config: DictConfig, choices: Mapping[str, Any]) -> Path:
    given = config.get("output_dir") or config.search.get("folder") or os.environ.get("AIP_MODEL_DIR")
    if given is not None and storage.is_url(given):
        raise UserError(f"output_dir: {given}: a study is a folder on a disk; search.storage may be elsewhere")
    names = [str(choices[group]).replace("/", "-") for group in ("experiment", "search") if choices.get(group)]
    return Path(given).expanduser() if given else Path("studies") / "-".join(names)


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


def _say_of_grid(study: Study) -> None:
    if study.settings.algorithm == "grid":
        aside = ", and search.initial is among them" if study.settings.initial else ""
        print(f"a grid of {study.combinations} combinations, of which {study.total} are trained{aside}")


def _say_again(study: Study | None) -> None:
    if study is not None:
        line = shlex.join(["python", *(word for word in sys.argv if word != "--multirun")])
        print(f"{study.finished()} of {study.total} trials are finished; the same line goes on:\n  {line}", flush=True)
