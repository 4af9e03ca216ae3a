"""One row an epoch: losses, metrics, learning rate, seconds."""

import csv
import io
import time
from typing import Any

import pytorch_lightning as pl

STEP = "step"  # what tells Lightning's loggers the epoch, and is no metric
FIRST = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "learning_rate", "seconds")


class History(pl.Callback):
    """Collect what each epoch logged; `to_csv` is eval_history.csv.

    learning_rate is what the epoch was trained with; a metric that an epoch lacks is left empty.
    """

    def __init__(self) -> None:
        self.by_epoch: dict[int, dict[str, Any]] = {}
        self._began = 0.0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict an epoch that was validated or completed, by column name."""
        return list(self.by_epoch.values())

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        self._rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else ""
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._validated = True
            self._note(trainer)  # a signal may come before the epoch's end

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._note(trainer)

    def _note(self, trainer: pl.Trainer) -> None:
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name != STEP
            and (self._validated or not name.startswith("validation_"))  # which may be an earlier epoch's
        }
        epoch, seconds = trainer.current_epoch + 1, round(time.perf_counter() - self._began, 6)
        self.by_epoch[epoch] = {"epoch": epoch, **metrics, "learning_rate": self._rate, "seconds": seconds}

    def state_dict(self) -> dict[str, Any]:
        began = (self._rate, self._validated, time.perf_counter() - self._began) if self._began else None
        return {"rows": list(self.by_epoch.values()), "began": began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.by_epoch = {row["epoch"]: row for row in state_dict["rows"]}
        if state_dict["began"]:
            self._rate, self._validated, seconds = state_dict["began"]
            self._began = time.perf_counter() - seconds

    def column(self, name: str) -> list[float]:
        """A column's values, without the epochs that lack it."""
        return [row[name] for row in self.rows if name in row]

    def to_csv(self) -> str:
        """The rows, the well-known columns first."""
        names = {name: None for row in self.rows for name in row}
        columns = [*FIRST, *sorted(name for name in names if name not in FIRST)]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()
