"""Trials per minute of packs against one trial after another.

    python benchmarks/packs.py --plot packs.png        about 2 minutes on a quiet machine with 2 cores

10 epochs of batches of 64, 64-32 hidden units, AdamW; trials differ in rate and decay.  Packs train 1,024 trials as a
search does, in one process of one thread for each core (on a GPU, in one process).  The loop is written by hand, with
torch's default AdamW on one thread, without validation, and trains four of them, for a trial of it takes as long as any
other.  Contenders take turns, medians over the turns.  The promise: at least 8 times its trials per minute on digits
and 9 on the lesson's data, and at 256 trials a step that takes at most 1.5 times of the same arithmetic by hand.  On a
GPU (--device cuda) it also says what a step gains as one launch.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from alphard.build import data_of
from alphard.compose import compose, must_be_sound
from alphard.data import Splits, Table, TableData
from alphard.packs import memory
from alphard.packs.graphs import Launcher
from alphard.packs.member import Member
from alphard.packs.pack import Pack
from alphard.packs.packable import member_of

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
CORES = 2
EPOCHS, BATCH, TRIALS, BY_HAND, LOOPED, STEPS = 10, 64, 1024, 256, 4, 8
AT_A_TIME = {"cpu": 64, "cuda": 1024}  # trials of a pack
LINE = ("trainer=cpu", "callbacks=none", f"epochs={EPOCHS}", "model.net.hidden=[64,32]", "model.net.dropout=0")
COUNTS = (1, 4, 16, 64, 256, 1024, 4096)
AT_LEAST = {"digits": 8.0, "the lesson's": 9.0}
Rates = dict[int, float]  # trials per minute by K


class Lesson(TableData):
    """Rows like the lesson's: 712 passengers with 7 numbers to train on, 179 to validate."""

    def load(self) -> Splits:
        random = np.random.default_rng(0)
        X = random.standard_normal((891, 7)).astype(np.float32)
        y = (X[:, 0] + X[:, 1] * X[:, 2] + random.standard_normal(891) > 0).astype(np.int64)
        tables = [Table(X[:712], y[:712]), Table(X[712:], y[712:])]
        return Splits.of(tables, [f"x{i}" for i in range(7)], ["died", "survived"])


def config_of() -> DictConfig:
    config = compose(ROOT / "configs", (*LINE, f"batch_size={BATCH}"))
    must_be_sound(config)
    return config


def tables() -> dict[str, TableData]:
    digits = data_of(config_of())
    assert isinstance(digits, TableData)
    return {"digits": digits, "the lesson's": Lesson(batch_size=BATCH)}


def first(data: TableData) -> Member:
    # The rows are given; only the batch's size is read of the config's data.
    member = member_of(0, config_of(), data)
    member.net.requires_grad_(True)
    return member


def pack_of(member: Member, data: TableData, k: int, device: str = "cpu") -> Pack:
    """K trials of their own rate and decay; their nets begin alike, which no time depends on."""
    pack = Pack(data, torch.device(device), k)
    for n in range(k):
        own = type(member.optimizer)(member.net.parameters(), lr=1e-4 * (1 + n % 50), weight_decay=0.01 * (n % 7))
        pack.join(replace(member, number=n, optimizer=own, history=[]))
    return pack


@dataclass(frozen=True)
class Work:
    """What one process trains: so many trials, K at a time; of their EPOCHS only so many, and the time for all."""

    name: str
    k: int
    trials: int
    device: str
    epochs: int = EPOCHS


def packed(work: Work) -> float:
    """Seconds that the work would take with EPOCHS: joined, trained and validated."""
    data = tables()[work.name]
    member = first(data)
    seconds = 0.0
    for _ in range(work.trials // work.k):
        began = time.perf_counter()
        pack = pack_of(member, data, work.k, work.device)
        joined = time.perf_counter()
        for _ in range(work.epochs):
            pack.epoch()
        pack.leave(*(m.number for m in pack.members))
        seconds += joined - began + (time.perf_counter() - joined) * EPOCHS / work.epochs
    return seconds


def looped(data: TableData) -> float:
    """Seconds a trial, one after another, as people write it, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    X, y = torch.from_numpy(data.splits.train.X), torch.from_numpy(data.splits.train.y)
    features, classes = X.shape[1], len(data.splits.classes)
    began = time.perf_counter()
    for n in range(LOOPED):
        net = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4 * (1 + n))
        for _ in range(EPOCHS):
            for part in torch.randperm(len(y)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(net(X[part]), y[part]).backward()
                optimizer.step()
    seconds = (time.perf_counter() - began) / LOOPED
    torch.set_num_threads(before)
    return seconds


def by_hand(data: TableData, k: int) -> Callable[[], None]:
    """STEPS steps of K nets with torch.baddbmm and foreach operations."""
    X, y = torch.from_numpy(data.splits.train.X), torch.from_numpy(data.splits.train.y)
    sizes = [X.shape[1], 64, 32, len(data.splits.classes)]
    p: list[Tensor] = []
    for i, o in itertools.pairwise(sizes):
        p += [(0.1 * torch.randn(k, i, o)).requires_grad_(), torch.zeros(k, 1, o).requires_grad_()]
    first, second = ([torch.zeros_like(each) for each in p] for _ in range(2))

    def steps() -> None:
        for part in torch.randperm(len(y)).split(BATCH)[:STEPS]:
            z, labels = X[part].expand(k, -1, -1), y[part]
            for n in range(0, len(p), 2):
                z = torch.baddbmm(p[n + 1], z, p[n])
                z = z.relu() if n + 2 < len(p) else z
            loss = F.cross_entropy(z.flatten(0, 1), labels.repeat(k), reduction="sum") / len(labels)
            g = torch.autograd.grad(loss, p)
            with torch.no_grad():
                torch._foreach_mul_(p, 0.9999)
                torch._foreach_lerp_(first, g, 0.1)
                torch._foreach_mul_(second, 0.999)
                torch._foreach_addcmul_(second, g, g, 0.001)
                root = torch._foreach_sqrt(second)
                torch._foreach_div_(root, 0.9)
                torch._foreach_add_(root, 1e-8)
                torch._foreach_addcdiv_(p, first, root, -0.001)

    return steps


def ratio(one: Callable[[], Any], other: Callable[[], Any], turns: int) -> float:
    """The median over turns of the seconds of one by those of the other."""
    one(), other()
    found = []
    for _ in range(turns):
        times = []
        for each in (one, other):
            began = time.perf_counter()
            each()
            times.append(time.perf_counter() - began)
        found.append(times[0] / times[1])
    return statistics.median(found)


class Processes:
    """As many as a search has workers, each of one thread."""

    def __init__(self, device: str) -> None:
        self.count, self.device = CORES if device == "cpu" else 1, device
        self.pool = ProcessPoolExecutor(self.count, get_context("spawn"), torch.set_num_threads, (1,))

    def rate(self, name: str, k: int, trials: int = TRIALS, epochs: int = EPOCHS) -> float:
        """Trials per minute, of all processes; the slowest counts."""
        trials = max(k, trials // self.count)
        works = [Work(name, k, trials, self.device, epochs)] * self.count
        return 60 * self.count * trials / max(self.pool.map(packed, works))


def step(data: TableData, turns: int) -> float:
    pack = pack_of(first(data), data, BY_HAND)
    return ratio(lambda: pack.train(STEPS), by_hand(data, BY_HAND), turns)


def as_one_launch(data: TableData, k: int, turns: int) -> float:
    """Seconds of steps that are replayed by those of steps whose operations are launched one by one."""
    replayed, called = (pack_of(first(data), data, k, "cuda") for _ in range(2))
    called.launch = Launcher(records=False)
    replayed.train()  # which records
    return ratio(lambda: replayed.train(STEPS).tolist(), lambda: called.train(STEPS).tolist(), turns)


def against_the_loop(name: str, data: TableData, processes: Processes, turns: int) -> float:
    k = AT_A_TIME[processes.device]
    processes.rate(name, k, 2 * k)  # warm
    return statistics.median(processes.rate(name, k) * looped(data) / 60 for _ in range(turns))


def by_count(name: str, processes: Processes) -> Rates:
    return {k: processes.rate(name, k, min(512, processes.count * k), epochs=2) for k in COUNTS}


def plot(rates: dict[str, Rates], alone: dict[str, float], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, found in rates.items():
        (line,) = axes.plot([*found], [*found.values()], marker="o", label=f"{name} data")
        axes.axhline(alone[name], color=line.get_color(), linestyle=":", label=f"{name} data, one after another")
    axes.set(xscale="log", yscale="log", xlabel="trials of a pack", ylabel="trials per minute")
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=[*AT_A_TIME], help="of the packs; the loop is on the CPU")
    given = parser.parse_args()
    torch.set_num_threads(CORES)
    data, processes = tables(), Processes(given.device)
    kept, rates = True, {}
    found = step(data["digits"], given.turns)
    print(f"a step of {BY_HAND} trials / by hand: {found:.2f}  (promised: at most 1.5)", flush=True)
    kept &= found <= 1.5
    if given.device == "cuda":
        for k in COUNTS[3:]:
            found = as_one_launch(data["digits"], k, given.turns)
            print(f"a step of {k} trials, as one launch / one by one: {found:.2f}", flush=True)
    for name, rows in data.items():
        times = against_the_loop(name, rows, processes, given.turns)
        kept &= times >= AT_LEAST[name]
        print(f"{name} data, pack / loop: {times:.1f}  (promised: at least {AT_LEAST[name]:.0f})", flush=True)
    for name, rows in data.items():
        need = memory.needed(first(rows), rows, CPU)
        print(f"{name} data: {need / 1e6:.2f} MB a trial; trials per minute by K:", flush=True)
        rates[name] = by_count(name, processes)
        print("  " + "  ".join(f"{k}: {rate:.0f}" for k, rate in rates[name].items()), flush=True)
    if given.plot:
        plot(rates, {name: 60 / looped(rows) for name, rows in data.items()}, given.plot)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
