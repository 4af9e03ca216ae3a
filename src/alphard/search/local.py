"""Trials in processes on this machine: asynchronous, each free process gets the next suggestion at once."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from omegaconf import DictConfig
from optuna.trial import TrialState

from alphard.errors import TrainingError, UserError
from alphard.search.study import Study, Trial
from alphard.search.tracked import Tracked
from alphard.search.worker import Done, Job, Probe, Ready, Report, Setup

TICK = 0.5  # seconds between two looks at the clock, at other processes, and at the table
DEATHS = 2  # of one trial's process, without a word: then the trial has failed


class View(Protocol):
    """Who shows how a search goes."""

    def begin(self, trial: Trial) -> None:
        """A worker took the trial."""

    def reported(self, trial: Trial, step: int, value: float) -> None:
        """The trial finished an epoch."""

    def ended(self, trial: Trial, state: TrialState, value: float | None, about: dict[str, Any]) -> None:
        """The trial is told."""

    def retried(self, trial: Trial, how: str) -> None:
        """The trial's process is gone, and it will be tried once more."""

    def tick(self) -> None:
        """Some time has passed."""


class Worker:
    """One process, and the trial that it trains.

    ready:  whether it has imported what it needs: no trial waits for that, nor for one that is killed meanwhile.
    device: its CUDA_VISIBLE_DEVICES; None leaves the environment's.
    code:   the module of this package whose `main` it runs.
    """

    def __init__(self, setup: Setup, device: str | None, threads: int, code: str = "worker") -> None:
        self.trial: Trial | None = None
        self.ready = False
        self.words = tempfile.TemporaryFile()  # noqa: SIM115  its stderr, kept while it lives
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        ours, theirs = socket.socketpair()
        with theirs:
            # In a session of its own, so that Ctrl-C in the terminal reaches the search alone.
            self.process = subprocess.Popen(  # noqa: S603  the command is ours
                [sys.executable, "-P", "-c", f"from alphard.search import {code}; {code}.main()", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a trial's stands in its training.log
                stderr=self.words,
            )
        self.connection = Connection(ours.detach())
        self.send(setup)

    def send(self, said: object) -> None:
        """Hand something over; a worker that is gone already is noticed when it is listened to."""
        with contextlib.suppress(OSError):
            self.connection.send(said)

    def end(self) -> str:
        """End the process, whatever it does; returns, the first time, how it ended, and its last words."""
        if self.words.closed:
            return ""
        self.process.kill()
        self.process.wait()
        self.connection.close()
        with self.words as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").strip().splitlines()
        return f"status {self.process.returncode}{f', {lines[-1]!r}' if lines else ''}"


class Workers:
    """The workers of one study, at most one for each of `trials`; ended with the block."""

    code = "worker"  # the module whose `main` each runs

    def __init__(self, setup: Setup, base: DictConfig, trials: int, runs: Tracked | None = None) -> None:
        self.setup, self.runs = setup, runs
        self.devices = _devices(base)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        # Two workers that share a core wait for each other at every step.
        self.threads = base.get("threads") or max(1, cores // setup.settings.parallel)
        self.workers = [self._worker(number) for number in range(min(setup.settings.parallel, trials))]
        self.idle_deaths = 0  # one after the other, without a trial

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.end()

    @staticmethod
    def tidy(study: Study, folder: Path) -> None:
        """Remove what a search that was killed at its very end has left."""

    def _worker(self, number: int) -> Worker:
        device = self.devices[number % len(self.devices)] if self.devices else None
        return Worker(self.setup, device, self.threads, self.code)

    def probe(self) -> None:
        """Raise UserError with all that every trial would fail by; the first worker says it, the others warm up."""
        how = ""
        for other in self.workers[1:]:
            other.send(Probe(self.threads, whole=False))
        for _ in range(DEATHS):
            first = self.workers[0]
            first.send(Probe(self.threads, whole=True))
            try:
                while not isinstance(done := first.connection.recv(), Done):
                    first.ready = True
            except (EOFError, OSError):
                how = first.end()
                self.workers[0] = self._worker(0)
                continue
            if done.error:
                raise UserError(*done.error.split("\n"))
            for warning in done.about["warnings"]:
                print(f"warning: {warning}", file=sys.stderr, flush=True)
            return
        raise TrainingError(f"search: workers end before the first trial, {how}")

    def search(self, study: Study, view: View, may_begin: Callable[[], bool]) -> None:
        """Train until no trial waits, or none may begin and none runs; TrainingError where too many failed."""
        study.recover()  # what an earlier search left comes first
        try:
            while self._busy(study, view, may_begin()):
                ready = wait([worker.connection for worker in self.workers], TICK)
                for number, worker in enumerate(self.workers):
                    if worker.connection in ready:
                        self._hear(study, view, number, worker)
                study.renew()
                view.tick()
        finally:
            for worker in self.workers:
                if worker.trial is not None:
                    worker.end()
                    study.give_back(worker.trial, worker.trial.deaths)

    def _busy(self, study: Study, view: View, may_begin: bool) -> bool:
        """Give every free worker a trial; whether anything is left to wait for."""
        study.must_not_fail_more()
        for worker in self.workers if may_begin else ():
            if worker.ready and worker.trial is None:
                worker.trial = study.take()
                if worker.trial is None:
                    break
                number, chosen = worker.trial.number, worker.trial.chosen
                place = self.runs.place(number, chosen) if self.runs else None
                worker.send(Job(number, chosen, self.threads, place))
                view.begin(worker.trial)
        if any(worker.trial for worker in self.workers):
            return True
        # Other processes may still train; what they leave, if they die, is ours to do.
        study.recover()
        return may_begin and bool(study.left())

    def _hear(self, study: Study, view: View, number: int, worker: Worker) -> None:
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):
            self._died(study, view, number)
            return
        if isinstance(said, Ready):
            worker.ready, self.idle_deaths = True, 0
            return
        trial = worker.trial
        assert trial is not None, "a worker speaks of its trial alone"
        if isinstance(said, Report):
            worker.send(study.report(trial, said.step, said.value))
            view.reported(trial, said.step, said.value)
        else:
            worker.trial = None
            _tell(study, view, trial, said)

    def _died(self, study: Study, view: View, number: int) -> None:
        """A worker without a last word: its trial is tried once more."""
        worker = self.workers[number]
        trial, how = worker.trial, worker.end()
        worker.trial = None
        if trial is None:
            self.idle_deaths += 1
            if self.idle_deaths > DEATHS * len(self.workers):
                raise TrainingError(f"search: workers end without a trial, {how}")
        elif trial.deaths + 1 < DEATHS:
            study.give_back(trial, trial.deaths + 1)
            view.retried(trial, how)
        else:
            error = f"its process ended {DEATHS} times without a word, the last time with {how}"
            _tell(study, view, trial, Done(None, False, error, {}))
        self.workers[number] = self._worker(number)


def _tell(study: Study, view: View, trial: Trial, done: Done) -> None:
    state = TrialState.PRUNED if done.pruned else TrialState.FAIL if done.error else TrialState.COMPLETE
    about = done.about | ({"error": done.error} if done.error else {})
    value = trial.reported[max(trial.reported)] if done.pruned and trial.reported else done.value
    study.tell(trial, state, value, about)
    view.ended(trial, state, value, about)


def _devices(base: DictConfig) -> list[str]:
    """The GPUs that may be used, without the seconds that importing torch takes."""
    if base.trainer.get("accelerator") == "cpu":
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [device for device in given.split(",") if device.strip()]
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
