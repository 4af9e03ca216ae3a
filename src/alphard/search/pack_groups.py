"""Trials grouped by what cannot be stacked: each group's trials go into one pack."""

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from alphard import build
from alphard.construct import snapshot
from alphard.data import TableData, kept
from alphard.packs import memory
from alphard.packs.kind import Unpackable
from alphard.packs.member import Member
from alphard.packs.pack import Pack
from alphard.packs.packable import member_of
from alphard.search.device_memory import device_of, free
from alphard.search.pack_states import Saved
from alphard.search.space import Categorical, Continuous, Dimension
from alphard.search.worker import Job, Setup

GIB = 1 << 30
# Rows times parameters of a step whose time is mostly spent between operations: such trials pack, whatever a busy
# machine measures, for in a pack a trial's last bits are others than alone.
SMALL = {"cpu": 5e6, "cuda": 2e9}
LIKELY = 64  # of those, so many are worth it in any case
SLOWER = "steps of its size are no faster together than one by one"
FEWEST = 2  # trials of a pack: one alone would be another arithmetic
EXPECTED = 2.0  # trials of a kind in the whole study; with fewer there is nothing to pack


@dataclass
class Entry:
    """A trial that waits for its place, or has one.

    meant:  the values and rows that it is trained with.
    logged: whether loggers hear of it.
    """

    job: Job
    member: Member
    meant: str
    logged: bool = False
    saved: Saved | None = None


@dataclass
class Kind:
    """Trials that can be stacked.

    most: of a pack.
    size: bytes that each adds.
    rows: a digest of the data's.
    """

    data: TableData
    device: torch.device
    parts: dict[str, str]
    most: int
    size: int
    rows: int
    waiting: deque[Entry] = field(default_factory=deque)
    live: dict[int, Entry] = field(default_factory=dict)
    pack: Pack | None = None


class Groups:
    """The kinds of trials that a worker has seen.

    most:   trials of a pack, where fewer are wanted than fit.
    budget: bytes for all packs of this worker, from the first kind on.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup, self.settings = setup, setup.settings
        self.kinds: dict[str, Kind] = {}
        self.tables: dict[str, TableData] = {}
        self.refused: dict[str, Unpackable] = {}
        self.most = self.settings.pack.size or self.settings.pending
        self.budget = 0
        self.told = False

    def config(self, job: Job) -> Mapping[str, Any]:
        """A trial's config."""
        return self.setup.configs.to_read(self.setup.space, job.chosen)

    def entry(self, job: Job, config: Mapping[str, Any]) -> tuple[Kind, Entry]:
        """A trial as a member, and its kind.  Raises Unpackable, and what a single run would be refused for."""
        key, data = self._data(config)
        member = member_of(job.number, config, data)
        key = f"{key}\n{member.kind}"
        if key not in self.kinds and key not in self.refused:
            try:
                self.kinds[key] = self._kind(member, data, device_of(config))
            except Unpackable as why:
                self.refused[key] = why
            except memory.OUT_OF_MEMORY as error:
                if not memory.is_out_of_memory(error):
                    raise
                # Not raised here, for its context's frames hold the tensors that were too many.
                self.refused[key] = Unpackable("a few trials together are out of memory already", "batch_size")
        if key in self.refused:
            raise self.refused[key]
        kind = self.kinds[key]
        meant = json.dumps([job.chosen, kind.rows], sort_keys=True, default=str)
        return kind, Entry(job, member, meant, bool(config.get("logger")))

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

    def _data(self, config: Mapping[str, Any]) -> tuple[str, TableData]:
        """The rows that a trial is trained with, shared by all that ask for the same."""
        node = snapshot(config["data"])
        key = kept.key_of(node, own=not str(node.get("_target_", "")).startswith("alphard."))
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
        rows = len(data.splits.train)
        work = min(member.batch_size or rows, rows) * sum(p.numel() for p in member.net.parameters())
        small = work <= SMALL[device.type]
        if not small and memory.is_long(member, data, device):
            raise Unpackable(SLOWER, "batch_size")
        size = memory.needed(member, data, device)
        if self.budget < FEWEST * size:
            why = f"a trial takes {size / GIB:.2g} GiB of a worker's {self.budget / GIB:.2g}, and no two fit"
            raise Unpackable(why, "search.pack.memory")
        fits = self.budget // size
        if small:
            share = max(LIKELY, math.ceil(self.settings.trials / self.settings.parallel))
            most = self.most or memory.size(member, data, device, self.budget, size, LIKELY, share)
        else:
            most = memory.size(member, data, device, self.budget, size)
            if most < FEWEST:
                raise Unpackable(SLOWER, "batch_size")
        return Kind(data, device, member.parts, min(most, fits, self.most or most), size, kept.digest(data.splits))


def _below(part: str, key: str) -> bool:
    return part == key or part.startswith(f"{key}.")


def _values(dimension: Dimension) -> float:
    """How many values a dimension has."""
    if isinstance(dimension, Categorical):
        return len(dimension.choices)
    if isinstance(dimension, Continuous) and dimension.step is None:
        return 1.0 if dimension.low == dimension.high else math.inf
    return (dimension.high - dimension.low) / (dimension.step or 1) + 1
