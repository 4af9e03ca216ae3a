"""A training, from its parts to its artifacts; the only place that instantiates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from alphard import artifacts, baselines, build, cluster, rescue, scores, signals
from alphard.copies import Copies, Made
from alphard.curves import to_json
from alphard.data import TableData, kept
from alphard.errors import Interrupted, Pruned, TrainingError, UserError
from alphard.fingerprint import resolved_sha256
from alphard.history import History
from alphard.hooks import LastStep, Start
from alphard.in_one_go import InOneGo
from alphard.log import Log
from alphard.mlflow_store import Place
from alphard.models import BestWeights
from alphard.objective import Reporter
from alphard.progress import Progress, conclude
from alphard.resume import Checkpoints
from alphard.storage import Folder
from alphard.tracking import Tracking
from alphard.unmoved import Unmoved


@dataclass
class Result:
    """What a run found: its metrics (those of metrics.json), and the folder where its artifacts lie."""

    metrics: dict[str, Any]
    folder: str


class Training:
    """A run's parts, built in the order in which a mistake costs least."""

    def __init__(
        self,
        config: DictConfig,
        folder: Folder,
        local: Path,
        reporter: Reporter,
        score_test: bool = False,
        with_baselines: bool = False,
        lean: bool = False,
        logs: Made | None = None,
        place: Place | None = None,
        checkpoints: Checkpoints | None = None,
        spare: Path | None = None,
    ) -> None:
        self.config = config
        self.folder, self.local, self.reporter = folder, local, reporter
        self.score_test, self.baselines, self.lean = score_test, with_baselines and not lean, lean
        self.checkpoints, self.resumed = checkpoints, bool(checkpoints and checkpoints.state)
        self.spare = spare  # where a run is kept whose folder cannot be written
        self.made: tuple[dict[str, Any], dict[str, Any]] | None = None  # metrics and curves, from the end on
        self.copies = Copies(Made(folder, local), *([logs] if logs else []))
        pl.seed_everything(config.seed, verbose=False)
        self.log = Log()
        self.history = History()
        self.progress = Progress(config.epochs, config.objective)
        own = build.callbacks_of(config)
        own.sort(key=lambda callback: not isinstance(callback, BestWeights))  # before what swaps weights at validation
        self.best = next((callback for callback in own if isinstance(callback, BestWeights)), None)
        cut = [LastStep()] if (config.trainer.get("max_steps") or 0) > 0 else []
        there = logs.local if logs else local / "logs"
        params, loggers = place.params if place else {}, self.loggers(there, place)
        self.tracking = Tracking(config, loggers, params, folder, there, self.history, self.resumed)
        # What is reported has been kept: a signal may come between the two.
        callbacks: list[pl.Callback] = [self.tracking, Start(self.begin), self.copies, self.history, *own]
        callbacks += [self.reporter, self.progress, *cut]
        last = [checkpoints.steps] if checkpoints else []
        callbacks += [Unmoved(), InOneGo(*last), *last]
        if checkpoints:
            callbacks = [checkpoints, *callbacks]
            checkpoints.rows = self.rows
        self.trainer = build.trainer_of(config, callbacks, local, [*self.tracking.loggers.values()])
        self.progress.shown &= self.trainer.progress_bar_callback is None  # there is one terminal
        self.data = build.data_of(config, shared=lean)
        facts = self.data.facts if isinstance(self.data, TableData) else getattr(self.data, "facts", {})
        if score_test:
            self.data.test_dataloader()  # says now, and not after training, that there is none
        if self.baselines and not isinstance(self.data, TableData):
            said = "fitted on the rows of alphard.data.TableData; this data module has none to show"
            raise UserError(f"baselines: true: they are {said}")
        self.model = build.model_of(config, facts)

    def loggers(self, there: Path, place: Place | None) -> dict[str, Logger]:
        """Those that hear of it, by config path; `there` is where they write."""
        return build.loggers_of(self.config, there, place)

    def train(self) -> Result:
        if self.checkpoints:
            self.checkpoints.must_fit_rows()
        try:
            with self.copies, self.log, self.tracking:
                return self._fit_and_keep()
        except TrainingError as error:
            if self.made is None or self.spare is None:
                raise
            trees = {"" if each.local == self.local else "logs": each.local for each in self.copies.folders}
            raise rescue.kept(error, self.folder, self._all, trees, self.spare) from error

    def _all(self) -> Iterator[tuple[str, bytes]]:
        """Every artifact, metrics.json last."""
        assert self.made is not None, "a run that has ended"
        metrics, curves = self.made
        yield from self._files(metrics, curves)
        yield artifacts.CONFIG, artifacts.config_yaml(self.config)
        log = self.local / artifacts.LOG
        yield artifacts.LOG, (log.read_bytes() if log.exists() else b"") + self.log.lost
        yield artifacts.METRICS, artifacts.metrics_json(metrics)

    def rows(self) -> int | None:
        """A digest of all rows, where they are a table's."""
        return kept.digest(self.data.splits) if isinstance(self.data, TableData) else None

    def follow(self) -> Result:
        self._fit()
        cluster.leave_process_group(self.trainer, None)
        return Result({}, self.folder.path)

    def complete(self, done: dict[str, Any], lacking: Sequence[str]) -> dict[str, Any]:
        """A finished run's metrics with what is asked of it now: the report of the test split, by the weights that it
        kept, and baselines.
        """
        found: dict[str, Any] = {}
        if "score_test" in lacking:
            judge = build.judge_like(self.trainer)
            artifacts.load(self.folder, judge.precision_plugin.convert_module(self.model))
            found, curves = scores.reports(self.model, self.data, judge, "test")
            if curves:
                self.folder.write(artifacts.POINTS, to_json(artifacts.points(self.folder) | curves))
        self.baselines |= baselines.KEY in done  # they show what is opened as well
        metrics = artifacts.finite(done | found | self._baselines())
        self.folder.write(artifacts.METRICS, artifacts.metrics_json(metrics))
        artifacts.write_config(self.folder, self.config)
        return metrics

    def begin(self) -> None:
        """All that could be refused was not: from here on the folder is this run's."""
        if self.checkpoints and not self.resumed:
            self.checkpoints.store.clear()
        artifacts.claim(self.folder, self.config, but=(artifacts.LOG,) if self.resumed else ())
        self.local.mkdir(parents=True, exist_ok=True)
        log = self.local / artifacts.LOG
        if self.resumed and self.folder.local is None:
            log.write_bytes(self.folder.read(artifacts.LOG) or b"")
        self.log.open(log, append=self.resumed)
        self.copies.begun = True

    def _fit(self) -> None:
        # Lightning finds checkpoints in ways of its own; none is ever unpickled.
        with cluster.assembled(self.config, self.trainer):
            try:
                self.trainer.fit(self.model, datamodule=self.data, weights_only=True)
            finally:
                signals.defer(False)

    def _fit_and_keep(self) -> Result:
        stopped: Interrupted | None = None
        try:
            if self.resumed and self.checkpoints:
                print(self.checkpoints.said(), flush=True)
            with self.progress:
                self._fit()
        except Pruned:
            self.folder.write(artifacts.HISTORY, self.history.to_csv().encode())
            self._forget()
            raise
        except Interrupted as signal:
            stopped = signal
            if not self.trainer.global_step:
                print(f"{signal}: stopped before the first step; there is nothing to keep", flush=True)
                raise
            best = self.best.epoch if self.best else 0
            which = f"best weights so far, of epoch {best}" if best else "weights as they are"
            store = self.checkpoints.store if self.checkpoints else None
            on = f"; the same line goes on from {store.folder.uri(store.last)}" if store and store.last else ""
            print(f"{signal}: keeping the {which}; writing takes a few seconds{on}", flush=True)
        cluster.leave_process_group(self.trainer, stopped)
        beaten: dict[str, Any] = {}
        try:
            beaten = {} if stopped else self._baselines()
        except Interrupted as signal:
            stopped = signal
        with signals.held():
            metrics = self._judge_and_keep(stopped, beaten)
        if stopped:
            raise stopped
        signals.leave()  # one that came too late to stop it
        return Result(metrics, self.folder.path)

    def _judge_and_keep(self, stopped: Interrupted | None, beaten: dict[str, Any]) -> dict[str, Any]:
        if self.best is not None:
            self.best.put_back(self.model)
        judge = build.judge_like(self.trainer)
        logged = scores.logged(self.model, self.data, judge)
        self.reporter.must_be_finite(logged)
        reports, curves = ({}, {}) if self.lean else scores.reports(self.model, self.data, judge, *self._opened)
        return self._conclude(logged, reports | beaten, curves, stopped)

    def _conclude(
        self, logged: dict[str, float], more: dict[str, Any], curves: dict[str, Any], stopped: Interrupted | None
    ) -> dict[str, Any]:
        """Keep what the model logs with its weights, and `more`; returns the metrics."""
        about = scores.summary(self.config, self.data, self.history, self.best, logged)
        about |= {
            "logged": sorted(logged),
            "device": str(self.trainer.strategy.root_device),
            "stopped_by": str(stopped) if stopped else None,
            artifacts.DIGEST: resolved_sha256(self.config),
        }
        metrics = self._keep(logged | about | more, curves, stopped)
        conclude(metrics, self.folder, table=not self.lean)
        self.reporter.final(logged, len(self.history.rows))
        return metrics

    @property
    def _opened(self) -> tuple[str, ...]:
        """The splits that are scored."""
        return ("validation", "test") if self.score_test else ("validation",)

    def _baselines(self) -> dict[str, Any]:
        if not self.baselines:
            return {}
        assert isinstance(self.data, TableData), "__init__ has looked"
        print("baselines: fitting scikit-learn's on the same training rows", flush=True)
        return {baselines.KEY: baselines.scored(self.data.splits, self.config.seed, *self._opened)}

    def _keep(self, metrics: dict[str, Any], curves: dict[str, Any], stopped: Interrupted | None) -> dict[str, Any]:
        """Write every artifact, metrics.json last; returns what it holds."""
        metrics = artifacts.finite(metrics | {"model_uri": self.folder.uri(artifacts.MODEL)})
        self.made = metrics, curves
        try:
            for name, content in self._files(metrics, curves):
                self.folder.write(name, content)
            # Before metrics.json, which says that the run is whole: one killed here is trained again, and its loggers
            # know.
            self.tracking.kept(metrics, stopped, len(self.history.rows))
            self.copies.copy()
            self.folder.write(artifacts.METRICS, artifacts.metrics_json(metrics))
        except TrainingError:
            self.copies.begun = False  # the store has been asked often enough
            raise
        if metrics["stopped_by"] is None:
            self._forget()
        return metrics

    def _files(self, metrics: dict[str, Any], curves: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        """The artifacts that are made at the end, but for metrics.json."""
        yield artifacts.MODEL, artifacts.state(self.model)
        yield artifacts.HISTORY, self.history.to_csv().encode()
        if not self.lean:
            yield from self._drawn(metrics)
        if curves:
            yield artifacts.POINTS, to_json(curves)
        splits = self.data.splits if isinstance(self.data, TableData) else None
        if splits and splits.preprocessing is not None:
            from alphard.data import preprocessing

            yield preprocessing.FILE, preprocessing.dumps(splits.preprocessing)

    def _forget(self) -> None:
        """A run that has ended goes on from nowhere."""
        if self.checkpoints:
            self.checkpoints.store.clear()

    def _drawn(self, metrics: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        from alphard import plots

        yield artifacts.CURVES, plots.learning_curves(self.history)
        matrix = metrics.get("validation_confusion_matrix")
        if matrix and isinstance(self.data, TableData):
            yield artifacts.CONFUSION, plots.confusion_matrix(matrix, self.data.splits.classes)
