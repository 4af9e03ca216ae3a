"""Which trials stack, which do not and why, and when each stops."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

from alphard.data import Splits, Table, TableData
from alphard.packs import memory
from alphard.packs.kind import Unpackable, must_stack, structure
from alphard.packs.stopping import Stopping
from tests.packing import CPU, SMALL, member, table

DROPPING = (*SMALL, "model.net.dropout=0.2")


class Halving(nn.Module):
    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.share


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x.unsqueeze(-1))[0][:, -1])


class Counting(nn.Linear):
    """Of a pack it would count once for all."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x)


class Secretive(nn.Module):
    """Computes with weights that nobody is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.own = [self.layer.weight]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.own[0].t() + self.layer.bias


def stacks(net: nn.Module) -> None:
    structure(net)
    torch.manual_seed(0)
    must_stack(net, torch.randn(8, 6), torch.randint(2, (8,)))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Recurrent(), "holds a GRU, which vmap cannot stack"),
        (nn.Sequential(nn.Linear(6, 4), nn.RReLU(), nn.Linear(4, 2)), "vmap cannot stack model.net"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 2))), "holds a parametrization at 0"),
        (nn.Sequential(nn.Linear(6, 4), nn.AlphaDropout(0.3), nn.Linear(4, 2)), "vmap cannot stack model.net"),
        (Counting(6, 2), "changes its own attributes as it computes"),
        (Secretive(), "computes something else|never uses|vmap cannot"),
    ],
)
def test_what_cannot_be_stacked_says_why(net: nn.Module, said: str) -> None:
    with pytest.raises(Unpackable, match=said):
        stacks(net)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm, nn.Identity])
def test_what_stacks_is_left_as_it_was(norm: Any) -> None:
    net = nn.Sequential(nn.Linear(6, 4), norm(4), Halving(), nn.Dropout(0.3), nn.SiLU(), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    stacks(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert net[3].p == 0.3


def test_any_other_attribute_splits_and_a_dropouts_p_does_not() -> None:
    def net(p: float, share: float) -> str:
        return structure(nn.Sequential(nn.Linear(6, 4), Halving(share), nn.Sequential(nn.Dropout(p)), nn.Linear(4, 2)))

    assert net(0.1, 0.5) == net(0.7, 0.5)
    assert net(0.1, 0.5) != net(0.1, 0.4)


def test_values_stack_and_shapes_do_not() -> None:
    data = table(*DROPPING)
    one = member(*DROPPING, data=data)
    alike = ("learning_rate=0.1", "weight_decay=0.3", "optimizer.betas=[0.5,0.9]", "model.net.dropout=0.7", "seed=3")
    alike += ("model.label_smoothing=0.1", "epochs=9", "patience=3", "min_delta=0.1", "scheduler=cosine")  # type: ignore[assignment]
    assert member(*DROPPING, *alike, data=data).kind == one.kind
    splits = {
        "model.net.hidden": "model.net.hidden=[8]",
        "model.net.activation": "model.net.activation=tanh",
        "batch_size": "batch_size=32",
        "optimizer": "optimizer=sgd",
        "model.class_weights": "model.class_weights=balanced",
    }
    for path, override in splits.items():
        other = member(*DROPPING, override, data=data)
        assert other.kind != one.kind
        assert path in {name for name in one.parts if one.parts[name] != other.parts[name]}
    assert not any("dropout" in path or "learning_rate" in path for path in one.parts)


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("+trainer.gradient_clip_val=1.0", "trainer.gradient_clip_val"),
        ("trainer.precision=bf16-mixed", "trainer.precision"),
        ("trainer.devices=2", "trainer.devices"),
        ("logger=tensorboard +logger.tensorboard.log_graph=true", "logger.tensorboard.log_graph"),
        ("+optimizer.amsgrad=true", "optimizer.amsgrad"),
        ("optimizer._target_=torch.optim.NAdam ~optimizer.fused", "optimizer"),
        ("+callbacks.own={_target_:pytorch_lightning.callbacks.GradientAccumulationScheduler,scheduling:{0:2}}", "callbacks.own"),
    ],
)  # fmt: skip
def test_a_config_that_trains_alone_names_its_path(override: str, path: str) -> None:
    data = table(*SMALL)
    with pytest.raises(Unpackable) as why:
        member(*SMALL, *override.split(), data=data)
    assert why.value.path == path


@dataclass  # as a user writes one: it compares by value, so that it has no hash
class Own(TableData):
    draws: bool = False

    def load(self) -> Splits:
        random = np.random if self.draws else np.random.default_rng(0)
        X, y = random.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
        return Splits.of([Table(X[:30], y[:30]), Table(X[30:], y[30:])], ["a", "b", "c"], ["no", "yes"])


def test_rows_of_ones_own_pack_unless_they_draw_as_the_weights_do_after_them() -> None:
    assert member(*SMALL, data=Own()).kind == member(*SMALL, data=Own()).kind
    drawing = Own(draws=True)
    for _ in range(2):
        with pytest.raises(Unpackable, match=r"^Own\.load draws from a global generator"):
            member(*SMALL, data=drawing)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("seed", range(4))
def test_stopping_is_lightnings(mode: str, seed: int) -> None:
    """On random curves, with plateaus and what is not finite."""
    random = np.random.default_rng(seed)
    for _ in range(50):
        told = {"patience": int(random.integers(0, 4)), "min_delta": float(random.choice([0.0, 0.1, 0.3]))}
        told |= {"check_finite": bool(random.integers(2)), "stopping_threshold": float(random.choice([0.05, 0.95]))}
        if random.integers(2):
            told["stopping_threshold"] = None
        theirs: Any = EarlyStopping("validation_loss", mode=mode, **told)
        ours = Stopping.like(theirs)
        for value in np.round(random.random(20), 1).astype(np.float32):
            now = math.nan if random.random() < 0.05 else float(value)
            stops, _ = theirs._evaluate_stopping_criteria(torch.tensor(now))
            assert ours.stops(now) == stops
            if stops:
                break


def test_a_step_that_keeps_the_cores_busy_by_itself_is_long() -> None:
    data = table(*SMALL)
    wide = member(*SMALL, "batch_size=null", "model.net.hidden=[2048,2048]", data=data)
    assert memory.is_long(wide, data, CPU)


def test_memory_is_measured_and_bounds_the_pack() -> None:
    data = table(*SMALL)
    one, wide = member(*SMALL, data=data), member(*SMALL, "model.net.hidden=[256,256]", data=data)
    need, more = (memory.needed(each, data, CPU) for each in (one, wide))
    assert need < more / 10
    assert memory.size(one, data, CPU, 3 * need, need) <= 3
    assert memory.size(one, data, CPU, need, need) == 1
    assert not memory.is_long(one, data, CPU)
    assert memory.is_out_of_memory(
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
    )
    assert not memory.is_out_of_memory(RuntimeError("shape mismatch"))
    with pytest.raises(memory.OUT_OF_MEMORY) as error:
        torch.empty(1 << 60)
    assert memory.is_out_of_memory(error.value)
