"""How a rehearsal goes, trial by trial, and what it came to."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.status import Status
from rich.table import Table

from alphard.tables import show
from vertex_ai import verdict
from vertex_ai.engine import RESTARTS
from vertex_ai.places import Place
from vertex_ai.played import Played
from vertex_ai.verdict import Judged

if TYPE_CHECKING:
    from vertex_ai.rehearse_command import Rehearsal


def announce(it: "Rehearsal", place: Place, folder: Path, most: int) -> None:
    """What will run, where, and how much of it."""
    if it.this.plan:
        why = "" if it.count else "; search.trials=… rehearses another number"
        trials = f"{it.asked} trial{'s' * (it.asked > 1)} of the job's {it.trials}"
        how = f"{most} at a time" if it.tuning else "in one run"
        print(f"rehearsing {it.this.study}: {trials}, {how}{why}")
    else:
        print(f"rehearsing {it.this.study}: its one run")
    print(f"{place.says}, in {seen(folder)}", flush=True)


class View:
    """Judges each trial as it ends, and says so on a line; on a terminal shows what runs."""

    def __init__(self, it: "Rehearsal") -> None:
        self.it = it
        self.judged: list[Judged] = []
        self.running: list[str] = []
        self.status: Status | None = None

    def __enter__(self) -> "View":
        if sys.stdout.isatty():
            self.status = Status("", console=Console(file=sys.stdout, highlight=False))
            self.status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status:
            self.status.stop()

    def began(self, played: Played) -> None:
        """A trial was begun."""
        self.running.append(_name(played))
        self._show()

    def ended(self, played: Played) -> None:
        """A trial has ended."""
        it = self.it
        judged = it.judge(played)
        self.judged.append(judged)
        self.running.remove(_name(played))
        value = "" if judged.objective is None else f"  {it.metric} {judged.objective:.6f}"
        how = f"{played.seconds:.1f} s  {_told(judged)}"
        print(f"[{len(self.judged)}/{it.begun}] {_name(played)}{value}  {how}", flush=True)
        self._show()

    def _show(self) -> None:
        if self.status:
            self.status.update(f"{', '.join(self.running)} …" if self.running else "")


def table(it: "Rehearsal", judged: Sequence[Judged]) -> None:
    """One row a trial."""
    shown = Table("trial" if it.tuning else "run", *(["parameters"] if it.tuning else []))
    for column in ("exit", it.metric, "seconds", "verdict"):
        shown.add_column(column, justify="right" if column in ("exit", "seconds") else "left")
    for one in sorted(judged, key=lambda one: int(one.played.id or 0)):
        played = one.played
        values = "  ".join(f"{key}={_value(value)}" for key, value in played.values().items())
        exits = " ".join(str(attempt.status) for attempt in played.attempts)
        value = "" if one.objective is None else f"{one.objective:.6f}"
        shown.add_row(
            played.id or "1", *([values] if it.tuning else []), exits, value, f"{played.seconds:.1f}", _told(one)
        )
    show(shown)


def conclude(it: "Rehearsal", judged: Sequence[Judged], folder: Path, how: str) -> int:
    """The last words; returns the exit status."""
    if not judged or not all(one.sound for one in judged):
        print(f"NOT READY: {_count(it, judged)}")
        for problem, trials in verdict.causes(judged):
            first, *rest = problem.splitlines()
            who = f"trial{'s' if len(trials) > 1 else ''} {', '.join(trials)}: " if it.tuning else ""
            print("\n".join([f"  {who}{first}", *(f"    {line}" for line in rest)]))
        if any(one.played.attempts and one.played.attempts[-1].failed for one in judged):
            print(f"  {_on_vertex(it)}")
        print(f"  all that was said: {seen(folder)}/{'*/' if it.tuning else ''}attempt-*.log")
        return 1
    print(it.reckoning(judged, how))
    for path in it.this.local_paths:
        print(f"READY, but {path} lies on this machine, where no job sees it; put it into a bucket and give gs://…")
    if not it.this.local_paths:
        print(f"READY: {_count(it, judged)}")
    return 0


def _count(it: "Rehearsal", judged: Sequence[Judged]) -> str:
    sound = sum(one.sound for one in judged)
    if not it.tuning:
        return f"the {'search' if it.this.plan else 'run'} is {'' if sound else 'not '}sound"
    early = "; too many failed for the job to go on" if len(judged) < it.begun and sound < len(judged) else ""
    return f"{sound} of {len(judged)} trials sound{early}"


def _on_vertex(it: "Rehearsal") -> str:
    once = it.this.spec.get("scheduling", {}).get("disableRetries")
    again = "" if once else f"start it {RESTARTS} times more, at your expense, and then "
    if not it.tuning:
        return f"Vertex AI would {again}end the job as failed"
    most = it.job["maxFailedTrialCount"]
    return f"Vertex AI would {again}count the trial as failed; more than {most} such trials end the job"


def _told(one: Judged) -> str:
    """A trial's verdict on one line."""
    if one.sound:
        again = len(one.played.attempts) - 1
        return f"sound, started {again + 1} times" if again else "sound"
    return "; ".join(problem.splitlines()[0] for problem in one.problems)


def _name(played: Played) -> str:
    return f"trial {played.id}" if played.id else "run"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def seen(folder: Path) -> str:
    """The folder as seen from the user's own."""
    return os.path.relpath(folder)
