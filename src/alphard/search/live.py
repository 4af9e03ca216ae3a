"""How a search goes: a live table on a terminal, elsewhere a line for each trial that ends."""

import sys
import time
from types import TracebackType
from typing import Any

from optuna.trial import TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from alphard.search.study import Study, Trial

SHOWN = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Progress:
    """Shows the running trials, the best so far, and the time left."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.objective = study.settings.objective
        self.running: dict[int, tuple[Trial, int, float | None]] = {}
        self._look()
        self.before = sum(self.counts.values())
        self.began = time.monotonic()
        self.live: Live | None = None

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty():
            self.live = Live(self._table(), console=Console(file=sys.stdout), auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def begin(self, trial: Trial) -> None:
        """A worker took the trial."""
        self.running[trial.number] = (trial, 0, None)
        self.tick()

    def reported(self, trial: Trial, step: int, value: float) -> None:
        """The trial finished an epoch."""
        self.running[trial.number] = (trial, step, value)

    def ended(self, trial: Trial, state: TrialState, value: float | None, about: dict[str, Any]) -> None:
        """The trial is told."""
        self.running.pop(trial.number, None)
        self._look()
        if not self.live or state == TrialState.FAIL:
            self._line(trial, state, value, about)
        self.tick()

    def tick(self) -> None:
        """Some time has passed."""
        if self.live:
            self.live.update(self._table(), refresh=True)

    def retried(self, trial: Trial, how: str) -> None:
        """The trial's process is gone, and it will be tried once more."""
        self.running.pop(trial.number, None)
        self._print(f"trial {trial.number}: its process ended, {how}; it is tried once more")

    def _look(self) -> None:
        """At what this process and others have found."""
        self.counts = {state: len(self.study.trials(state)) for state in SHOWN}
        best = self.study.best()
        self.best = None if best is None else (self.study.number(best), float(best.value or 0.0))

    def _line(self, trial: Trial, state: TrialState, value: float | None, about: dict[str, Any]) -> None:
        shown = "" if value is None else f"  {self.objective} {value:.6f}"
        epochs = f"  {about['stopped_epoch']} epochs" if about.get("stopped_epoch") else ""
        why = f"  {values(trial.chosen)}" + (f"  {about['error'].splitlines()[0]}" if "error" in about else "")
        best = f"  best {self.best[1]:.6f} (trial {self.best[0]})" if self.best else ""
        place = f"{sum(self.counts.values())}/{self.study.total}"
        self._print(f"[{place}] trial {trial.number} {SHOWN[state]}{shown}{epochs}{best}{why}")

    def _print(self, text: str) -> None:
        if self.live:
            self.live.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def _table(self) -> Group:
        done = sum(self.counts.values())
        states = ", ".join(f"{count} {SHOWN[state]}" for state, count in self.counts.items() if count)
        best = f"; best {self.best[1]:.6f} in trial {self.best[0]}" if self.best else ""
        return Group(
            self._rows(),
            Text(f"{done} of {self.study.total} trials ({states or 'none yet'}){best}{self._left(done)}"),
        )

    def _rows(self) -> Table:
        table = Table("trial", "epoch", self.objective, "values")
        for number, (trial, step, value) in sorted(self.running.items()):
            table.add_row(str(number), f"{step}", "" if value is None else f"{value:.4f}", Text(values(trial.chosen)))
        return table

    def _left(self, done: int) -> str:
        new = done - self.before
        if not new:
            return ""
        seconds = (time.monotonic() - self.began) / new * (self.study.total - done)
        return f"; about {seconds / 60:.0f} min left" if seconds > 90 else f"; about {seconds:.0f} s left"


def values(chosen: dict[str, Any]) -> str:
    """A trial's values on one line."""
    return "  ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in chosen.items()
    )
