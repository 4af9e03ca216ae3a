"""`python train.py search=NAME`: a study begun, or gone on with, to its end."""

import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from optuna.exceptions import StorageInternalError

from alphard.errors import Interrupted, TrainingError, UserError, masked
from alphard.fingerprint import fingerprint, resolved_sha256
from alphard.search import grammar, live, local, report, results, storages
from alphard.search.carried import carried
from alphard.search.plan import Plan, plan
from alphard.search.space import Categorical
from alphard.search.study import Study
from alphard.search.tracked import Tracked
from alphard.search.warm import warm_trials
from alphard.search.worker import Setup
from alphard.storage import Folder

MAY_CHANGE = {"trials", "parallel", "max_failures", "time_budget", "storage", "folder", "pack"}


def search(config: DictConfig, overrides: Sequence[str]) -> None:
    """Search until the study has its trials; said again, go on or show the result.

    Raises UserError before the first trial for what the user can mend, TrainingError where the storage is lost later.
    """
    this = plan(config, overrides)
    if this.there is None:
        _run(this, overrides, lambda: None)
        return
    with carried(Folder(*this.there), this.folder.name) as study:
        _run(dataclasses.replace(this, folder=study.folder), overrides, study.carry)


def _run(this: Plan, overrides: Sequence[str], at_each_turn: Callable[[], None]) -> None:
    with Tracked(this.base, this.folder, this.settings.storage, this.space, _params(this)) as runs:
        try:
            _search(this, overrides, runs, at_each_turn)
        except StorageInternalError as error:
            where = masked(str(this.settings.storage or this.folder))
            raise TrainingError(f"search.storage: {where}: {storages.said(error)}; the same line goes on") from error
        conclude(this)


def _search(this: Plan, overrides: Sequence[str], runs: Tracked, at_each_turn: Callable[[], None]) -> None:
    study = None
    workers_of, shown_by = _engine(this.settings.engine)
    if (this.folder / results.ABOUT).exists():
        _must_be_there(this)
        study = _open(this)
        if this.there:  # its configs need not lie where they lay on the machine before
            _describe(this, overrides)
        at_each_turn()
        runs.open(study)  # at once: one that was killed has not told it yet, and this one may be interrupted
        if not study.left():
            study.recover()  # one that was killed at its very end has left an owner's file, and folders
            workers_of.tidy(study, this.folder)
            study.close()
            return
    setup = Setup(this.configs, this.space, this.settings, this.folder)
    with workers_of(setup, this.base, study.left() if study else this.settings.trials, runs) as workers:
        try:
            if study is None:
                workers.probe()
                study = _open(this)
                _describe(this, overrides)
            _say_of_grid(study)
            runs.open(study)
            budget = this.settings.time_budget
            until = None if budget is None else time.monotonic() + 60 * budget

            def may_begin() -> bool:
                at_each_turn()
                return until is None or time.monotonic() < until

            with shown_by(study) as view:
                workers.search(study, view, may_begin)
        except Interrupted:
            _say_again(study)
            raise
        finally:
            if study is not None:
                study.close()
    if study.left():
        print(f"search.time_budget: {budget:g} minutes are spent")
        _say_again(study)


def _engine(name: str) -> tuple[type[local.Workers], type[live.Progress]]:
    """What trains the trials, and what shows how it goes."""
    if name == "local":
        return local.Workers, live.Progress
    from alphard.search import pack_view, packed

    return packed.Packs, pack_view.PackView


def conclude(this: Plan) -> None:
    """Print what the study found; raises TrainingError where no trial came to its end."""
    said, rows, columns = results.rows(this.folder, this.settings.storage)
    report.show(this.folder, said, rows, columns, most=10, there=this.there and this.there[0])
    if rows and all(row["state"] == "failed" for row in rows):
        raise TrainingError(f"search: all {len(rows)} trials failed; the first said: {rows[0]['error']}")


def _params(this: Plan) -> dict[str, Any]:
    """What loggers are told of the study: what may not change later, for no parameter may."""
    settings = {name: value for name, value in asdict(this.settings).items() if name not in MAY_CHANGE}
    space = {f"{grammar.AT}.{dimension.key}": str(dimension) for dimension in this.space}
    return space | {f"search.{name}": value for name, value in settings.items()}


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
    told |= {"overrides": _kept(configs.overrides), "choices": this.choices, "groups": sorted(configs.groups)}
    node = this.node | {"objective": this.settings.objective, "storage": storages.stored(this.node.get("storage"))}
    if node["storage"] != this.node.get("storage"):
        known = "results and retrain take it from PGPASSWORD or ~/.pgpass"
        print(f"search.storage: {results.ABOUT} keeps no password; {known}")
    said = {"configs": told, "overrides": _kept(overrides), "search": node}
    Folder(str(this.folder)).write(results.ABOUT, yaml.safe_dump(said, sort_keys=False).encode())


def _kept(overrides: Sequence[str]) -> list[str]:
    """A command line's overrides as a file may keep them."""
    return [storages.stored(text) if text.lstrip("+").startswith("search.storage=") else text for text in overrides]


def _seen_from(folder: Path, path: str) -> str:
    """A path of this project relative to the study's folder, so that both may move; another one as it is."""
    here = Path.cwd()
    inside = all(here in (one, *one.parents) for one in (Path(path).resolve(), folder.resolve()))
    return os.path.relpath(path, folder) if inside else path


def _must_be_there(this: Plan) -> None:
    """Raise UserError where the folder's study lies in another storage than this line names."""
    there = results.about(this.folder)["search"].get("storage")
    if there != storages.stored(this.node.get("storage")):
        place = "its own journal" if there is None else masked(str(there))
        remedy = "say the same search.storage, or give output_dir=ANOTHER_FOLDER"
        raise UserError(f"search.storage: the study in {this.folder} is kept in {place}; {remedy}")


def _say_of_grid(study: Study) -> None:
    if study.settings.algorithm == "grid":
        aside = ", and search.initial is among them" if study.settings.initial else ""
        print(f"a grid of {study.space.combinations()} combinations, of which {study.total} are trained{aside}")


def _say_again(study: Study | None) -> None:
    if study is not None:
        line = shlex.join(["python", *(word for word in sys.argv if word != "--multirun")])
        done = f"{study.finished()} of {study.total} trials are finished"
        print(f"{done}; the same line goes on:\n  {masked(line)}", flush=True)
