"""One training run: a config in, a Result out; the only place that instantiates."""

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from alphard import artifacts, build, evaluation, signals
from alphard.data import TableData, preprocessing
from alphard.errors import Interrupted
from alphard.history import History
from alphard.log import Log
from alphard.models import BestWeights
from alphard.objective import Listener, Reporter, say
from alphard.progress import Progress, conclude
from alphard.quiet import quiet
from alphard.storage import Folder
from alphard.types import Count, NonNegative, Positive, Seed, Whole

GROUPS = {"data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger"}


@dataclass
class Result:
    """What a run found: its metrics (those of metrics.json), and the folder where its artifacts lie."""

    metrics: dict[str, Any]
    folder: str


def run(
    config: DictConfig,
    home: str,
    listeners: tuple[Listener, ...] = (),
    *,
    seed: Seed,
    epochs: Count,
    batch_size: Count | None,
    learning_rate: Positive,
    weight_decay: NonNegative,
    patience: Whole,
    min_delta: NonNegative,
    restore_best: bool,
    threads: Count | None = None,
    objective: str = "validation_accuracy",
    score_test: bool = False,
    output_dir: str | None = None,
    overwrite: bool = False,
    debug: bool = False,
) -> Result:
    """Train what `config` says, and leave its artifacts in one folder.

    The keyword-only parameters are the settings at the config's root; check.py holds the config against them.

    home:         the folder where neither `output_dir` nor AIP_MODEL_DIR names one.
    listeners:    called with epoch (from 1) and objective after each validation.
    epochs:       at most.
    patience:     epochs without a better validation_loss before training stops.
    min_delta:    what counts as better, in nats.
    threads:      CPU threads of torch; None keeps what torch chose, and writes that number into the config.
    score_test:   open the test split once, at the end.
    output_dir:   folder or URL.

    Raises UserError before the first optimizer step for what the user can mend, TrainingError for a run that
    diverged or could not be written, Interrupted for SIGINT and SIGTERM, then with the artifacts of the best weights.
    """
    torch.set_num_threads(threads or torch.get_num_threads())
    config.threads = torch.get_num_threads()
    folder = Folder(output_dir or os.environ.get("AIP_MODEL_DIR") or home)
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    done = artifacts.finished(folder, config, overwrite) if rank == 0 else None
    if done is not None:
        print(f"{folder.path} holds this config's finished run; overwrite=true trains it again")
        conclude(done, folder)
        say({name: done[name] for name in done["logged"]}, objective)
        return Result(done, folder.path)
    if rank == 0:
        folder.must_be_writable()
    with environment_kept(), quiet(), tempfile.TemporaryDirectory(prefix="alphard-") as scratch:
        return _Run(config, folder, folder.local or Path(scratch), objective, listeners, score_test).train(rank)


def settings_of(config: DictConfig) -> dict[str, Any]:
    """The keyword arguments of `run` that stand at the config's root."""
    return {name: config[name] for name in inspect.signature(run).parameters if name in config}


@contextmanager
def environment_kept() -> Iterator[None]:
    """Undo what Lightning leaves in the environment, which would tell a next run that it is rank 0 of this one."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Run:
    """One run's parts, built in the order in which a mistake costs least."""

    def __init__(
        self,
        config: DictConfig,
        folder: Folder,
        local: Path,
        objective: str,
        listeners: tuple[Listener, ...],
        score_test: bool,
    ) -> None:
        # Hydra's instantiate resolves what a reference leads to, in place; config.yaml keeps the references.
        self.composed, self.config = config, config.copy()
        config = self.config
        self.folder, self.local, self.score_test = folder, local, score_test
        pl.seed_everything(config.seed, verbose=False)
        self.log = Log()
        self.history = History()
        self.progress = Progress(config.epochs)
        self.reporter = Reporter(objective, not self.progress.shown, listeners)
        own = build.callbacks_of(config)
        self.best = next((callback for callback in own if isinstance(callback, BestWeights)), None)
        callbacks = [_Start(self.begin), self.reporter, self.history, self.progress, *own]
        self.trainer = build.trainer_of(config, callbacks, self.local / "logs")
        self.data = build.data_of(config)
        facts = self.data.facts if isinstance(self.data, TableData) else getattr(self.data, "facts", {})
        if score_test:
            self.data.test_dataloader()  # says now, and not after training, that there is none
        self.model = build.model_of(config, facts)

    def train(self, rank: int) -> Result:
        if rank:  # Lightning started this process to train with rank 0, which tells the rest
            self.trainer.fit(self.model, datamodule=self.data)
            _leave_process_group(None)
            return Result({}, self.folder.path)
        with self.log:
            result = self._fit_and_keep()
        self._upload()
        return result

    def begin(self) -> None:
        """All that could be refused was not: from here on the folder is this run's."""
        artifacts.claim(self.folder, self.composed)
        self.local.mkdir(parents=True, exist_ok=True)
        self.log.open(self.local / artifacts.LOG)

    def _fit_and_keep(self) -> Result:
        stopped: Interrupted | None = None
        try:
            with self.progress:
                self.trainer.fit(self.model, datamodule=self.data)
        except Interrupted as signal:
            stopped = signal
            if not self.trainer.global_step:
                print(f"{signal}: stopped before the first step; there is nothing to keep", flush=True)
                raise
            best = self.best.epoch if self.best else 0
            which = f"best weights so far, of epoch {best}" if best else "weights as they are"
            print(f"{signal}: keeping the {which}", flush=True)
        _leave_process_group(stopped)
        with signals.held():
            if self.best is not None:
                self.best.put_back(self.model)
            scores = self._scores()
            metrics = self._keep(scores, stopped)
            conclude(metrics, self.folder)
            self.reporter.final(scores, len(self.history.rows))
        if stopped:
            self._upload()
            raise stopped
        return Result(metrics, self.folder.path)

    def _keep(self, scores: dict[str, float], stopped: Interrupted | None) -> dict[str, Any]:
        """Write every artifact, metrics.json last."""
        from alphard import plots

        write = self.folder.write
        model_uri = write(artifacts.MODEL, artifacts.state(self.model))
        write(artifacts.HISTORY, self.history.to_csv().encode())
        write("learning_curves.png", plots.learning_curves(self.history))
        splits = self.data.splits if isinstance(self.data, TableData) else None
        if splits and splits.preprocessing is not None:
            write(preprocessing.FILE, preprocessing.dumps(splits.preprocessing))
        reports = self._reports()
        if splits and "validation_confusion_matrix" in reports:
            matrix = reports["validation_confusion_matrix"]
            write("confusion_matrix.png", plots.confusion_matrix(matrix, splits.classes))
        metrics = scores | self._summary(scores) | reports | {"model_uri": model_uri}
        metrics |= {"logged": sorted(scores), "stopped_by": str(stopped) if stopped else None}
        write(artifacts.METRICS, artifacts.metrics_json(metrics))
        return metrics

    def _scores(self) -> dict[str, float]:
        """What the model logs at validation, anew, with the weights that are kept, on one device."""
        device = self.trainer.strategy.root_device
        judge = build.judge_on("cpu" if device.type == "cpu" else "gpu")
        self.model.trainer = None  # Lightning's way to let go of a trainer
        self.data.trainer = judge
        judge.validate(self.model, datamodule=self.data, verbose=False)
        return {name: float(value) for name, value in judge.callback_metrics.items()}

    def _reports(self) -> dict[str, Any]:
        """The full report of validation and, where it is opened, test; none for a model that returns no logits."""
        if not isinstance(self.data, TableData):
            return {}
        self.model.to(self.data.trainer.strategy.root_device if self.data.trainer else "cpu")
        loaders = {"validation": self.data.val_dataloader()}
        if self.score_test:
            loaders["test"] = self.data.test_dataloader()
        found: dict[str, Any] = {}
        for name, loader in loaders.items():
            pair = evaluation.logits_of(self.model, loader)
            if pair is None:
                return {}
            found |= {f"{name}_{key}": value for key, value in evaluation.report(*pair).items()}
        # The model's own words for its loss and accuracy stand.
        return {name: value for name, value in found.items() if name not in ("validation_loss", "validation_accuracy")}

    def _summary(self, scores: dict[str, float]) -> dict[str, Any]:
        """metrics.json's well-known names."""
        config, losses = self.config, self.history.column("validation_loss")
        best = self.best.epoch or None if self.best else losses.index(min(losses)) + 1 if losses else None
        about = {
            "final_val_loss": scores.get("validation_loss"),
            "final_val_accuracy": scores.get("validation_accuracy"),
            "best_val_loss": min(losses, default=None),
            "best_epoch": best,
            "stopped_epoch": len(self.history.rows),
            "patience": config.patience,
            "min_delta": config.min_delta,
            "restore_best": config.restore_best,
            "max_epochs_requested": config.epochs,
            "learning_rate": config.learning_rate,
            "seed": config.seed,
            "threads": config.threads,
            "device": str(self.trainer.strategy.root_device),
        }
        if isinstance(self.data, TableData):
            splits = self.data.splits
            about |= {
                "train_rows": len(splits.train),
                "val_rows": len(splits.validation),
                "test_rows": len(splits.test) if splits.test else 0,
                "features": splits.train.X.shape[1],
                "feature_names": splits.feature_names,
                "classes": splits.classes,
            }
        return about

    def _upload(self) -> None:
        """To a folder elsewhere: what loggers wrote, and the log, complete only now."""
        if self.folder.local is None:
            for path in sorted(self.local.rglob("*")):
                if path.is_file():
                    self.folder.write(path.relative_to(self.local).as_posix(), path.read_bytes())


class _Start(pl.Callback):
    """Calls `begin` before the first step, and takes SIGTERM back from Lightning, whose handler ends in exit 0."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.listen()
        if trainer.is_global_zero:
            self.begin()


def _leave_process_group(stopped: Interrupted | None) -> None:
    """After this, rank zero works alone, and nothing that it computes waits for the others."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if not stopped:
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()
