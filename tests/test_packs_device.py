"""Packs on a GPU, on any machine: pretended.py refuses what a GPU would, and notes where the host waits for it."""

import copy
import gc
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import AdamW

from alphard.data import TableData
from alphard.packs import memory, pack
from alphard.packs.graphs import Launcher
from alphard.packs.kind import Unpackable
from alphard.packs.member import Member
from alphard.packs.pack import Left
from alphard.packs.packable import member_of
from alphard.search import pack_groups
from tests.in_process import config_of
from tests.packing import CPU, SMALL, member, pack_of, same, table, trained
from tests.pretended import GPU, Generator, Gpu
from tests.test_pool import ended, job, pool_in, told

LAUNCHED = 14  # operations a step, at most; unrecorded it has 86 to 284
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
        # An epoch is prepared by copies, and read in one go; a step is recorded once.
        recorded = ["synchronize"] * (name != "whole")  # whose epoch is one step
        assert [what for what in gpu.waits if what != "to"] == [*recorded, "tolist"]
        states = pack.states()
        assert not any(gpu.has(table) for state in states.values() for table in state["tables"].values())
        then = pack_of([], data, device=GPU)
        for each in reversed(three(*which)):
            then.join(each, states[each.number])
        pack.train()
        waits, launched = {}, {}
        for steps in (1, 3):  # of a pack that nobody goes on with
            gpu.waits.clear()
            before = gpu.launched
            pack.train(steps)
            waits[steps], launched[steps] = [*gpu.waits], gpu.launched - before
        assert waits[3] == waits[1] != []
        assert launched[3] - launched[1] <= 2 * LAUNCHED
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
    few, more = (memory.peaks(memory._filled(one, data, CPU, k)) for k in (2, 4))
    with Gpu() as gpu:
        on_gpu = [memory.peaks(memory._filled(one, data, GPU, k)) for k in (2, 4)]
        for mine, cpus in zip(on_gpu, (few, more), strict=True):
            assert mine == pytest.approx(cpus, rel=0.01)
        lasting = memory.needed(one, data, GPU) - (sum(more) - sum(few)) // 2
        need = memory.needed(one, data, CPU)
        assert lasting == pytest.approx(need - (max(more) - max(few)) // 2, rel=0.01)
        assert 2 <= memory.size(one, data, GPU, 4 * need, need, sure=2) <= 4
        assert gpu.waits.count("synchronize") > 2
        assert nothing_held(gpu)


@pytest.mark.more
def test_out_of_the_gpus_memory_a_pack_goes_on_without_graphs_and_then_with_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_groups, "device_of", lambda _: GPU)

    def run(gpu: Gpu, room: int, records: bool) -> tuple[dict[int, Any], str]:
        monkeypatch.setattr(pack, "Launcher", partial(Launcher, records=records))
        pool = pool_in(tmp_path / f"{room}-{records}", "search.pack.size=4", "epochs=2", "batch_size=256")
        for number in range(4):
            pool.add(job(number), set())
        pool.fill()
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        gpu.room = room
        return told(ended(pool, epochs=5)), pool.said

    with Gpu() as roomy:
        expected, said = run(roomy, roomy.room, records=False)
        assert not said
    with Gpu() as enough:  # but not for a graph, which here keeps every result
        found, said = run(enough, roomy.most, records=True)
        assert "no CUDA graph of a step (CUDA out of memory, were there one); its operations are launched one" in said
        assert found == expected
    with Gpu() as tight:
        found, said = run(tight, roomy.kept + (roomy.most - roomy.kept) * 5 // 6, records=False)
        assert "4 trials: out of memory; the pack goes on with 2" in said
        assert nothing_held(tight)
    assert found == expected


@pytest.mark.parametrize(
    "epochs",
    [[1, 2, 3, 1, 2, 3, 1, 2, 3], [1, 1, 1, 1, 1, 1, 2, 2, 2]],
    ids=["one by one", "as many again in other tables"],
)
def test_trials_that_come_and_go_are_recorded_anew(epochs: list[int], data: TableData) -> None:
    """Three begin; others take their places, six at a time."""

    def through(device: torch.device) -> tuple[dict[int, Left], list[int]]:
        waiting = [member(*LINE, number=n, data=data, epochs=each) for n, each in enumerate(epochs)]
        made, left, recorded = pack_of(waiting[:3], data, device=device), dict[int, Left](), list[int]()
        del waiting[:3]
        while made.members:
            made.epoch()
            recorded.append(sum(graph is not None for graph in made.launch._graphs.values()))
            left |= made.leave(*made.failed, *made.done)
            while waiting and len(made.members) < 6:
                made.join(waiting.pop(0))
        assert not made.launch.failed
        return left, recorded

    expected, none = through(CPU)
    with Gpu():
        found, recorded = through(GPU)
    assert set(none) == {0}
    assert min(recorded) == 1
    assert all(same(found[number], expected[number]) for number in range(len(epochs)))


def test_a_step_that_cannot_be_recorded_is_called(data: TableData) -> None:
    with Gpu() as gpu:
        launch, total = Launcher(), torch.zeros(2, device=GPU)

        def waits(given: dict[str, Tensor]) -> Tensor:
            return total.add_(given["x"] * given["x"].sum().item())

        for n in range(1, 4):
            given = {"x": torch.ones(2, device=GPU)}
            assert launch(waits, given, [total]).tolist() == [2.0 * n] * 2
        assert launch.failed == "CUDA error: operation not permitted when stream is capturing: item"
        assert gpu.recording is None


def test_of_many_shapes_the_last_stay_recorded() -> None:
    with Gpu() as gpu:
        launch, total = Launcher(), torch.zeros((), device=GPU)

        def adds(given: dict[str, Tensor]) -> Tensor:
            return total.add_(given["x"].sum() * 2)

        launched = []
        for _ in range(3):
            for rows in range(1, 12):
                launch(adds, {"x": torch.ones(rows, device=GPU)}, [total])
        for _ in range(4):
            given, before = {"x": torch.ones(3, device=GPU)}, gpu.launched
            launch(adds, given, [total])
            launched.append(gpu.launched - before)
        assert total.tolist() == 2.0 * (3 * 66 + 4 * 3)
        assert launched[0] > 2 == launched[-1] == launched[-2]  # the copy of what it is given, and the graph
        assert len(launch._graphs) <= 8


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
