"""report.html of one run: its learning curves, confusion matrix, calibration and ROC, from the files that it left."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from alphard import artifacts, documents, files, page
from alphard.curves import Curves
from alphard.errors import UserError
from alphard.page import Drawing, Page, Section
from alphard.progress import SHOWN, conclude
from alphard.storage import Folder

LEAN = "a search's trials leave none; alphard retrain, or this trial's own line, leaves them"
SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Left:
    """What a run left: metrics.json, which an unfinished one lacks, a dict an epoch, its curves, and its config."""

    name: str
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    points: Mapping[str, Any]
    config: Any

    @property
    def classes(self) -> list[str]:
        """The classes' names."""
        return [str(name) for name in self.metrics.get("classes") or []]


def holds_run(folder: Folder) -> bool:
    """Whether a run has written to `folder`."""
    return folder.read(artifacts.CONFIG) is not None and any(
        folder.read(name) is not None for name in (artifacts.METRICS, artifacts.HISTORY)
    )


def read(folder: Folder) -> Left:
    """What the run in `folder` left.  Raises UserError for a file that no run writes."""
    metrics, config, history = map(folder.read, (artifacts.METRICS, artifacts.CONFIG, artifacts.HISTORY))
    known = {} if metrics is None else documents.of_json(metrics, folder.uri(artifacts.METRICS))
    stated = {} if config is None else documents.config(config, folder.uri(artifacts.CONFIG))
    rows = [] if history is None else _epochs(history, folder.uri(artifacts.HISTORY))
    name = "/".join(folder.path.rstrip("/").split("/")[-2:])
    return Left(name, known, rows, artifacts.points(folder), OmegaConf.to_container(stated, resolve=False))


def show(folder: Folder) -> None:
    """Print what the run in `folder` scored, and leave report.html beside it."""
    left = read(folder)
    content = None
    if page.drawable():
        with documents.judged(folder.path, "a run", documents.TRAIN):
            content = _page(left).to_html()
    if left.metrics:
        with documents.judged(folder.path, "a run", documents.TRAIN):
            conclude(dict(left.metrics), folder)
    else:
        print(f"{folder.path}: this run has not come to its end, or its search ended it early")
    print(page.UNDRAWN if content is None else f"report: {folder.write(page.FILE, content)}")


def _epochs(content: bytes, where: str) -> list[dict[str, float]]:
    try:
        return files.epochs(content.decode())
    except (ValueError, TypeError, csv.Error) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"{where}: is not what a run writes: {why}; {documents.TRAIN}") from None


def _page(left: Left) -> Page:
    metrics, config = left.metrics, left.config
    choices = f"seed {config.get('seed')}, learning rate {config.get('learning_rate')}"
    state = "" if metrics else "; it has not come to its end"
    if stopped := metrics.get("stopped_by"):
        state = f"; stopped by {stopped}, the weights are those of then"
    sections = [_learning(left), _scores(left), *(_of_split(left, split) for split in SPLITS), _settings(left)]
    facts = [(name, f"{metrics[key]:.4f}") for name, key in _shown(metrics) if isinstance(metrics.get(key), float)]
    if left.history:
        facts.append(("epochs", f"{len(left.history)} of at most {config.get('epochs', '?')}"))
    lead = f"A training by alphard: {choices}{state}."
    return Page(f"Run {left.name}", lead, facts, [section for section in sections if section])


def _shown(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = [("validation accuracy", "validation_accuracy"), ("validation loss", "validation_loss")]
    return [*known, ("test accuracy", "test_accuracy")] if "test_accuracy" in metrics else known


def _learning(left: Left) -> Section:
    if not left.history:
        return Section("Learning curves", f"Not drawn: there is no {artifacts.HISTORY}.")
    from alphard import run_figures

    best = left.metrics.get("best_epoch")
    kept = "best" if left.metrics.get("restore_best") else "last"
    words = f"Best was epoch {best}; the {kept} epoch's weights are kept." if best else ""
    drawings = run_figures.learning(left.history, best)
    return Section("Learning curves", words, drawings, columns=max(2, min(3, len(drawings))))


def _scores(left: Left) -> Section | None:
    splits = [split for split in SPLITS if f"{split}_accuracy" in left.metrics]
    if not splits:
        return None
    names = [name for name in SHOWN if any(left.metrics.get(f"{split}_{name}") is not None for split in splits)]
    counts = {"validation": left.metrics.get("val_rows"), "test": left.metrics.get("test_rows")}
    scored = {"": left.metrics, **(left.metrics.get("baselines") or {})}
    rows = [
        [f"{split}, {model}" if model else split, counts[split], *(found.get(f"{split}_{name}") for name in names)]
        for split in splits
        for model, found in scored.items()
    ]
    words = (
        "Loss in nats per row; precision, recall and F1 are macro means over the classes, AUROC one against the rest."
    )
    header = ["split", "rows", *(name.replace("_", " ") for name in names)]
    return Section("Scores", words, more=page.table(header, rows))


def _of_split(left: Left, split: str) -> Section | None:
    """Confusion matrix, calibration and ROC, and in words which of them cannot be drawn, and why."""
    if split == "test" and "test_accuracy" not in left.metrics:
        return None
    from alphard import run_figures

    matrix, points = left.metrics.get(f"{split}_confusion_matrix"), _sound(left.points.get(split))
    drawings: list[Drawing] = []
    said: list[str] = []
    if matrix:
        drawings.append(run_figures.confusion(matrix, left.classes, split))
    if points:
        error = left.metrics.get(f"{split}_calibration_error")
        drawings.append(run_figures.calibration(points["calibration"], error, split))
        curves, missing = run_figures.roc(points["roc"], left.classes, split)
        drawings += curves
        said += [f"No ROC for {', '.join(missing)}: none of the rows is of it, or all are."] if missing else []
    if not matrix and not points:
        said.append(f"Neither confusion matrix, calibration nor ROC is drawn: {_why_lean(left)}.")
    elif not points:
        said.append(f"Calibration and ROC are not drawn: this run left no {artifacts.POINTS}, which newer ones do.")
    elif not matrix:
        said.append(f"The confusion matrix is not drawn: {artifacts.METRICS} holds none.")
    rows = left.metrics.get("val_rows" if split == "validation" else "test_rows")
    words = f"{rows} rows, by the weights that were kept. {' '.join(said)}" if rows else " ".join(said)
    return Section(
        f"On the {split} split", words, drawings, columns=3 if len(left.classes) <= run_figures.BESIDE else 2
    )


def _sound(points: Any) -> Curves | None:
    """A split's curves; None where there are none, or none that a run wrote."""
    try:
        return TypeAdapter(Curves).validate_python(points)
    except ValidationError:
        return None


def _why_lean(left: Left) -> str:
    return LEAN if left.metrics else "the run has not come to its end"


def _settings(left: Left) -> Section:
    known = left.metrics
    names = ("train_rows", "val_rows", "test_rows", "features", "device", "threads", "best_epoch", "stopped_epoch")
    rows = [(name.replace("_", " "), known[name]) for name in names if known.get(name) is not None]
    rows += [("classes", ", ".join(left.classes))] if left.classes else []
    rows.append(("drawn by", page.versions()))
    config = yaml.safe_dump(page.unveiled(left.config), sort_keys=False, allow_unicode=True)
    return Section("Settings", "", more=page.pairs(rows) + page.folded("config.yaml", config))
