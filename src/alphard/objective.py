"""The objective, reported: to stdout, to Vertex AI's metric file, and to whoever else listens.

Only rank zero reports, and only finite values: a tuner must never see a number that the weights do not have.
"""

import contextlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from alphard.check import nearest
from alphard.errors import Pruned, TrainingError, UserError
from alphard.storage import is_url, make

Listener = Callable[[int, float], bool | None]  # step counted from 1, objective; True ends the run
METRIC_FILE = "/tmp/hypertune/output.metrics"  # noqa: S108  where Vertex AI's agent looks
WATCHED = ("CLOUD_ML_HP_METRIC_FILE", "CLOUD_ML_TRIAL_ID", "CLOUD_ML_JOB_ID", "AIP_MODEL_DIR")
LINES = 100  # what cloudml-hypertune keeps of them


class MetricFile:
    """Vertex AI's metric file, in the format of cloudml-hypertune: one JSON object a line, values as strings.

    Written in place, all lines in one write, for the agent may follow the open file.
    """

    def __init__(self, path: Path, trial: str) -> None:
        self.path, self.trial = path, trial
        self.lines: deque[str] = deque(maxlen=LINES)
        self.last = -1

    @classmethod
    def of_environment(cls) -> "MetricFile | None":
        """The file that the environment names, or None on a machine that no cloud tuner watches."""
        if not any(os.environ.get(name) for name in WATCHED):
            return None
        path = os.environ.get("CLOUD_ML_HP_METRIC_FILE") or METRIC_FILE
        if is_url(path):
            said = "is a URL; the tuner's agent reads a file on this machine, as in"
            raise UserError(f"CLOUD_ML_HP_METRIC_FILE: {path}: {said} {METRIC_FILE}")
        return cls(Path(path), os.environ.get("CLOUD_ML_TRIAL_ID") or "0")

    def must_be_writable(self) -> None:
        """Raise UserError unless the file can be written; leaves nothing behind that was not there."""
        if self.path.is_dir():
            raise UserError(f"CLOUD_ML_HP_METRIC_FILE: {self.path} is a folder; name a file")
        try:
            made, new = make(self.path.parent), not self.path.exists()
            self.path.open("a").close()
            if new:
                self.path.unlink()
            for folder in made:
                folder.rmdir()
        except OSError as error:
            raise UserError(f"CLOUD_ML_HP_METRIC_FILE: {self.path} cannot be written: {error.strerror}") from None

    def go_on(self) -> None:
        """Keep the lines of this trial that an earlier process has written, and repeat none of their steps."""
        try:
            written = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in written:
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # no line of ours
                told = json.loads(line)
                if told["trial"] == self.trial:
                    self.last = max(self.last, int(told["global_step"]))
                    self.lines.append(f"{line}\n")

    def report(self, tag: str, value: float, step: int) -> None:
        """Add one measurement; none at a step that was reported before this process began."""
        if step <= self.last:
            return
        line = {
            "timestamp": time.time(),
            "trial": self.trial,
            tag: str(float(value)),
            "global_step": str(step),
            "checkpoint_path": "",
        }
        self.lines.append(json.dumps(line, sort_keys=True) + "\n")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(self.lines))
        except OSError as error:
            raise TrainingError(f"CLOUD_ML_HP_METRIC_FILE: {self.path} cannot be written: {error.strerror}") from None


class Reporter(pl.Callback):
    """Report after every validation; stop a run whose objective is no number.

    objective: the metric's name; refused after one validation batch, before the first step, if the model never logs it.
    lines:     print `name: value` lines; off where a progress bar shows them.
    listeners: called with step and value, on rank zero.

    A step is an epoch, counted from 1; where an epoch is validated several times, steps run ahead rather than repeat.
    """

    def __init__(self, objective: str, lines: bool, listeners: tuple[Listener, ...] = ()) -> None:
        self.objective, self.lines, self.listeners = objective, lines, listeners
        self.file = MetricFile.of_environment()
        self.step = 0

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._must_be_logged(trainer)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str) and not monitor.startswith("train"):  # those are logged later
                self._must_be_logged(trainer, monitor, f"callbacks: {type(callback).__name__}.monitor")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._must_be_logged(trainer)
        epoch = trainer.current_epoch + 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if (why := diverged(metrics, self.objective, epoch)) is not None:
            raise TrainingError(why)
        if not trainer.is_global_zero:
            return
        self.step = max(self.step + 1, epoch)
        if self.lines:
            print(f"epoch: {epoch}")
            say(metrics, self.objective)
        if self.file:
            self.file.report(self.objective, metrics[self.objective], self.step)
        answers = [listen(self.step, metrics[self.objective]) for listen in self.listeners]  # all are told
        if any(answers):
            raise Pruned

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step = state_dict["step"]

    def go_on(self) -> None:
        """An earlier process of this run has reported here."""
        if self.file:
            self.file.go_on()

    def must_be_heard(self) -> None:
        """Raise UserError, before training, where the metric file cannot be written."""
        if self.file:
            self.file.must_be_writable()

    def must_be_finite(self, metrics: dict[str, float]) -> None:
        """Raise TrainingError where the kept weights' objective is no number."""
        if not math.isfinite(metrics[self.objective]):
            raise TrainingError(f"{self.objective}: {metrics[self.objective]} with the weights that are kept")

    def final(self, metrics: dict[str, float], epochs: int) -> None:
        """Report the kept weights' own value, one step after the last of `epochs`, and print it last of all."""
        self.must_be_finite(metrics)
        if self.file:
            self.file.report(self.objective, metrics[self.objective], max(self.step, epochs) + 1)
        say(metrics, self.objective)

    def again(self, metrics: Mapping[str, float | None], epochs: int) -> None:
        """Report a finished run's value as `final` did, also to those who heard none of its epochs."""
        value = metrics[self.objective]
        assert value is not None, "a run is finished with a finite objective"
        if self.file:
            self.file.report(self.objective, value, epochs + 1)
        for listen in self.listeners:
            listen(epochs + 1, value)
        say(metrics, self.objective)

    def _must_be_logged(self, trainer: pl.Trainer, name: str | None = None, at: str = "objective") -> None:
        name = name or self.objective
        if name not in trainer.callback_metrics:
            logged = sorted(trainer.callback_metrics)
            near = nearest(name, logged) or "."
            said = f"{at}: the model logs no {name} at validation{near}"
            raise UserError(f"{said} It logs {', '.join(logged) or 'nothing'}")


def diverged(metrics: Mapping[str, float], objective: str, epoch: int) -> str | None:
    """Why a training ends whose objective or loss is no number; None for one that goes on."""
    for name in (objective, "validation_loss"):
        if not math.isfinite(metrics.get(name, 0.0)):
            said = "training diverged.  A smaller learning_rate may help, or trainer.gradient_clip_val"
            return f"{name}: {metrics[name]} in epoch {epoch}; {said}"
    return None


def say(metrics: Mapping[str, float | None], objective: str) -> None:
    """Print validation metrics, the objective last, six decimals, flushed: other programs read these lines."""
    names = sorted(name for name in metrics if name.startswith("validation_") and name != objective)
    for name in (*names, objective):
        value = metrics[name]
        print(f"{name}: {math.nan if value is None else value:.6f}", flush=name == objective)
