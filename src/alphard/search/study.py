"""A study: its trials in Optuna's storage, and who works on which.

The trials are queued at the start, as many as there shall be, and taken one by one: so their number is exact, however
many processes take them, and a trial that was interrupted comes back under its number with its values.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from alphard.errors import TrainingError
from alphard.search import optuna_seam, queue
from alphard.search.journal import lock
from alphard.search.owner import Owner
from alphard.search.settings import Settings
from alphard.search.space import Space
from alphard.search.storages import FINISHED, in_bulk, storage_of

HOLD = 1.0  # seconds for which other processes wait while many trials are taken


@dataclass
class Trial:
    """One trial that this process works on.

    number: from 0; its artifacts lie in trials/<number>.
    chosen: each dimension's value as the tuner says it, a choice by its text.
    deaths: how often its process died without a word.
    begun:  whether another process has worked on it.
    """

    number: int
    chosen: dict[str, Any]
    deaths: int
    id: int
    begun: bool = False
    reported: dict[int, float] = field(default_factory=dict)


class Study:
    """The study called `name` in `folder`, made if it is not there.

    fingerprint: everything that trains, by config path.
    epochs:      the most that a trial may take.
    warm:        finished trials of another study.

    Raises UserError where the folder or the storage holds another study, or cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        space: Space,
        fingerprint: Mapping[str, Any],
        epochs: int,
        warm: Sequence[FrozenTrial] = (),
    ) -> None:
        self.folder, self.settings, self.space = folder, settings, space
        self.storage = storage_of(folder, settings.storage)
        folder.mkdir(parents=True, exist_ok=True)
        self.owner = Owner(folder)
        try:
            # In bulk, or thousands of trials would wait for the disk one by one, and other terminals for all of them.
            with self.alone(), self.bulk():
                self.study = queue.opened(folder, self.storage, settings, fingerprint, epochs, warm)
                self.warm = int(self.study.user_attrs.get("warm", 0))
                self.study.sampler = optuna_seam.Sampler(settings, space, self.warm)
                self.renew()
                self.total = queue.fill(self.study, settings, space)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process of this machine opens the study or hands its trials around: SQLite locks no row."""
        with (self.folder / ".lock").open("wb") as file:
            lock(file, "search")
            yield

    def take(self) -> Trial | None:
        """The next waiting trial, with its values chosen from all results so far; None where none waits."""
        with self.alone():
            asked = self._ask()
        return None if asked is None else self._chosen(*asked)

    def take_many(self, most: int) -> list[Trial]:
        """Up to `most` waiting trials, each with its values chosen with those in mind that were taken before it."""
        found: list[Trial] = []
        while len(found) < most:
            until = time.monotonic() + HOLD
            with self.alone(), self.bulk():
                while len(found) < most and time.monotonic() < until:
                    asked = self._ask()
                    if asked is None:
                        return found
                    found.append(self._chosen(*asked))
        return found

    def bulk(self) -> contextlib.AbstractContextManager[None]:
        """Inside, what is recorded reaches a journal at the end, in one piece; inside `alone`, never around it."""
        return in_bulk(self.storage)

    def _ask(self) -> tuple[optuna.Trial, bool] | None:
        """The trial that has waited longest, ours now, and whether it was another's before."""
        waiting = next(iter(self.trials(TrialState.WAITING)), None)
        if waiting is None:
            return None
        begun = "owner" in waiting.user_attrs
        # First, so that on other machines, which this lock says nothing to, it never runs with nobody's name.
        self.storage.set_trial_user_attr(waiting._trial_id, "owner", self.owner.name)
        trial = self.study.ask()
        if trial.number != waiting.number or trial.user_attrs.get("owner") != self.owner.name:
            trial.set_user_attr("owner", self.owner.name)
        if trial.number - self.warm >= self.total:  # another machine took the last one in between
            self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            return None
        return trial, begun

    def _chosen(self, trial: optuna.Trial, begun: bool) -> Trial:
        chosen = optuna_seam.choose(trial, self.space)
        return Trial(trial.number - self.warm, chosen, int(trial.user_attrs.get("deaths", 0)), trial._trial_id, begun)

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Record a value; returns whether the trial should end here."""
        now = self._record(trial, step, value)
        return now is None or bool(self.study.pruner.prune(self.study, now))

    def report_many(self, reports: Sequence[tuple[Trial, int, float]]) -> set[int]:
        """Record values, one a trial, then judge each with all of them known; returns the numbers that should end."""
        ended = set()
        with self.bulk():
            known = [(trial.number, self._record(trial, step, value)) for trial, step, value in reports]
            judged = [(number, now) for number, now in known if now is not None]
            for again in (False, True):
                for number, now in judged:
                    # asha notes a value at its rung when it judges it, so only the second time all are there.
                    if again and self.storage.get_trial(now._trial_id).system_attrs == now.system_attrs:
                        continue
                    ended.discard(number)
                    if self.study.pruner.prune(self.study, now):
                        ended.add(number)
        return ended | {number for number, now in known if now is None}

    def _record(self, trial: Trial, step: int, value: float) -> FrozenTrial | None:
        """Record a value; returns the trial as a pruner sees it, None for one that another machine has finished."""
        if not trial.reported:  # it may go on from a checkpoint: what came before that was told by another process
            known = self.storage.get_trial(trial.id).intermediate_values
            trial.reported |= {earlier: known[earlier] for earlier in sorted(known) if earlier < step}
        trial.reported[step] = value
        try:
            self.storage.set_trial_intermediate_value(trial.id, step, value)
        except UpdateFinishedTrialError:  # another machine took this process for dead, and was faster
            return None
        now = self.storage.get_trial(trial.id)
        now.intermediate_values = dict(trial.reported)  # without the later steps of an interrupted attempt
        return now

    def tell(self, trial: Trial, state: TrialState, value: float | None, about: Mapping[str, Any]) -> None:
        """Finish a trial: its value, and what else a table shows of it; one that another machine finished stands."""
        with contextlib.suppress(UpdateFinishedTrialError):
            for name, said in about.items():
                self.storage.set_trial_user_attr(trial.id, name, said)
            self.storage.set_trial_state_values(trial.id, state, None if value is None else [value])

    def give_back(self, trial: Trial, deaths: int) -> None:
        """Let a trial wait again, under its number and with its values."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial.id, "deaths", deaths)
            self.storage.set_trial_state_values(trial.id, TrialState.WAITING)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """This study's own trials in these states, by number."""
        found = self.study.get_trials(deepcopy=False, states=states or None)
        return [trial for trial in found if 0 <= trial.number - self.warm < self.total]

    def finished(self) -> int:
        """How many trials have ended, one way or another."""
        return len(self.trials(*FINISHED))

    def left(self) -> int:
        """How many are still to be trained."""
        return self.total - self.finished()

    def must_not_fail_more(self) -> None:
        """Raise TrainingError where more trials failed than may."""
        failed, most = self.trials(TrialState.FAIL), self.settings.max_failures
        if len(failed) > most:
            last = failed[-1]
            raise TrainingError(
                f"search.max_failures: {len(failed)} trials failed, {most} may; trial {self.number(last)} said: "
                f"{last.user_attrs.get('error')}\nmend the space, or raise search.max_failures and say the line again"
            )

    def number(self, trial: FrozenTrial) -> int:
        """A trial's number in this study, where those of a warm start have none."""
        return trial.number - self.warm

    def best(self) -> FrozenTrial | None:
        """The complete trial with the best value; the earliest of equals."""
        done = [trial for trial in self.trials(TrialState.COMPLETE) if trial.value is not None]
        return min(done, key=lambda trial: self.rank(float(trial.value or 0.0), trial.number), default=None)

    def rank(self, value: float, number: int) -> tuple[float, int]:
        """A key by which the best trial comes first, and of equals the earliest."""
        return (value if self.settings.direction == "minimize" else -value), number

    def renew(self) -> None:
        """Say, now and then, that this process lives, to those on other machines."""
        if (word := self.owner.word()) is not None:
            self.study.set_user_attr(f"owner {self.owner.name}", word)

    def recover(self) -> int:
        """Let the trials of dead owners wait again, and remove what else such owners left here; returns how many."""
        count = 0
        with self.alone():
            owners = self.study.user_attrs
            for trial in self.trials(TrialState.RUNNING):
                owner = str(trial.user_attrs.get("owner", ""))
                if self.owner.lives(owner, owners.get(f"owner {owner}")):
                    continue
                self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                count += 1
            self.owner.bury(owners)
        return count

    def close(self) -> None:
        """Let go of the study: from here on, others take what this process left."""
        self.owner.close()
