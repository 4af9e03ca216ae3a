"""A worker's packs: an epoch of each, trials that come and go, and what is done where memory is too small."""

import functools
import gc
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from alphard.artifacts import LOG
from alphard.elsewhere import keep, tell
from alphard.loggers import End
from alphard.packs import memory
from alphard.packs.member import Member
from alphard.packs.pack import Left, Pack
from alphard.packs.packable import member_of
from alphard.search.pack_groups import FEWEST, Entry, Groups, Kind
from alphard.search.pack_states import Saved, States
from alphard.search.worker import Done, Job, Setup, said
from alphard.tracking import final

MEMORY = "out of memory"


@dataclass
class Turn:
    """What an epoch of a pack brought; nothing where the memory was too small.

    left: of those that ended; without a Left one has diverged.
    """

    kind: Kind
    name: str
    reports: list[tuple[int, int, float]] = field(default_factory=list)
    ended: dict[int, Done] = field(default_factory=dict)
    left: dict[int, tuple[Entry, Left | None]] = field(default_factory=dict)


class Pool:
    """All packs of one worker."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.groups = Groups(setup)
        self.kinds = self.groups.kinds
        self.states: States | None = None
        self.found: dict[int, Saved] = {}
        self.alone: list[int] = []  # trials for which even the smallest pack is too large, until somebody takes them
        self.said = ""  # what the user should know, until somebody takes it
        self.unlogged = False

    @property
    def busy(self) -> bool:
        """Whether any trial of a pack is to be trained."""
        return any(kind.live or kind.waiting for kind in self.kinds.values())

    @property
    def places(self) -> int:
        """How many trials would fill all packs."""
        return sum(kind.most for kind in self.kinds.values())

    def begin(self, name: str, most: int | None) -> None:
        """Take the name by which this worker's states are saved, and a smaller size of packs where it is wanted."""
        self.name = name
        if most is not None:
            self.groups.most = min(most, self.groups.most or most)

    def look(self, numbers: Collection[int], config: Mapping[str, Any]) -> None:
        """Find what trials go on from that another process has worked on."""
        if config.get("resume") != "never":
            assert self.states is not None, "made with the first trial"
            self.found |= self.states.find(numbers)

    def add(self, job: Job, begun: Collection[int]) -> None:
        """Let a trial wait for a place in its pack.

        begun: the trials that come with it and that another process has worked on.

        Raises Unpackable, and what a single run would be refused for.
        """
        torch.set_num_threads(job.threads)
        config = self.groups.config(job)
        if self.states is None:
            self.states = States(self.setup.folder, self.name, config.get("checkpoint_seconds"))
        if job.number in begun and job.number not in self.found:
            self.look(begun, config)
        kind, entry = self.groups.entry(job, config)
        saved = self.found.pop(job.number, None)
        entry.saved = saved if saved and saved.meant == entry.meant else None
        kind.waiting.append(entry)

    def give_up(self) -> list[int]:
        """The trials that have no place yet, which are forgotten here."""
        numbers = [entry.job.number for kind in self.kinds.values() for entry in kind.waiting]
        for kind in self.kinds.values():
            kind.waiting.clear()
        return numbers

    def fill(self) -> None:
        """Give free places to those that wait, as long as there is memory."""
        for kind in self.kinds.values():
            while kind.waiting and len(kind.live) < kind.most and self._fits(kind):
                entry = kind.waiting.popleft()
                kind.live[entry.job.number] = entry
                if why := _tried(functools.partial(self._join, kind, entry)):
                    self._undo(kind, why)

    def _join(self, kind: Kind, entry: Entry) -> None:
        if kind.pack is None:
            kind.pack = Pack(kind.data, kind.device, kind.most)
        kind.pack.join(entry.member, entry.saved.state if entry.saved else None)
        entry.saved = None

    def _fits(self, kind: Kind) -> bool:
        """Whether one more is within the budget; a pack that begins needs room for two, and the first always has it."""
        used = sum(other.size * len(other.live) for other in self.kinds.values())
        more = kind.size * (1 if kind.live else FEWEST)
        return not any(other.live for other in self.kinds.values()) or used + more <= self.groups.budget

    def epoch(self, kind: Kind) -> Turn | None:
        """Train a pack for an epoch; None where it has no trial.  Out of memory, it goes on with half as many."""
        if not kind.live:
            return None
        turn, values = Turn(kind, self.groups.named(kind)), {}

        def train() -> None:
            assert kind.pack is not None, "live trials have one"
            values.update(kind.pack.epoch())

        if why := _tried(train):
            self._undo(kind, why)
            return turn
        assert kind.pack is not None, "it has just trained"
        if why := kind.pack.launch.failed:
            self.said = f"packs: {turn.name}: no CUDA graph of a step ({why}); its operations are launched one by one"
            kind.pack.launch.failed = ""  # it is taken
        turn.reports = [(number, _step(kind.live[number].member), value) for number, value in values.items()]
        rows = {"val_rows": len(kind.data.splits.validation)}
        failed = dict(kind.pack.failed)
        left = kind.pack.leave(*failed, *kind.pack.done)
        for number, why in failed.items():
            entry = kind.live.pop(number)
            self._log(entry, why)
            turn.ended[number] = Done(None, False, why, _about(entry, None))
            turn.left[number] = entry, None
        for number, one in left.items():
            if number not in failed:
                entry = kind.live.pop(number)
                turn.ended[number] = Done(one.value, False, None, _about(entry, one) | rows)
                turn.left[number] = entry, one
        self._close(kind)
        return turn

    def spent(self, turn: Turn) -> dict[int, float]:
        """Seconds that each of the pack's trials has trained."""
        return {number: _seconds(entry.member) for number, entry in turn.kind.live.items()}

    def leave(self, turn: Turn, numbers: Collection[int]) -> list[Entry]:
        """End trials that a pruner has judged."""
        kind = turn.kind
        ended = [number for number in numbers if number in kind.live]
        if ended and kind.pack is not None:
            kind.pack.leave(*ended)
        entries = [kind.live.pop(number) for number in ended]
        self._close(kind)
        return entries

    def keep(self, entry: Entry, one: Left) -> dict[str, Any]:
        """Leave a trial's folder; returns what its metrics.json holds."""
        config = self.setup.configs.trial(self.setup.space, entry.job.chosen)
        return keep(config, str(self._home(entry)), one.weights, entry.member.history, one.best_epoch, one.metrics)

    def tell(
        self,
        entry: Entry,
        state: str,
        error: str | None = None,
        left: Left | None = None,
        kept: dict[str, Any] | None = None,
    ) -> None:
        """Tell a trial's loggers of it and its end: complete, pruned or failed.

        kept: what its metrics.json holds, if it has a folder.
        """
        if not entry.logged:
            return
        scores = final(left.metrics) if left and state == "complete" else {}
        end = End(state, error, scores, _step(entry.member))
        config = self.setup.configs.trial(self.setup.space, entry.job.chosen)
        try:
            tell(config, str(self._home(entry)), entry.job.place, entry.member.history, end, kept)
        except Exception as lost:  # a logger's library raises what it likes, and what was trained stands
            if not self.unlogged:
                self.said = f"packs: loggers do not hear of all trials: {said(lost)}"
            self.unlogged = True

    def save(self) -> None:
        """Save all states, where it is time."""
        if self.states is None or not self.states.wanted:
            return
        found: dict[int, Saved] = {}
        for kind in self.kinds.values():
            found |= {e.job.number: e.saved for e in kind.waiting if e.saved is not None}
            if kind.pack is not None and kind.live:
                found |= {n: Saved(kind.live[n].meant, state) for n, state in kind.pack.states().items()}
        if found or self.states.there:
            self.states.save(found)

    def _undo(self, kind: Kind, why: str) -> None:
        """Let a pack's trials go on from their last states: in packs of half the size, or where that is no help, alone.

        why: what the pack raised, MEMORY where it was that.
        """
        before, entries = len(kind.live), [*kind.live.values()]
        kind.pack, kind.live = None, {}
        gc.collect()
        if kind.device.type == "cuda":
            torch.cuda.empty_cache()
        if why != MEMORY or before <= FEWEST:
            self.alone += [entry.job.number for entry in (*entries, *kind.waiting)]
            kind.waiting.clear()
            self.said = f"packs: {self.groups.named(kind)}: {why}; such trials train one at a time"
            return
        kind.most = max(FEWEST, before // 2)
        self.said = f"packs: {before} trials: {why}; the pack goes on with {kind.most}"
        assert self.states is not None, "made with the first trial"
        found = self.states.find({entry.job.number for entry in entries})
        for entry in reversed(entries):
            saved = entry.saved or found.get(entry.job.number)
            entry.saved = saved if saved and saved.meant == entry.meant else None
            entry.member = member_of(entry.job.number, self.groups.config(entry.job), kind.data)
            kind.waiting.appendleft(entry)

    def _close(self, kind: Kind) -> None:
        if not kind.live:
            kind.pack = None

    def _home(self, entry: Entry) -> Path:
        return self.setup.folder / "trials" / str(entry.job.number)

    def _log(self, entry: Entry, why: str) -> None:
        home = self._home(entry)
        home.mkdir(parents=True, exist_ok=True)
        (home / LOG).write_text(f"error: {why}\n", encoding="utf-8")


def _tried(act: Callable[[], None]) -> str:
    """What was raised, as a clause; empty where nothing was.  Its frames, which hold a pack's tensors, are gone."""
    try:
        act()
    except Exception as error:  # a user's own net raises what it likes
        return MEMORY if memory.is_out_of_memory(error) else said(error)
    return ""


def _about(entry: Entry, left: Left | None) -> dict[str, Any]:
    """What a table shows of a trial that has ended."""
    about: dict[str, Any] = {"stopped_epoch": _step(entry.member), "seconds": _seconds(entry.member)}
    if left is not None:
        about |= {"best_epoch": left.best_epoch} if left.best_epoch else {}
    return about


def _seconds(member: Member) -> float:
    return round(sum(float(row.get("seconds") or 0.0) for row in member.history), 3)


def _step(member: Member) -> int:
    return int(member.history[-1]["epoch"]) if member.history else 0
