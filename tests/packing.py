"""Members and packs of configs, as a search's trials would make them."""

import csv
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from alphard.build import data_of
from alphard.data import TableData
from alphard.packs.member import Member
from alphard.packs.pack import Left, Pack
from alphard.packs.packable import member_of
from tests.in_process import config_of, run_here
from tests.passengers import passengers

CPU = torch.device("cpu")
composed = functools.cache(config_of)
SMALL = ("data=breast_cancer", "trainer=cpu", "threads=1", "model.net.hidden=[16,8]", "model.net.dropout=0", "epochs=3")


def table(*line: str) -> TableData:
    """The line's rows."""
    data = data_of(config_of(*line), shared=True)
    assert isinstance(data, TableData)
    return data


def member(*line: str, number: int = 0, data: TableData | None = None, **values: Any) -> Member:
    """The trial that a line trains, with `values` of its own, which are not composed anew."""
    config = composed(*line).copy()
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return member_of(number, config, data or table(*line))


def pack_of(
    members: Iterable[Member],
    data: TableData,
    most: int = 64,
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
) -> Pack:
    """A pack of them all."""
    pack = Pack(data, device, most, dtype)
    for each in members:
        pack.join(each)
    return pack


def trained(members: Iterable[Member], data: TableData, dtype: torch.dtype = torch.float32) -> dict[int, Left]:
    """What each has come to, trained together to its end."""
    members = [*members]
    pack, left = pack_of(members, data, len(members), dtype), {}
    while pack.members:
        pack.epoch()
        left |= pack.leave(*pack.failed, *pack.done)
    return left


def alone(folder: Path, *line: str, threads: int = 1) -> list[dict[str, float]]:
    """The rows of eval_history.csv of the real run."""
    before = torch.get_num_threads()
    try:
        run_here(folder, *line, f"threads={threads}", "resume=never", "checkpoint_seconds=null")
    finally:
        torch.set_num_threads(before)
    lines = (folder / "eval_history.csv").read_text().splitlines()
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]


def same(left: Left, right: Left) -> bool:
    """Bitwise: weights, curves, and which epoch was best."""
    curves = [[{k: v for k, v in row.items() if k != "seconds"} for row in x.member.history] for x in (left, right)]
    weights = all(torch.equal(left.weights[name], right.weights[name]) for name in right.weights)
    return weights and curves[0] == curves[1] and left.best_epoch == right.best_epoch and left.value == right.value


def titanic(folder: Path, rows: int = 300) -> tuple[str, ...]:
    """A line of the passengers' file, made."""
    (folder / "passengers.csv").write_text(passengers(rows))
    return "experiment=titanic", f"data.path={folder / 'passengers.csv'}"
