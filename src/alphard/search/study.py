"""A study: its trials in Optuna's storage, and who works on which.

The trials are queued at the start, as many as there shall be, and taken one by one: so their number is exact, however
many processes take them, and a trial that was interrupted comes back under its number with its values.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from alphard.errors import TrainingError, UserError
from alphard.fingerprint import changes
from alphard.search import optuna_seam
from alphard.search.journal import Journal, lock
from alphard.search.owner import Owner
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Space

JOURNAL = "journal.log"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def storage_of(folder: Path, url: str | None) -> optuna.storages.BaseStorage:
    """The study's storage; UserError where it cannot be opened."""
    try:
        if url is None:
            folder.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(Journal(folder / JOURNAL))
        return optuna.storages.get_storage(url)
    except UserError:
        raise
    except Exception as error:  # a database's driver raises what it likes
        cause = error.__cause__ or error
        said = str(cause).strip().split("\n")[0] or type(cause).__name__
        remedy = f"; write sqlite:///{url} for a file" if url and "://" not in url else ""
        raise UserError(f"search.storage: {masked(url or str(folder))}: cannot be opened: {said}{remedy}") from None


def masked(url: str) -> str:
    """A storage's URL without its password."""
    return re.sub(r"(?<=://)([^:/@]*):[^@/]*@", r"\1:***@", url)


@dataclass
class Trial:
    """One trial that this process works on.

    number: from 0; its artifacts lie in trials/<number>.
    chosen: each dimension's value as the tuner says it, a choice by its text.
    deaths: how often its process died without a word.
    """

    number: int
    chosen: dict[str, Any]
    deaths: int
    id: int
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
            with self._alone():
                self._open(fingerprint, epochs, warm)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no other process of this machine opens the study or hands its trials around: SQLite locks no row."""
        with (self.folder / ".lock").open("wb") as file:
            lock(file, "search")
            yield

    def _open(self, fingerprint: Mapping[str, Any], epochs: int, warm: Sequence[FrozenTrial]) -> None:
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=self.folder.name,
            direction=self.settings.direction,
            pruner=optuna_seam.pruner(self.settings, epochs),
            load_if_exists=True,
        )
        self.study_id = self.storage.get_study_id_from_name(self.folder.name)
        now = json.loads(json.dumps(fingerprint, default=str))
        before = self.study.user_attrs.get("fingerprint")
        if before is None:
            for trial in warm[len(self.study.get_trials(deepcopy=False)) :]:  # some are there if this was killed here
                self.study.add_trial(trial)
            self.study.set_user_attr("warm", len(warm))
            self.study.set_user_attr("fingerprint", now)
        elif difference := changes(before, now):
            remedy = "say its own line, or give output_dir=ANOTHER_FOLDER"
            raise UserError(f"search: {self.folder} holds another study ({difference}); {remedy}")
        self.warm = int(self.study.user_attrs.get("warm", 0))
        self.renew()
        self._queue()

    def _queue(self) -> None:
        """Waiting entries up to `trials`; those of a grid and of `initial` bring their values along."""
        grid = self.settings.algorithm == "grid"
        self.total = self.settings.trials
        values: Iterator[dict[str, Any]] = self.space.grid() if grid else map(self._texts, self.settings.initial)
        if grid:
            self.combinations = sum(1 for _ in self.space.grid())
            self.total = min(self.total, self.combinations)
        queued = len(self.study.get_trials(deepcopy=False)) - self.warm
        values = islice(values, queued, None)
        for _ in range(queued, self.total):
            self.study.enqueue_trial(next(values, {}))

    def _texts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Initial values as the tuner says them."""
        said: dict[str, Any] = {}
        for key, value in values.items():
            dimension = self.space[key]
            said[key] = dimension.text(value) if isinstance(dimension, Categorical) else value
        return said

    def take(self) -> Trial | None:
        """The next waiting trial, with its values chosen from all results so far; None where none waits."""
        with self._alone():
            waiting = next(iter(self.trials(TrialState.WAITING)), None)
            if waiting is None:
                return None
            self.study.sampler = optuna_seam.sampler(self.settings, self.space, self.number(waiting), self.warm)
            trial = self.study.ask()  # the one that has waited longest
            trial.set_user_attr("owner", self.owner.name)
        chosen = optuna_seam.choose(trial, self.space)
        return Trial(trial.number - self.warm, chosen, int(trial.user_attrs.get("deaths", 0)), trial._trial_id)

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Record a value; returns whether the trial should end here."""
        trial.reported[step] = value
        self.storage.set_trial_intermediate_value(trial.id, step, value)
        now = self.storage.get_trial(trial.id)
        now.intermediate_values = dict(trial.reported)  # without the later steps of an interrupted attempt
        return bool(self.study.pruner.prune(self.study, now))

    def tell(self, trial: Trial, state: TrialState, value: float | None, about: Mapping[str, Any]) -> None:
        """Finish a trial: its value, and what else a table shows of it."""
        for name, said in about.items():
            self.storage.set_trial_user_attr(trial.id, name, said)
        self.storage.set_trial_state_values(trial.id, state, None if value is None else [value])

    def give_back(self, trial: Trial, deaths: int) -> None:
        """Let a trial wait again, under its number and with its values."""
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
        sign = 1 if self.settings.direction == "minimize" else -1
        return min(done, key=lambda trial: (sign * float(trial.value or 0.0), trial.number), default=None)

    def renew(self) -> None:
        """Say, now and then, that this process lives, to those on other machines."""
        if (word := self.owner.word()) is not None:
            self.study.set_user_attr(f"owner {self.owner.name}", word)

    def recover(self) -> int:
        """Let the trials of dead owners wait again; returns how many."""
        count = 0
        with self._alone():
            owners = self.study.user_attrs
            for trial in self.trials(TrialState.RUNNING):
                owner = str(trial.user_attrs.get("owner", ""))
                if self.owner.lives(owner, owners.get(f"owner {owner}")):
                    continue
                self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                count += 1
        return count

    def close(self) -> None:
        """Let go of the study: from here on, others take what this process left."""
        self.owner.close()
