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
from omegaconf import DictConfig, OmegaConf

from alphard import artifacts, build, scores, signals
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
    listeners:    called with step (from 1) and objective after each validation.
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
    OmegaConf.update(config, "threads", torch.get_num_threads(), force_add=True)
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
        # What is reported has been kept: a signal may come between the two.
        callbacks = [_Start(self.begin), self.history, *own, self.reporter, self.progress]
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
            print(f"{signal}: keeping the {which}; writing takes a few seconds", flush=True)
        _leave_process_group(stopped)
        with signals.held():
            if self.best is not None:
                self.best.put_back(self.model)
            logged = scores.logged(self.model, self.data, self.trainer.strategy.root_device)
            metrics = self._keep(logged, stopped)
            conclude(metrics, self.folder)
            self.reporter.final(logged, len(self.history.rows))
        if stopped:
            self._upload()
            raise stopped
        return Result(metrics, self.folder.path)

    def _keep(self, logged: dict[str, float], stopped: Interrupted | None) -> dict[str, Any]:
        """Write every artifact, metrics.json last."""
        from alphard import plots

        write = self.folder.write
        model_uri = write(artifacts.MODEL, artifacts.state(self.model))
        write(artifacts.HISTORY, self.history.to_csv().encode())
        write("learning_curves.png", plots.learning_curves(self.history))
        splits = self.data.splits if isinstance(self.data, TableData) else None
        if splits and splits.preprocessing is not None:
            write(preprocessing.FILE, preprocessing.dumps(splits.preprocessing))
        reports = scores.reports(self.model, self.data, self.score_test)
        if splits and "validation_confusion_matrix" in reports:
            matrix = reports["validation_confusion_matrix"]
            write("confusion_matrix.png", plots.confusion_matrix(matrix, splits.classes))
        about = scores.summary(self.config, self.data, self.history, self.best, logged)
        metrics = logged | about | reports | {"model_uri": model_uri}
        metrics |= {
            "logged": sorted(logged),
            "device": str(self.trainer.strategy.root_device),
            "stopped_by": str(stopped) if stopped else None,
        }
        write(artifacts.METRICS, artifacts.metrics_json(metrics))
        return metrics

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
