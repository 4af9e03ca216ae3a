"""What a person sees: a bar while training lasts, a table at the end."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from alphard import tables
from alphard.noise import rows_line
from alphard.storage import Folder

ROWS = {"validation": "val_rows", "test": "test_rows"}
SHOWN = ("accuracy", "loss", "precision", "recall", "f1", "auroc", "calibration_error")
BESIDE = ("accuracy", "balanced_accuracy", "loss")  # of baselines, on each split


class Progress(pl.Callback):
    """One bar over all epochs, with loss, accuracy and objective, on a terminal only; elsewhere nothing."""

    def __init__(self, epochs: int, objective: str) -> None:
        self.shown = sys.stdout.isatty()
        self.epochs = epochs
        self.names = {"validation_loss", "validation_accuracy", objective}
        self.bar: Bar | None = None

    def __enter__(self) -> "Progress":
        if self.shown:
            # The original stream: a bar's redrawing is nothing for a log.
            self.bar = Bar(
                TextColumn("epoch"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=Console(file=sys.__stdout__),
                transient=True,
            )
            self.task = self.bar.add_task("", total=self.epochs)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar:
            said = [f"{n} {float(v):.4f}" for n, v in trainer.callback_metrics.items() if n in self.names]
            self.bar.update(self.task, completed=trainer.current_epoch + 1, description="  ".join(said))


def conclude(metrics: dict[str, Any], folder: Folder, table: bool = True) -> None:
    """Print the table of results, where it is wanted, and where the artifacts lie."""
    splits = [split for split in ROWS if f"{split}_accuracy" in metrics]
    if splits and table:
        tables.show(_scores(metrics, splits))
    if metrics.get("baselines"):
        show_baselines({"this run": metrics}, metrics)
        for split, accuracy in zip(splits, (f"{split}_accuracy" for split in splits), strict=True):
            print(rows_line(split, metrics[ROWS[split]], metrics[accuracy], accuracy))
    if metrics.get("test_rows") and "test" not in splits:
        print(f"test split: {metrics['test_rows']} rows, sealed; score_test=true opens it")
    kept = "best" if metrics.get("restore_best") else "last"
    trained, best = metrics.get("stopped_epoch"), metrics.get("best_epoch")
    print(f"epochs: {trained} trained, best was {best}, the {kept} weights are kept")
    print(f"artifacts: {folder.path}")
    if folder.local:
        print(f"  {'  '.join(sorted(path.name for path in folder.local.iterdir() if not path.name.startswith('.')))}")
        print(f"repeat: python {_script()} --config-path={shlex.quote(str(folder.local))} --config-name=config")


def show_baselines(own: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Any]) -> None:
    """Print `own` scores, each under its name, beside the baselines in a run's `metrics`."""
    baselines = metrics["baselines"]
    possible = [f"{split}_{name}" for split in ROWS for name in BESIDE]
    columns = [column for column in possible if all(column in each for each in (metrics, *baselines.values()))]
    table = Table("", *columns)
    for name, found in {**own, **baselines}.items():
        values = (found.get(column) for column in columns)
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    tables.show(table)


def _scores(metrics: dict[str, Any], splits: list[str]) -> Table:
    table = Table("metric", *splits)
    for name in SHOWN:
        values = [metrics.get(f"{split}_{name}") for split in splits]
        if any(value is not None for value in values):
            table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    table.add_row("rows", *(str(metrics.get(ROWS[split])) for split in splits))
    return table


def _script() -> str:
    """train.py, by a path that leads to it from here."""
    script = Path(sys.argv[0]).absolute()
    here = script.name != "train.py" or script.parent == Path.cwd()
    return "train.py" if here else shlex.quote(str(script))
