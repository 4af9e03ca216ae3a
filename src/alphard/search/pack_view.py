"""How a search in packs goes: a live table with a line a pack, elsewhere a line for those that end together."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from optuna.trial import TrialState
from rich.table import Table

from alphard.search.live import SHOWN, Progress
from alphard.search.study import Study, Trial


class PackView(Progress):
    """Shows the packs, the best so far, and the time left."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.packs: dict[tuple[int, str], list[tuple[int, int, float]]] = {}
        self.said: set[str] = set()

    def say(self, topic: str, line: str) -> None:
        """Print a line, once for each topic."""
        if topic not in self.said:
            self.said.add(topic)
            self._print(line)

    def turned(self, worker: int, pack: str, reports: list[tuple[int, int, float]]) -> None:
        """A pack of a worker has trained an epoch; without reports it is empty."""
        self.packs.pop((worker, pack), None)
        if reports:
            self.packs[worker, pack] = reports

    def all_ended(self, ends: Sequence[tuple[Trial, TrialState, float | None, dict[str, Any]]]) -> None:
        """These trials are told."""
        self._look()
        for trial, state, value, about in ends:
            if state == TrialState.FAIL:
                self._line(trial, state, value, about)
        counts = Counter(state for _, state, _, _ in ends)
        sound = [f"{count} {SHOWN[state]}" for state, count in counts.items() if state != TrialState.FAIL]
        if sound and not self.live:
            best = f"  best {self.objective} {self.best[1]:.6f} (trial {self.best[0]})" if self.best else ""
            self._print(f"[{sum(self.counts.values())}/{self.study.total}] {', '.join(sound)}{best}")
        self.tick()

    def lost(self, trials: int, how: str) -> None:
        """A worker is gone, and its trials will be trained by another."""
        self._print(f"a worker ended, {how}; its {trials} trials go on in another")

    def _rows(self) -> Table:
        table = Table("worker", "pack", "trials", "epochs", f"best {self.objective}")
        for (worker, pack), reports in sorted(self.packs.items()):
            steps = [step for _, step, _ in reports]
            _, best = min((self.study.rank(value, number), value) for number, _, value in reports)
            table.add_row(str(worker), pack, str(len(reports)), f"{min(steps)}-{max(steps)}", f"{best:.4f}")
        return table
