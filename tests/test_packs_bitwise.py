"""A trial's numbers do not depend on what else is in its pack, bitwise."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alphard import checkpoint
from alphard.data import TableData
from alphard.packs.member import Member
from alphard.packs.pack import Left
from tests.packing import SMALL, member, pack_of, same, table, titanic, trained

# One that has odd sizes everywhere, and others by what they add.
LINE = (*SMALL, "model.net.hidden=[13,7]", "epochs=2", "batch_size=29")
NETS = {
    "relu": (),
    "batch": ("model.net.normalisation=batch", "model.net.activation=gelu"),
    "layer": ("model.net.normalisation=layer", "model.net.activation=silu"),
    "dropout": ("model.net.dropout=0.3", "model.net.activation=tanh"),
    "residual": ("model.net.residual=true", "model.net.hidden=[9,9]", "optimizer=sgd", "optimizer.nesterov=true"),
    "weighted": ("model.class_weights=balanced", "model.label_smoothing=0.1", "optimizer=adam"),
    "whole": ("batch_size=null", "model.net.activation=silu"),
}
QUICK = ("relu", "batch")
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.more) for name in NETS]


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.more)], ids=["thread", "threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def neighbours(count: int, data: TableData, *line: str) -> list[Member]:
    """Trials that share order and noise with number 0, or do not."""
    made = []
    for n in range(1, count + 1):
        own = {"learning_rate": 0.0003 * n, "seed": n % 3, "weight_decay": 0.1 / n, "patience": n + 1}
        made.append(member(*line, number=n, data=data, **own))
    return made


@pytest.mark.parametrize("name", EACH)
def test_whatever_else_is_in_the_pack(name: str, threads: int) -> None:
    """Alone, or among up to 17 others, in the first row or the last."""
    line = (*LINE, *NETS[name])
    data = table(*line)
    reference = trained([member(*line, data=data)], data)[0]
    for count in (1, 4, 17) if threads == 1 else (2, 9):
        others = neighbours(count, data, *line)
        assert same(trained([member(*line, data=data), *others], data)[0], reference), (count, "first")
        others = neighbours(count, data, *line)
        assert same(trained([*others, member(*line, data=data)], data)[0], reference), (count, "last")


@pytest.mark.more
@pytest.mark.parametrize("name", ["digits", "titanic"])
def test_whatever_else_is_in_a_larger_pack(name: str, tmp_path: Path, threads: int) -> None:
    line = ("trainer=cpu", "threads=1", "model.net.hidden=[64,32]", "epochs=2")
    line = ("data=digits", *line) if name == "digits" else (*titanic(tmp_path), *line)
    data = table(*line)
    reference = trained([member(*line, data=data)], data)[0]
    for count in (1, 128):
        assert same(trained([*neighbours(count, data, *line), member(*line, data=data)], data)[0], reference), count


def test_a_neighbour_that_diverges() -> None:
    line = (*LINE, "epochs=4")
    data = table(*line)
    reference = trained([member(*line, data=data)], data)[0]
    wild = member(*line, "learning_rate=1e30", "optimizer=adamw", number=1, data=data)
    pack = pack_of([wild, member(*line, data=data)], data)
    values = pack.epoch()
    assert list(pack.failed) == [1]
    assert list(values) == [0]
    assert "in epoch 1; training diverged" in pack.failed[1]
    assert not math.isfinite(wild.history[-1]["validation_loss"])
    pack.epoch()  # the neighbour stays for another, as NaN
    left = pack.leave(1)
    assert list(left) == [1]
    while pack.members:
        pack.epoch()
        left |= pack.leave(*pack.done)
    assert same(left[0], reference)


@pytest.mark.parametrize("name", ["batch", "dropout"])
def test_members_join_later_and_leave_earlier(name: str) -> None:
    """Whoever comes and goes, in whichever row one ends up."""
    line = (*LINE, *NETS[name], "epochs=6", "scheduler=cosine")
    data = table(*line)
    reference = {0: trained([member(*line, data=data)], data)[0]}
    reference |= {9: trained([member(*line, "learning_rate=0.01", number=9, data=data)], data)[9]}
    others = neighbours(6, data, *line, "patience=9")
    pack = pack_of([*others[:4], member(*line, data=data)], data)
    left: dict[int, Left] = {}
    pack.epoch()
    pack.join(member(*line, "learning_rate=0.01", number=9, data=data))
    pack.leave(1, 3)  # the last rows take theirs
    pack.epoch()
    pack.join(others[5])
    pack.epoch()
    pack.leave(2, 4, 6)  # 0 and 9 are left
    while pack.members:
        pack.epoch()
        left |= pack.leave(*pack.done)
    assert all(same(left[number], reference[number]) for number in (0, 9))


@pytest.mark.parametrize(
    "line", [(), ("optimizer=sgd", "scheduler=plateau"), ("model.net.normalisation=batch", "model.net.dropout=0.2")]
)
def test_a_state_goes_on_bitwise_in_another_pack(line: tuple[str, ...]) -> None:
    line = (*LINE, *line, "epochs=6", "patience=2")
    data = table(*line)
    reference = trained([member(*line, data=data)], data)[0]
    pack = pack_of([*neighbours(2, data, *line), member(*line, data=data)], data)
    for _ in range(3):
        pack.epoch()
    state: Any = checkpoint.loads(checkpoint.dumps({"state": pack.states()[0]}))["state"]
    pack.epoch()  # what was told is a copy
    other = pack_of(neighbours(1, data, *line), data)
    other.join(member(*line, data=data), state)
    left: dict[int, Left] = {}
    while other.members:
        other.epoch()
        left |= other.leave(*other.done)
    assert same(left[0], reference)


def test_a_state_is_plain() -> None:
    data = table(*LINE)
    pack = pack_of([member(*LINE, "scheduler=cosine", data=data)], data)
    pack.epoch()
    assert all(checkpoint.is_plain(state) for state in pack.states().values())
