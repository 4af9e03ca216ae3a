"""What a search in packs leaves in the study's folder: the folders of its best trials, and what packs go on from."""

import contextlib
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from optuna.trial import TrialState

from alphard.search.pack_worker import ENDING, STATES
from alphard.search.study import Study


class PackFolders:
    """stale: the files of workers whose search is over, until `remove_stale`."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.trials, self.states = study, folder / "trials", folder / STATES
        self.stale: set[str] = set()

    def among_the_best(self, new: dict[int, float | None], others: dict[int, float | None]) -> set[int]:
        """Which of these complete trials have a place among the best, together with others and those that are told."""
        best = self._ranked(self._complete() | others | new) if new else []
        return set(best[: self.study.settings.pack.keep]) & set(new)

    def remove_beaten(self) -> None:
        """The folders of trials that are no more among the best."""
        beaten = set(self._ranked(self._complete())[self.study.settings.pack.keep :])
        beaten |= {self.study.number(trial) for trial in self.study.trials(TrialState.PRUNED)}
        for path in self.trials.glob("*"):
            if path.name.isdigit() and int(path.name) in beaten:
                shutil.rmtree(path, ignore_errors=True)

    def find_stale(self) -> None:
        """Look which states belong to a search that is over."""
        owners = self.study.study.user_attrs
        named = {path.name: path.name.partition("-")[0] for path in self.states.glob(f"*{ENDING}")}
        lives = self.study.owner.lives
        self.stale = {name for name, owner in named.items() if not lives(owner, owners.get(f"owner {owner}"))}

    def remove_stale(self, training: Collection[str]) -> None:
        """They go when those that train, by name, have saved what they found in them."""
        if self.stale and training and all((self.states / f"{name}{ENDING}").exists() for name in training):
            for name in self.stale:
                with contextlib.suppress(OSError):
                    (self.states / name).unlink()
            self.stale = set()

    def end(self) -> None:
        """No trial is left: nothing goes on any more.  Where a search has done this, it is done."""
        if self.states.exists():
            self.remove_beaten()
            shutil.rmtree(self.states, ignore_errors=True)

    def _complete(self) -> dict[int, float | None]:
        return {self.study.number(trial): trial.value for trial in self.study.trials(TrialState.COMPLETE)}

    def _ranked(self, values: Mapping[int, float | None]) -> list[int]:
        """The numbers of trials with a value, the best first."""
        found = [self.study.rank(value, number) for number, value in values.items() if value is not None]
        return [number for _, number in sorted(found)]
