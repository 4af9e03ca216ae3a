"""A worker's packs: trials grouped by what cannot be stacked, each group a pack and a queue."""

import functools
import gc
import json
import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig

from alphard import build
from alphard.artifacts import LOG
from alphard.construct import snapshot
from alphard.data import TableData, kept
from alphard.elsewhere import keep
from alphard.packs import memory
from alphard.packs.member import Member, Unpackable, member_of
from alphard.packs.pack import Left, Pack
from alphard.search.device_memory import device_of, free
from alphard.search.pack_states import Saved, States
from alphard.search.settings import LEARNING, PENDING
from alphard.search.space import Categorical, Continuous, Dimension
from alphard.search.worker import Done, Job, Setup, said

GIB = 1 << 30
MEMORY = "out of memory"
# Rows times parameters of a step whose time is mostly spent between operations: such trials pack, whatever a busy
# machine measures, for in a pack a trial's last bits are others than alone.
SMALL = {"cpu": 5e6, "cuda": 2e9}
LIKELY = 64  # of those, so many are worth it in any case
FEWEST = 2  # trials of a pack: one alone would be another arithmetic
EXPECTED = 2.0  # trials of a kind in the whole study; with fewer there is nothing to pack


@dataclass
class Entry:
    """A trial that waits for its place, or has one.  meant: the values and rows that it is trained with."""

    job: Job
    member: Member
    meant: str
    saved: Saved | None = None


@dataclass
class Kind:
    """Trials that can be stacked.

    most: of a pack.
    size: bytes that each adds.
    """

    data: TableData
    device: torch.device
    parts: dict[str, str]
    most: int
    size: int
    waiting: deque[Entry] = field(default_factory=deque)
    live: dict[int, Entry] = field(default_factory=dict)
    pack: Pack | None = None


@dataclass
class Turn:
    """What an epoch of a pack brought; nothing where the memory was too small."""

    kind: Kind
    name: str
    reports: list[tuple[int, int, float]] = field(default_factory=list)
    ended: dict[int, Done] = field(default_factory=dict)
    left: dict[int, tuple[Entry, Left]] = field(default_factory=dict)


class Pool:
    """All packs of one worker."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.settings = setup, setup.settings
        self.kinds: dict[str, Kind] = {}
        self.tables: dict[str, TableData] = {}
        self.states: States | None = None
        self.found: dict[int, Saved] = {}
        self.cap = self.settings.pack.size or (PENDING if self.settings.algorithm in LEARNING else None)
        self.refused: dict[str, Unpackable] = {}
        self.alone: list[int] = []  # trials for which even the smallest pack is too large, until somebody takes them
        self.budget = 0  # bytes for the packs of this worker, when the first is made
        self.said = ""  # what the user should know, until somebody takes it
        self.told = False

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
            self.cap = min(most, self.cap or most)

    def look(self, numbers: Collection[int], config: DictConfig) -> None:
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
        config = self.setup.configs.lent(self.setup.space, job.chosen)
        if self.states is None:
            self.states = States(self.setup.folder, self.name, config.get("checkpoint_seconds"))
        if job.number in begun and job.number not in self.found:
            self.look(begun, config)
        key, data = self._data(config)
        member = member_of(job.number, config, data)
        key = f"{key}\n{member.kind}"
        if key in self.refused:
            raise self.refused[key]
        if key not in self.kinds:
            try:
                self.kinds[key] = self._kind(member, data, device_of(config))
            except Unpackable as why:
                self.refused[key] = why
                raise
        kind = self.kinds[key]
        meant = json.dumps([job.chosen, kept.digest(data.splits)], sort_keys=True, default=str)
        saved = self.found.pop(job.number, None)
        kind.waiting.append(Entry(job, member, meant, saved if saved and saved.meant == meant else None))

    def _data(self, config: DictConfig) -> tuple[str, TableData]:
        """The rows that a trial is trained with, shared by all that ask for the same."""
        node = snapshot(config.data)
        own = not str(node.get("_target_", "")).startswith("alphard.")
        told = {name: value for name, value in node.items() if own or name not in kept.SERVED}
        key = json.dumps(told, sort_keys=True, default=repr)
        if key not in self.tables:
            data = build.data_of(config, shared=True)
            if not isinstance(data, TableData):
                raise Unpackable(
                    f"{type(data).__name__} is no alphard.data.TableData, whose rows a pack shares", "data"
                )
            self.tables[key] = data
        return key, self.tables[key]

    def _kind(self, member: Member, data: TableData, device: torch.device) -> Kind:
        """A new kind; raises Unpackable where packs of it would save nothing."""
        split = [d for d in self.setup.space if any(_below(part, d.key) for part in member.parts)]
        expected = self.settings.trials / math.prod(map(_values, split))
        if expected < EXPECTED:
            names = ", ".join(d.key for d in split)
            raise Unpackable(f"makes almost each of {self.settings.trials} trials a shape of its own", names)
        if not self.budget:
            given = self.settings.pack.memory
            self.budget = int((given * GIB if given is not None else free(device) / 2) / self.settings.parallel)
        size = memory.needed(member, data, device)
        if self.budget < FEWEST * size:
            why = f"a trial takes {size / GIB:.2g} GiB of a worker's {self.budget / GIB:.2g}, and no two fit"
            raise Unpackable(why, "search.pack.memory")
        fits = self.budget // size
        rows = len(data.splits.train)
        work = min(member.batch_size or rows, rows) * sum(p.numel() for p in member.net.parameters())
        if work <= SMALL[device.type]:
            most = self.cap or max(LIKELY, memory.size(member, data, device, self.budget))
        else:
            most = memory.size(member, data, device, self.budget)
            if most < FEWEST:
                raise Unpackable("steps of its size are no faster together than one by one", "batch_size")
        return Kind(data, device, member.parts, min(most, fits, self.cap or most), size)

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
        return not any(other.live for other in self.kinds.values()) or used + more <= self.budget

    def epoch(self, kind: Kind) -> Turn | None:
        """Train a pack for an epoch; None where it has no trial.  Out of memory, it goes on with half as many."""
        if not kind.live:
            return None
        turn, values = Turn(kind, self.named(kind)), {}

        def train() -> None:
            assert kind.pack is not None, "live trials have one"
            values.update(kind.pack.epoch())

        if why := _tried(train):
            self._undo(kind, why)
            return turn
        assert kind.pack is not None, "it has just trained"
        turn.reports = [(number, _step(kind.live[number].member), value) for number, value in values.items()]
        rows = {"val_rows": len(kind.data.splits.validation)}
        failed = dict(kind.pack.failed)
        left = kind.pack.leave(*failed, *kind.pack.done)
        for number, why in failed.items():
            self._log(kind.live[number], why)
            turn.ended[number] = Done(None, False, why, _about(kind.live.pop(number), None))
        for number, one in left.items():
            if number not in failed:
                entry = kind.live.pop(number)
                turn.ended[number] = Done(one.value, False, None, _about(entry, one) | rows)
                turn.left[number] = entry, one
        self._close(kind)
        return turn

    def leave(self, turn: Turn, numbers: Collection[int]) -> None:
        """End trials that a pruner has judged."""
        kind = turn.kind
        ended = [number for number in numbers if number in kind.live]
        if ended and kind.pack is not None:
            kind.pack.leave(*ended)
        for number in ended:
            del kind.live[number]
        self._close(kind)

    def keep(self, left: tuple[Entry, Left]) -> None:
        """Leave a trial's folder."""
        entry, one = left
        home = str(self.setup.folder / "trials" / str(entry.job.number))
        config = self.setup.configs.trial(self.setup.space, entry.job.chosen)
        keep(config, home, one.weights, entry.member.history, one.best_epoch, one.metrics)

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

    def split(self) -> str | None:
        """What splits the packs, said once."""
        if self.told or len(self.kinds) < 2:
            return None
        self.told = True
        return f"packs: trials of different {', '.join(self._differing())} go into different packs"

    def named(self, kind: Kind) -> str:
        """A pack by what sets it apart."""
        return "  ".join(f"{path}={kind.parts.get(path, '')}" for path in self._differing()) or "all"

    def _differing(self) -> list[str]:
        paths = dict.fromkeys(path for kind in self.kinds.values() for path in kind.parts)
        return [path for path in paths if len({kind.parts.get(path) for kind in self.kinds.values()}) > 1]

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
            self.said = f"packs: {self.named(kind)}: {why}; such trials train one at a time"
            return
        kind.most = max(FEWEST, before // 2)
        self.said = f"packs: {before} trials: {why}; the pack goes on with {kind.most}"
        assert self.states is not None, "made with the first trial"
        found = self.states.find({entry.job.number for entry in entries})
        for entry in reversed(entries):
            saved = entry.saved or found.get(entry.job.number)
            entry.saved = saved if saved and saved.meant == entry.meant else None
            config = self.setup.configs.lent(self.setup.space, entry.job.chosen)
            entry.member = member_of(entry.job.number, config, kind.data)
            kind.waiting.appendleft(entry)

    def _close(self, kind: Kind) -> None:
        if not kind.live:
            kind.pack = None

    def _log(self, entry: Entry, why: str) -> None:
        home = self.setup.folder / "trials" / str(entry.job.number)
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
    rows = entry.member.history
    seconds = round(sum(float(row.get("seconds") or 0.0) for row in rows), 3)
    about: dict[str, Any] = {"stopped_epoch": _step(entry.member), "seconds": seconds}
    if left is not None:
        about |= {"best_epoch": left.best_epoch} if left.best_epoch else {}
    return about


def _step(member: Member) -> int:
    return int(member.history[-1]["epoch"]) if member.history else 0


def _below(part: str, key: str) -> bool:
    return part == key or part.startswith(f"{key}.")


def _values(dimension: Dimension) -> float:
    """How many values a dimension has."""
    if isinstance(dimension, Categorical):
        return len(dimension.choices)
    if isinstance(dimension, Continuous) and dimension.step is None:
        return 1.0 if dimension.low == dimension.high else math.inf
    return (dimension.high - dimension.low) / (dimension.step or 1) + 1
