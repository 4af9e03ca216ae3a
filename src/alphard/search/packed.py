"""Trials in packs: as the local engine, with workers that each train hundreds of trials as stacked models."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from alphard.errors import TrainingError
from alphard.search import local
from alphard.search.pack_folders import PackFolders
from alphard.search.pack_view import PackView
from alphard.search.pack_worker import SCOUTS, Back, Epoch, Kept, Room, Said, Take, Unused, Verdict
from alphard.search.study import Study, Trial
from alphard.search.worker import Done, Job, Ready

DEATHS = 3  # of a worker before a trial of its own has reported: then that trial has failed
AT_ONCE = 64  # trials that a worker is given: it makes them ready while others are given theirs
IN_A_ROW = 8  # deaths of workers without a trial that ends
End = tuple[Trial, TrialState, float | None, dict[str, Any]]


@dataclass
class Side:
    """What is known of a worker.

    idle:   whether it was given none when it last asked.
    trials: that it has, by number.
    heard:  the numbers of those that have reported to it.
    ends:   that are told when the folders of the best are there.
    waits:  whether what is kept of trials that have ended is not there yet.
    """

    name: str
    idle: bool = False
    trials: dict[int, Trial] = field(default_factory=dict)
    heard: set[int] = field(default_factory=set)
    ends: list[End] = field(default_factory=list)
    waits: bool = False


class Packs(local.Workers):
    """The workers of one study."""

    code = "pack_worker"

    def search(self, study: Study, view: local.View, may_begin: Callable[[], bool]) -> None:
        """Train until no trial waits, or none may begin and none runs; TrainingError where too many failed."""
        assert isinstance(view, PackView), "made beside this"
        study.recover()  # what an earlier search left comes first
        self.study, self.view, self.closed, self.deaths = study, view, False, 0
        self.most: int | None = None
        self.folders = PackFolders(study, self.setup.folder)
        self.folders.find_stale()
        self.sides = [self._side(number) for number in range(len(self.workers))]
        try:
            while self._busy_packs(may_begin()):
                ready = wait([worker.connection for worker in self.workers], local.TICK)
                for number, worker in enumerate(self.workers):
                    if worker.connection in ready:
                        self._hear_of_packs(number)
                study.renew()
                view.tick()
        finally:
            for worker, side in zip(self.workers, self.sides, strict=True):
                if side.trials:
                    worker.end()
            with study.bulk():
                for side in self.sides:
                    for trial in side.trials.values():
                        study.give_back(trial, trial.deaths)
            if not study.left():
                self.folders.end()

    @staticmethod
    def tidy(study: Study, folder: Path) -> None:
        """After a search that was killed at its very end."""
        PackFolders(study, folder).end()

    def _side(self, number: int) -> Side:
        side = Side(f"{self.study.owner.name}-{number}")
        self.workers[number].send(Take([], set(), side.name, self.most))
        return side

    def _busy_packs(self, may_begin: bool) -> bool:
        """Give trials to those that have places; whether anything is left to wait for."""
        self.study.must_not_fail_more()
        if may_begin:
            for number, side in enumerate(self.sides):
                if side.idle and not side.trials:
                    self._give(number)
        elif not self.closed:
            self.closed = True
            for worker in self.workers:
                worker.send(Back())
        self.folders.remove_stale([side.name for side in self.sides if side.trials])
        if any(side.trials or side.waits for side in self.sides):
            return True
        # Other processes may still train; what they leave, if they die, is ours to do.
        self.study.recover()
        return may_begin and bool(self.study.left())

    def _give(self, number: int, places: int = SCOUTS, asked: bool = False) -> None:
        """Let a worker have trials for its free places; one that has asked is answered, though there may be none."""
        side = self.sides[number]
        wanted = 0 if self.closed else places - len(side.trials)
        if (pending := self.study.settings.pending) is not None:
            wanted = min(wanted, pending - sum(len(each.trials) for each in self.sides))
        if wanted > 0:  # two workers with half of them are faster than one with all
            left = len(self.study.trials(TrialState.WAITING)) + sum(len(each.trials) for each in self.sides)
            wanted = min(wanted, math.ceil(left / len(self.workers)) - len(side.trials))
        taken = self.study.take_many(max(0, min(wanted, AT_ONCE)))
        side.idle = not taken
        if not taken and not asked:
            return
        jobs = []
        for trial in taken:
            side.trials[trial.number] = trial
            place = self.runs.place(trial.number, trial.chosen) if self.runs else None
            jobs.append(Job(trial.number, trial.chosen, self.threads, place))
        begun = {trial.number for trial in taken if trial.begun}
        self.workers[number].send(Take(jobs, begun, side.name, self.most))

    def _hear_of_packs(self, number: int) -> None:
        side = self.sides[number]
        try:
            said = self.workers[number].connection.recv()
        except (EOFError, OSError):
            self._lost(number)
            return
        if isinstance(said, Ready):  # it asks for trials by itself
            return
        if isinstance(said, Room):
            self._give(number, said.places, asked=True)
        elif isinstance(said, Said):
            self.view.say(said.topic, said.line)
        elif isinstance(said, Unused):
            with self.study.bulk():
                for each in said.numbers:
                    trial = side.trials.pop(each)
                    self.study.give_back(trial, trial.deaths)
        elif isinstance(said, Kept):
            self._told(side, side.ends)
            side.ends, side.waits = [], False
            if said.folders:
                self.folders.remove_beaten()
        else:
            assert isinstance(said, Epoch), "a worker says nothing else"
            self._epoch(number, said)

    def _epoch(self, number: int, said: Epoch) -> None:
        """Record an epoch, end what is hopeless or has ended, and say which of those are kept."""
        side, worker = self.sides[number], self.workers[number]
        side.heard |= {each for each, _, _ in said.reports}
        asked = said.ended or (said.reports and self.study.settings.pruner.kind != "none")
        with self.study.bulk():
            stop = self.study.report_many([(side.trials[each], step, value) for each, step, value in said.reports])
            ends = [_end(side.trials[each], done, each in stop) for each, done in said.ended.items()]
            ends += [_stopped(side.trials[each], said.spent[each]) for each in stop - set(said.ended) if said.pack]
            waiting = [end for other in self.sides for end in other.ends]
            keep = self.folders.among_the_best(_complete(ends), _complete(waiting))
            if not keep:
                self._told(side, ends)
        if keep:
            side.ends = ends
        side.waits = bool(ends)
        if asked:
            worker.send(Verdict(stop, keep))
        self.view.turned(number, said.pack, said.reports)

    def _told(self, side: Side, ends: Iterable[End]) -> None:
        ends = [*ends]
        with self.study.bulk():
            for trial, state, value, about in ends:
                self.study.tell(trial, state, value, about)
                side.trials.pop(trial.number)
                side.heard.discard(trial.number)
        if ends:
            self.deaths = 0
            self.view.all_ended(ends)

    def _lost(self, number: int) -> None:
        """A worker without a last word: its trials wait again, to be taken by a new one."""
        worker, side = self.workers[number], self.sides[number]
        how = worker.end()
        self.deaths += 1
        if self.deaths > IN_A_ROW:
            raise TrainingError(f"search: workers end before any trial does, {how}")
        if self.deaths > 1 and side.trials:  # the system may have ended it for its memory
            self.most = max(2, len(side.trials) // 2)
        ends: list[End] = []
        with self.study.bulk():
            for trial in [*side.trials.values()]:
                quiet = trial.number not in side.heard
                if quiet and trial.deaths + 1 >= DEATHS:
                    error = f"its process ended {DEATHS} times before its first epoch did, the last time with {how}"
                    ends.append((trial, TrialState.FAIL, None, {"error": error}))
                else:
                    self.study.give_back(trial, trial.deaths + quiet)
        back = len(side.trials) - len(ends)
        self._told(side, ends)
        if back:
            self.view.lost(back, how)
        self.workers[number] = self._worker(number)
        self.sides[number] = self._side(number)


def _complete(ends: Iterable[End]) -> dict[int, float | None]:
    return {trial.number: value for trial, state, value, _ in ends if state == TrialState.COMPLETE}


def _end(trial: Trial, done: Done, stopped: bool) -> End:
    """How a trial has ended, of which the pruner may have heard enough in its last epoch."""
    about = done.about | ({"error": done.error} if done.error else {})
    if done.pruned or stopped:
        return trial, TrialState.PRUNED, trial.reported[max(trial.reported)] if trial.reported else None, about
    return trial, TrialState.FAIL if done.error else TrialState.COMPLETE, done.value, about


def _stopped(trial: Trial, seconds: float) -> End:
    last = max(trial.reported)
    return trial, TrialState.PRUNED, trial.reported[last], {"stopped_epoch": last, "seconds": seconds}
