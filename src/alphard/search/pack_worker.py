"""A process that trains a study's trials in packs, started by packed.py: an epoch of each pack in turn.

No torch here before `main`, for the process that leads the search knows these words as well.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from alphard.search.worker import Done, Job, Probe, Setup, begun, freeze, said, try_, write_down

if TYPE_CHECKING:
    from alphard.search.pool import Turn

STATES, ENDING = "packs", ".ckpt"  # the folder of what packs go on from, a file a worker
SCOUTS = 2  # trials that are taken before their kinds are known, and for those that pack with nothing


@dataclass
class Take:
    """Trials to train, none where there are no more for now.

    begun: the numbers of those that another process has worked on.
    name:  of this worker, and of nobody else's.
    most:  trials of a pack, where fewer are wanted than fit.
    """

    jobs: list[Job]
    begun: set[int]
    name: str
    most: int | None


@dataclass
class Room:
    """So many trials would fill the packs; answered by Take, for those that begin together share their batches.

    Asked again until none come.
    """

    places: int


@dataclass
class Said:
    """A line for the user, said once a search for each topic."""

    topic: str
    line: str


@dataclass
class Epoch:
    """What the trials of a pack have reported, (number, step, value) each, and which of them have ended.

    spent: seconds that those have trained which a pruner may end.

    Answered by Verdict where a pruner may end one, or one has ended.
    """

    pack: str
    reports: list[tuple[int, int, float]] = field(default_factory=list)
    ended: dict[int, Done] = field(default_factory=dict)
    spent: dict[int, float] = field(default_factory=dict)


@dataclass
class Verdict:
    """Which trials end here, and which of those that have ended are among the best; answered by Kept."""

    end: set[int]
    keep: set[int]


@dataclass
class Kept:
    """What is kept of the trials that have ended is there.  folders: also some of the best's."""

    folders: bool


@dataclass
class Back:
    """No trial may begin any more; answered by Unused."""


@dataclass
class Unused:
    """The trials that had not begun."""

    numbers: list[int]


def main() -> None:
    """Train what the other end of the socket sends until it sends no more."""
    with begun() as (parent, setup):
        Packing(setup, parent).serve()


class Packing:
    """The worker's side of the conversation."""

    def __init__(self, setup: Setup, parent: Connection) -> None:
        import skops.io  # noqa: F401  half a second, which the first folder of a trial would wait for

        from alphard.search.pool import Pool

        freeze()
        self.setup, self.parent = setup, parent
        self.prunes = setup.settings.pruner.kind != "none"
        self.pool = Pool(setup)
        self.jobs: dict[int, Job] = {}
        self.alone: deque[Job] = deque()  # trials that pack with nothing
        self.spent = [0.0, 0.0]  # seconds in packs, and for those
        self.unheard: deque[Any] = deque()
        self.asks = False  # whether somebody may have trials

    def serve(self) -> None:
        """Hear what there is, then train every pack for an epoch."""
        while True:
            while self.unheard or self.parent.poll(0 if self.pool.busy or self.alone else None):
                self._hear(self.unheard.popleft() if self.unheard else self.parent.recv())
                self._fill()
            self._turn()
            self._fill()

    def _fill(self) -> None:
        """Ask for trials as long as packs have places, and as some come."""
        while self.asks and self._places() > len(self.jobs):
            self.parent.send(Room(self._places()))
            while not isinstance(message := self.parent.recv(), Take):
                self.unheard.append(message)
            self._hear(message)
            self.asks = bool(message.jobs)
        if (line := self.pool.groups.split()) is not None:
            self.parent.send(Said("kinds", line))

    def _places(self) -> int:
        return (self.pool.places or (0 if self.alone else SCOUTS)) + 2 * bool(self.alone)

    def _hear(self, message: Take | Back | Probe) -> None:
        if isinstance(message, Probe):
            done = try_(self.setup, message, lambda *_: False)
            if message.whole:
                self.parent.send(done)
        elif isinstance(message, Back):
            numbers = [*self.pool.give_up(), *(job.number for job in self.alone)]
            self.alone.clear()
            self._forget(numbers)
            self.asks = False
            self.parent.send(Unused(numbers))
        else:
            self.asks = True
            self.pool.begin(message.name, message.most)
            lost: dict[int, Done] = {}
            for job in message.jobs:
                if (failed := self._begin(job, message.begun)) is not None:
                    lost[job.number] = failed
            self.pool.fill()  # what is ready trains, though no trial may begin from the next message on
            if lost:
                self._answered(Epoch("", [], lost))
                self.parent.send(Kept(folders=False))

    def _begin(self, job: Job, begun: set[int]) -> Done | None:
        """Let a trial wait for its place; returns how it ended where it cannot even begin."""
        from alphard.packs.kind import Unpackable

        self.jobs[job.number] = job
        try:
            self.pool.add(job, begun)
        except Unpackable as why:
            self.alone.append(job)
            at = f"{why.path}: " if getattr(why, "path", "") else ""
            line = f"packs: {at}{why}; trials like {job.number} train one at a time"
            self.parent.send(Said("alone", line))
        except Exception as error:  # whatever a user's own code and the libraries raise is this trial's alone
            write_down(self.setup.folder / "trials" / str(job.number))
            return Done(None, False, said(error), {"stopped_epoch": 0, "seconds": 0.0})
        return None

    def _turn(self) -> None:
        began = time.perf_counter()
        for turn in self._turns():
            self._tell(turn)
        now = time.perf_counter()
        self.spent[0] += now - began
        if self.alone and (not self.pool.busy or self.spent[1] <= self.spent[0]):
            self._train_alone(self.alone.popleft())
            self.spent[1] += time.perf_counter() - now
        self.pool.save()

    def _turns(self) -> Iterator["Turn"]:
        """An epoch of each pack, free places filled before."""
        for kind in [*self.pool.kinds.values()]:
            self.pool.fill()
            turn = self.pool.epoch(kind)
            self._take_over()
            if turn is not None:
                yield turn

    def _take_over(self) -> None:
        """The trials for which no pack is small enough."""
        self._say()
        self.alone += [self.jobs[number] for number in self.pool.alone]
        self.pool.alone.clear()

    def _say(self) -> None:
        if self.pool.said:
            self.parent.send(Said(self.pool.said, self.pool.said))
            self.pool.said = ""

    def _tell(self, turn: "Turn") -> None:
        """Say what an epoch brought, and do what the answer asks."""
        verdict = self._answered(
            Epoch(turn.name, turn.reports, turn.ended, self.pool.spent(turn) if self.prunes else {})
        )
        if verdict is None:
            return
        pruned = self.pool.leave(turn, verdict.end)
        self._forget(verdict.end)
        for number, (entry, left) in sorted(turn.left.items()):
            kept = self.pool.keep(entry, left) if left and number in verdict.keep else None
            state = "failed" if left is None else "pruned" if number in verdict.end else "complete"
            self.pool.tell(entry, state, turn.ended[number].error, left, kept)
        for entry in pruned:
            self.pool.tell(entry, "pruned")
        self._say()
        self.parent.send(Kept(bool(verdict.keep)))

    def _answered(self, epoch: Epoch) -> Verdict | None:
        self.parent.send(epoch)
        self._forget(epoch.ended)
        while epoch.ended or (epoch.reports and self.prunes):
            answer = self.parent.recv()
            if isinstance(answer, Verdict):
                return answer
            self.unheard.append(answer)
        return None

    def _train_alone(self, job: Job) -> None:
        """As the local engine does."""

        def listen(step: int, value: float) -> bool:
            verdict = self._answered(Epoch("", [(job.number, step, value)]))
            return verdict is not None and job.number in verdict.end

        done = try_(self.setup, job, listen)
        self._answered(Epoch("", [], {job.number: done}))
        self.parent.send(Kept(folders=True))  # it has one in any case

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self.jobs.pop(number, None) is not None:
                self.asks = True  # its place is free
