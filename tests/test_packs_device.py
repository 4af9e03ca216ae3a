"""Packs on a GPU, on any machine: pretended.py refuses what a GPU would, and notes where the host waits for it."""

import copy
import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import AdamW

from alphard.data import TableData
from alphard.packs import memory
from alphard.packs.kind import Unpackable
from alphard.packs.member import Member
from alphard.packs.pack import Left
from alphard.packs.packable import member_of
from alphard.search import pack_groups
from tests.in_process import config_of
from tests.packing import CPU, SMALL, member, pack_of, same, table, trained
from tests.pretended import GPU, Generator, Gpu
from tests.test_pool import ended, job, pool_in, told

LINE = (*SMALL, "epochs=2", "batch_size=128", "learning_rate=0.01", "restore_best=true")


class Own(nn.Module):
    """A form that goes through vmap as a whole, dropout and all."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.hidden, self.norm, self.out = nn.Linear(features, 8), nn.BatchNorm1d(8), nn.Linear(8, classes)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dropout(self.norm(self.hidden(x).sin())))


LINES = {
    "adam": ("optimizer=adam", "scheduler=cosine", "model.label_smoothing=0.1", "restore_best=false"),
    "sgd": ("optimizer=sgd", "scheduler=plateau", "scheduler.patience=0", "model.class_weights=balanced"),
    "nesterov": (
        "optimizer=sgd", "optimizer.nesterov=true", "model.class_weights=balanced", "model.label_smoothing=0.1",
    ),
    "adamw": ("optimizer=adamw", "model.net.hidden=[16,16,8]", "model.net.residual=true", "model.net.dropout=0.2"),
    "batch": ("model.net.normalisation=batch", "model.net.activation=silu", "model.net.dropout=0.2"),
    "own": (),
    "whole": ("batch_size=null", "callbacks=none"),
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> TableData:
    return table(*LINE)


def three(config: DictConfig, data: TableData, own: bool) -> list[Member]:
    """Trials of a config, or of one that asked for `Own`; the first two share batches and noise."""
    made = []
    for number in range(3):
        config.seed = number // 2
        made.append(member_of(number, config, data))
    if not own:
        return made
    net = Own(data.facts["features"], data.facts["classes"])
    nets = [copy.deepcopy(net) for _ in made]
    rest = {"kind": "own", "shapes": {"dropout": torch.Size([8])}}
    return [
        replace(each, net=net, optimizer=AdamW(net.parameters()), **rest) for each, net in zip(made, nets, strict=True)
    ]


@pytest.mark.parametrize("name", LINES)
def test_trials_on_a_gpu_are_the_cpus_and_no_step_waits_for_it(name: str, data: TableData) -> None:
    """Bitwise, as both compute alike here, through epochs, a checkpoint and another pack."""
    which = config_of(*LINE, *LINES[name]), data, name == "own"
    expected = trained(three(*which), data)
    with Gpu() as gpu:
        pack, left = pack_of(three(*which), data, device=GPU), dict[int, Left]()
        gpu.waits.clear()
        pack.epoch()
        assert pack.members[0].steps >= 3 or name == "whole"
        # An epoch is prepared by copies, and read in one go.
        assert [what for what in gpu.waits if what != "to"] == ["tolist"]
        states = pack.states()
        assert not any(gpu.has(table) for state in states.values() for table in state["tables"].values())
        then = pack_of([], data, device=GPU)
        for each in reversed(three(*which)):
            then.join(each, states[each.number])
        waits = {}
        for steps in (1, 3):  # of a pack that nobody goes on with
            gpu.waits.clear()
            pack.train(steps)
            waits[steps] = [*gpu.waits]
        assert waits[3] == waits[1] != []
        while then.members:
            then.epoch()
            left |= then.leave(*then.failed, *then.done)
        assert not any(gpu.has(tensor) for each in left.values() for tensor in each.weights.values())
    assert left.keys() == expected.keys()
    assert all(same(left[number], expected[number]) for number in expected)


def nothing_held(gpu: Gpu) -> bool:
    """Whether all is freed but what libraries keep."""
    gc.collect()  # a stack's own net holds itself
    return gpu.used == gpu.kept


def test_a_trials_memory_on_a_gpu_is_what_its_tensors_take(data: TableData) -> None:
    """Though libraries keep some of their own from the first step on, which is no trial's."""
    one = member(*LINE, *LINES["adamw"], data=data)
    need = memory.needed(one, data, CPU)
    with Gpu() as gpu:
        assert memory.needed(one, data, GPU) == pytest.approx(need, rel=0.01)
        assert 1 < memory.size(one, data, GPU, 4 * need, need) <= 4
        assert gpu.waits.count("synchronize") > 2
        assert nothing_held(gpu)


@pytest.mark.more
def test_out_of_the_gpus_memory_a_pack_goes_on_with_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_groups, "device_of", lambda _: GPU)

    def run(gpu: Gpu, room: int, folder: Path) -> tuple[dict[int, Any], str]:
        pool = pool_in(folder, "search.pack.size=4", "epochs=2", "batch_size=256")
        for number in range(4):
            pool.add(job(number), set())
        pool.fill()
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        gpu.room = room
        return told(ended(pool, epochs=5)), pool.said

    with Gpu() as roomy:
        expected, said = run(roomy, roomy.room, tmp_path / "roomy")
        assert not said
    with Gpu() as tight:
        found, said = run(tight, roomy.kept + (roomy.most - roomy.kept) * 5 // 6, tmp_path / "tight")
        assert "4 trials: out of memory; the pack goes on with 2" in said
        assert nothing_held(tight)
    assert found == expected


def test_what_does_not_even_fit_to_be_measured_trains_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_groups, "device_of", lambda _: GPU)
    with Gpu(room=1 << 16) as gpu:
        pool = pool_in(tmp_path)
        for number in range(2):
            with pytest.raises(Unpackable, match="out of memory"):
                pool.add(job(number), set())
        assert nothing_held(gpu)


def test_the_pretended_gpu_refuses_and_waits_as_a_real_one() -> None:
    with Gpu() as gpu:
        here, there = torch.ones(3, 4), torch.ones(3, 4, device=GPU)
        assert (here.device, there.device, there[1:].T.device, (there + 1).device) == (CPU, GPU, GPU, GPU)
        for mixed in (
            lambda: here + there,
            lambda: torch.mm(here, there.T),
            lambda: torch.mm(there, there.T, out=torch.empty(3, 3)),
            lambda: torch.func.vmap(torch.add)(here, there),
            lambda: torch.stack([here, there]),
            lambda: here[torch.arange(2, device=GPU)],
            lambda: torch.where(there > 0, here, 0.0),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, generator=torch.Generator(), device=GPU)
        assert gpu.has(torch.rand(3, generator=torch.Generator(GPU), device=GPU))
        assert isinstance(torch.Generator(), Generator)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert gpu.waits == []
        for wait in (
            lambda: there.sum().item(),
            lambda: bool(there.sum() > 0),
            there.tolist,
            there.nonzero,
            lambda: there[there > 0],
            lambda: there[[0, 1]],
            lambda: there[torch.tensor([0, 1])],
            there.cpu,
            lambda: here.to(there),
            lambda: torch.tensor([1.0, 2.0], device=GPU),
            lambda: there.copy_(here),
            lambda: torch.equal(there, there),
        ):
            wait()
            assert len(gpu.waits) == 1, gpu.waits
            gpu.waits.clear()
        gpu.room = gpu.used + 1000
        with pytest.raises(torch.OutOfMemoryError) as error:
            there.expand(30, 3, 4).clone()
        assert memory.is_out_of_memory(error.value)
    assert torch.Generator is not Generator
