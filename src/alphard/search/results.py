"""What a study found: its trials, sorted, as rows and as a pandas DataFrame."""

import copy
import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
from hydra.errors import HydraException
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from alphard import documents
from alphard.errors import UserError
from alphard.noise import binomial_error
from alphard.refusals import first_line
from alphard.search import grammar, owner
from alphard.search.configs import Configs
from alphard.search.space import Categorical, Space
from alphard.search.storages import name_in, storage_of, stored
from alphard.storage import Folder

if TYPE_CHECKING:
    from pandas import DataFrame

ABOUT = "study.yaml"
STATES = {state: state.name.lower() for state in TrialState} | {TrialState.FAIL: "failed"}
INTERRUPTED = "interrupted"  # it ran when its process died; the search's own line runs it again
ORDER = {TrialState.COMPLETE: 0, TrialState.PRUNED: 1, TrialState.RUNNING: 2, TrialState.FAIL: 3}
RESTORE = "restore the file, or name another folder with output_dir=…"
Row = dict[str, Any]
BEFORE, AFTER = ("trial", "state"), ("stopped_epoch", "seconds", "error")
OTHERS = (*BEFORE, "near_best", *AFTER)  # columns that are neither the objective nor a dimension


class Search(TypedDict):
    """What the `search` node of a study.yaml has at least."""

    objective: str
    direction: Literal["maximize", "minimize"]
    space: dict[str, Any]


class Made(TypedDict):
    """Of which configs a study was made."""

    folder: str
    name: str
    extra: list[str]
    overrides: list[str]
    choices: dict[str, Any]
    groups: list[str]


class About(TypedDict):
    """What every study.yaml has."""

    search: Search
    configs: Made
    overrides: list[str]


def table(folder: str | Path) -> "DataFrame":
    """One row a trial that began, the best first: trial, state, objective, every dimension, stopped_epoch, seconds.

    near_best says which the noise of the validation rows alone could have put behind the best: at most one standard
    error of the best's accuracy, sqrt(p (1 - p) / rows), away; empty for another kind of objective.
    """
    import pandas as pd

    _, found, columns = rows(Path(folder))
    return pd.DataFrame(found, columns=columns)


def rows(folder: Path, url: str | None = None) -> tuple[dict[str, Any], list[Row], list[str]]:
    """What `table` shows, and before it what a study's folder says of it.

    url: of the storage, from who knows its password.
    """
    said, trials = load(folder, url)
    with documents.judged(str(folder), "a search", RESTORE):
        return said, *sorted_rows(said, trials)


def space_of(said: Mapping[str, Any]) -> Space:
    """A study's space, as study.yaml has it."""
    space = said["search"]["space"]
    try:
        return grammar.read(space, grammar.of_space(space, said["overrides"]))
    except HydraException as error:
        raise UserError(f"{ABOUT}: overrides: {first_line(error)}; {RESTORE}") from None


def ranked(trials: Iterable[FrozenTrial], direction: str) -> list[FrozenTrial]:
    """Those that have begun, the best first."""
    sign = -1 if direction == "maximize" else 1
    began = [trial for trial in trials if trial.state in ORDER]
    return sorted(began, key=lambda t: (ORDER[t.state], math.inf if t.value is None else sign * t.value, t.number))


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The first of those that are `ranked`, where it is complete."""
    return trials[0] if trials and trials[0].state == TrialState.COMPLETE else None


def sorted_rows(said: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> tuple[list[Row], list[str]]:
    """The rows of the trials that `load` gave, the best first, and their columns."""
    search, space = said["search"], space_of(said)
    objective, began = search["objective"], ranked(trials, search["direction"])
    best = best_of(began)
    noise = binomial_error(float(best.value or 0), best.user_attrs.get("val_rows"), objective) if best else None
    found = []
    meant: dict[tuple[str, str], Any] = {}  # a choice's value, which Hydra's grammar takes its time for
    for trial in began:
        near = noise is not None and trial.state == TrialState.COMPLETE and _gap(trial, began[0]) <= noise
        state = INTERRUPTED if trial.user_attrs.get(INTERRUPTED) else STATES[trial.state]
        row: Row = {"trial": trial.number, "state": state, objective: trial.value}
        row["near_best"] = near if noise is not None else None
        for dimension in space:
            value = trial.params.get(dimension.key)
            if isinstance(dimension, Categorical) and value is not None:
                if (dimension.key, value) not in meant:
                    meant[dimension.key, value] = _meant(dimension, value, trial.number)
                value = meant[dimension.key, value]
            row[dimension.key] = value
        found.append(row | {name: trial.user_attrs.get(name) for name in AFTER})
    columns = [*BEFORE, objective, "near_best", *(d.key for d in space), *AFTER]
    return found, columns


def _meant(dimension: Categorical, text: Any, number: int) -> Any:
    try:
        return dimension.value(text)
    except ValueError as error:
        raise UserError(f"trial {number}: {dimension.key}: {text!r}: {error}; the study's storage is damaged") from None


def load(folder: Path, url: str | None = None) -> tuple[dict[str, Any], list[FrozenTrial]]:
    """What a study's folder says of it, and its own trials, numbered from 0; UserError where it is no study's.

    A trial whose process is gone has the attribute INTERRUPTED.
    """
    said = about(folder)
    known = OmegaConf.to_container(OmegaConf.create({"url": said["search"].get("storage")}), resolve=True)["url"]  # type: ignore[call-overload,index]
    if url is not None and stored(url) == stored(known):
        known = url
    study = _study(folder, known)
    with documents.judged(str(folder), "a search", RESTORE):
        words = study.user_attrs
        # Copied no deeper than they are changed here: of 10,000 trials a whole copy takes seconds.
        warm, trials = int(words.get("warm", 0)), [copy.copy(trial) for trial in study.get_trials(deepcopy=False)]
        for trial in trials:
            trial.number -= warm
            name = str(trial.user_attrs.get("owner", ""))
            if trial.state == TrialState.RUNNING and not owner.lives(folder, name, words.get(f"owner {name}")):
                trial.user_attrs = trial.user_attrs | {INTERRUPTED: True}
        return said, trials[warm:]


def attributes(folder: Path) -> dict[str, Any]:
    """What a study itself keeps beside its trials."""
    known = OmegaConf.create({"url": about(folder)["search"].get("storage")}).url
    return dict(_study(folder, known).user_attrs)


def _study(folder: Path, url: str | None) -> optuna.Study:
    storage = storage_of(folder, url)
    try:
        return optuna.load_study(study_name=name_in(storage, folder), storage=storage)
    except KeyError:
        remedy = "" if url is None else "; there, a study's folder keeps the name that it was made under"
        raise UserError(f"{folder}: its storage knows no study {folder.name}{remedy}") from None


def about(folder: Path) -> dict[str, Any]:
    """study.yaml: `configs`, `overrides`, and the `search` node."""
    path = folder / ABOUT
    if not path.is_file():
        near = ", ".join(sorted(str(p.parent) for f in (folder, folder.parent) for p in f.glob(f"*/{ABOUT}"))[:6])
        remedy = f"there are {near}; name one" if near else "give studies/NAME, or the folder of a run"
        raise UserError(f"{folder}: holds no study; {remedy}")
    content = Folder(str(folder), "study").read(ABOUT) or b""
    found = documents.of_yaml(content, str(path), "a search", RESTORE)
    try:
        TypeAdapter(About).validate_python(found, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        at, why = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Input ")
        raise documents.NotWritten(f"{path}: is not what a search writes: {at}: {why}; {RESTORE}") from None
    return found


def configs_of(folder: Path, said: Mapping[str, Any], overrides: Sequence[str] = ()) -> Configs:
    """The configs that a study was made of, wherever it is looked at from."""
    where = said["configs"]
    home, *extra = (str((folder / path).resolve()) for path in (where["folder"], *where["extra"]))
    if not (Path(home) / f"{Path(where['name']).stem}.yaml").is_file():
        raise UserError(
            f"{folder / ABOUT}: configs.folder: {home} holds no {where['name']}.yaml; the project has moved"
        )
    return Configs(home, where["name"], tuple(extra), tuple(overrides))


def counts(states: Iterable[str]) -> Mapping[str, int]:
    """How many trials are in each state."""
    return Counter(states)


def csv_text(found: list[Row], columns: list[str]) -> str:
    """The rows as trials.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def _gap(trial: FrozenTrial, best: FrozenTrial) -> float:
    assert trial.value is not None
    assert best.value is not None
    return abs(best.value - trial.value)
