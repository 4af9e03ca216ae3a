"""A trial in a pack is the trial alone: gradients, optimizer, whole curves; with dropout, their distribution."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from alphard import build
from alphard.data import Batches
from alphard.models import Classifier
from alphard.packs.loss import cross_entropy, gradient, targets, weighed
from alphard.packs.optimizer import KINDS
from alphard.packs.pack import Pack
from tests.in_process import config_of
from tests.packing import SMALL, alone, member, pack_of, table, titanic, trained

NETS = {
    "plain": (),
    "batch": ("model.net.normalisation=batch",),
    "layer": ("model.net.normalisation=layer", "model.net.activation=gelu"),
    "residual": ("model.net.hidden=[16,16,8]", "model.net.residual=true", "model.net.activation=silu"),
    "weighted": ("model.class_weights=balanced", "model.label_smoothing=0.1", "model.net.activation=tanh"),
}


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", NETS)
def test_gradients_along_a_trajectory_are_the_single_models(
    name: str, dtype: torch.dtype, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step of a pack's way, the single model at the same weights has the same gradient."""
    line = (*SMALL, *NETS[name], "learning_rate=0.01")
    data = table(*line)
    members = [member(*line, number=seed, data=data, seed=seed) for seed in range(3)]
    pack = pack_of(members, data, dtype=dtype)
    model: Any = build.model_of(config_of(*line), data.facts)
    assert type(model) is Classifier
    model.to(dtype).train()
    stack = pack.stack
    assert stack is not None
    at = 1  # the row that is followed
    loader = Batches(*pack.rows, members[at].batch_size, members[at].order)
    batches = [batch for _ in range(2) for batch in loader]
    far: list[float] = []
    whole = type(pack.rule).step

    @torch.enable_grad()
    def compare(rule: Any, weights: Any, gradient: torch.Tensor, *rest: Any) -> None:
        own = {name: p[at] for name, p in stack.parameters(4).items()}
        with torch.no_grad():
            for key, parameter in model.net.named_parameters():
                parameter.copy_(own[key])
        model.zero_grad()
        x, y = batches[len(far)]
        F.cross_entropy(model.net(x), y, weight=model.class_weights, label_smoothing=model.smoothing).backward()
        stacked = {key: g[at] for key, g in stack.parameters(4, "gradient").items()}
        apart = sum(float((p.grad - stacked[key]).square().sum()) for key, p in model.net.named_parameters())
        norm = sum(float(p.grad.square().sum()) for p in model.net.parameters())
        far.append((apart / norm) ** 0.5)
        with torch.no_grad():
            whole(rule, weights, gradient, *rest)

    monkeypatch.setattr(type(pack.rule), "step", compare)
    pack.epoch()
    pack.epoch()
    assert len(far) == len(batches) > 10
    assert max(far) < close


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    ("rule", "kind", "each"),
    [
        ("AdamW", AdamW, [{}, {"lr": 0.03, "betas": (0.5, 0.9)}, {"weight_decay": 0.3, "eps": 1e-4}]),
        ("Adam", Adam, [{}, {"lr": 0.03, "betas": (0.5, 0.9)}, {"weight_decay": 0.3, "eps": 1e-4}]),
        ("SGD", SGD, [{}, {"momentum": 0.9, "dampening": 0.3}, {"weight_decay": 0.3, "lr": 0.1, "momentum": 0.5}]),
        (
            "SGD with Nesterov",
            SGD,
            [{"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1}],
        ),
    ],
)
def test_the_stacked_optimizer_is_torchs_after_400_steps(
    rule: str, kind: Any, each: list[dict[str, Any]], dtype: torch.dtype, close: float
) -> None:
    """Fed the same gradients, with schedulers that change the rate each epoch; the second trial joins later."""
    torch.manual_seed(0)
    k, width, steps = len(each), 96, 10
    start = torch.randn(k, width, dtype=dtype)
    singles = [nn.Parameter(row.clone()) for row in start]
    optimizers = [kind([p], **({"lr": 0.01} | own)) for p, own in zip(singles, each, strict=True)]
    schedulers: list[Any] = [
        CosineAnnealingLR(optimizers[0], T_max=40),
        ReduceLROnPlateau(optimizers[1], patience=3),
        None,
    ]
    stacked, weights = KINDS[rule], start.clone()
    states = {name: torch.zeros_like(weights) for name in stacked.states}
    taken = [0] * k
    target = torch.randn(width, dtype=dtype)
    for epoch in range(40):
        live = [i for i in range(k) if i != 1 or epoch >= 5]
        groups = [
            o.param_groups[0] if i in live else dict(o.param_groups[0]) | {"lr": 0.0, "weight_decay": 0.0}
            for i, o in enumerate(optimizers)
        ]
        for by in stacked.columns(groups, taken, steps, weights):
            gradient = torch.zeros_like(weights)
            for i in live:
                singles[i].grad = (singles[i].detach() - target) + 0.1 * torch.randn(width, dtype=dtype)
                gradient[i] = singles[i].grad
                optimizers[i].step()
            stacked.step(weights, gradient, states, by, torch.empty_like(weights))
        for i in live:
            taken[i] += steps
        for i, scheduler in enumerate(schedulers[:k]):
            if scheduler is not None and i in live:
                scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
    assert taken == [400, 350, 400][:k]
    apart = torch.stack([*singles]).detach() - weights
    assert float((apart.norm(dim=1) / weights.norm(dim=1)).max()) < close


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_torchs(smoothing: float | None, weighted: bool) -> None:
    """So is its gradient; rows that fill a batch up count for nothing."""
    torch.manual_seed(0)
    z, y = torch.randn(3, 4, 16, dtype=torch.float64), torch.randint(4, (3, 7))
    weights = torch.rand(3, 4, dtype=torch.float64) if weighted else None
    smooth = None if smoothing is None else torch.full((3,), smoothing, dtype=torch.float64)
    goals = weighed(torch.stack([targets(each, 4, 16, z) for each in y]), smooth, weights)
    log = z.log_softmax(1)
    for i in range(3):
        own = z[i, :, :7].T.clone().requires_grad_()
        w = None if weights is None else weights[i]
        loss = F.cross_entropy(own, y[i], weight=w, label_smoothing=smoothing or 0.0)
        loss.backward()
        torch.testing.assert_close(cross_entropy(log, goals)[i], loss.detach())
        torch.testing.assert_close(gradient(log, goals)[i], F.pad(own.grad.T, (0, 9)))


CURVES = {
    "breast_cancer": ("data=breast_cancer", "model.net.hidden=[64,32]", "model.net.dropout=0", "epochs=8"),
    "digits": ("data=digits", "model.net.hidden=[64,32]", "model.net.dropout=0", "epochs=8"),
    "titanic": ("model.net.dropout=0", "epochs=8"),
    "cosine": ("data=breast_cancer", "scheduler=cosine", "optimizer=sgd", "optimizer.nesterov=true", "model.net.dropout=0", "epochs=6"),
    "plateau": ("data=breast_cancer", "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.2", "optimizer=adam", "model.net.dropout=0", "epochs=6"),
    "batch": ("data=breast_cancer", "model.net.normalisation=batch", "model.net.dropout=0", "epochs=6"),
    "whole": ("data=breast_cancer", "batch_size=null", "learning_rate=0.01", "model.net.dropout=0", "epochs=6"),
    "weighted": ("data=breast_cancer", "model.class_weights=balanced", "model.label_smoothing=0.1", "model.net.dropout=0", "epochs=6"),
}  # fmt: skip


@pytest.mark.more
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
def test_curves_are_the_single_runs_wherever_threads_agree_ten_times_closer(
    name: str, dtype: torch.dtype, close: float, tmp_path: Path
) -> None:
    line = (*CURVES[name], "trainer=cpu", "callbacks=none")
    if name == "titanic":
        line = (*titanic(tmp_path), *line)
    double = ("trainer.precision=64-true",) if dtype == torch.float64 else ()
    runs = [alone(tmp_path / f"{t}", *line, *double, threads=t) for t in (1, 2)]
    data = table(*line)
    others = [member(*line, f"learning_rate={rate}", number=n + 1, data=data) for n, rate in enumerate((1e-3, 3e-2))]
    left = trained([member(*line, data=data), *others], data, dtype)
    rows = left[0].member.history
    assert len(rows) == len(runs[0])
    # A single run sums its train_loss in float32, whatever its precision.
    compared, columns = 0, ("validation_loss",) if double else ("train_loss", "validation_loss")
    for packed, one, two in zip(rows, *runs, strict=True):
        assert packed["learning_rate"] == pytest.approx(one["learning_rate"], rel=1e-12)
        for column in columns:
            if abs(one[column] - two[column]) <= close / 10 * abs(one[column]):
                compared += 1
                assert packed[column] == pytest.approx(one[column], rel=close), (packed["epoch"], column)
    assert compared >= len(rows)


def test_a_curve_is_the_single_runs(tmp_path: Path) -> None:
    line = (*titanic(tmp_path), "trainer=cpu", "callbacks=none", "scheduler=plateau", "scheduler.patience=0")
    line = (*line, "scheduler.threshold=0.2", "model.net.normalisation=layer", "model.net.dropout=0", "epochs=5")
    rows, data = alone(tmp_path / "run", *line), table(*line)
    left = trained([member(*line, data=data), member(*line, "learning_rate=0.1", number=1, data=data)], data)
    assert len(left[0].member.history) == len(rows) == 5
    assert rows[-1]["learning_rate"] < rows[0]["learning_rate"]
    for packed, one in zip(left[0].member.history, rows, strict=True):
        assert packed.keys() == one.keys()
        for name in packed.keys() - {"seconds"}:
            assert packed[name] == pytest.approx(one[name], rel=1e-4), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_early_stopping_and_the_best_epoch_are_the_single_runs(optimizer: str, tmp_path: Path) -> None:
    line = ("data=breast_cancer", "trainer=cpu", f"optimizer={optimizer}", "learning_rate=0.02", "epochs=30")
    line = (*line, "model.net.hidden=[16]", "model.net.dropout=0", "patience=2", "min_delta=0.002")
    rows = alone(tmp_path, *line)
    data = table(*line)
    longer = member(*line, "patience=30", "learning_rate=0.001", number=1, data=data)
    left = trained([member(*line, data=data), longer], data)
    assert left[0].stopped_epoch == len(rows) < 30
    assert left[1].stopped_epoch == 30
    losses = [row["validation_loss"] for row in rows]
    assert left[0].best_epoch == losses.index(min(losses)) + 1
    assert left[0].metrics["validation_loss"] == pytest.approx(min(losses), rel=1e-4)
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    kept = kept.get("state_dict", kept)
    assert kept.keys() == left[0].weights.keys()
    for name, tensor in kept.items():
        torch.testing.assert_close(left[0].weights[name], tensor, rtol=1e-3, atol=1e-4)


def test_initial_weights_are_bitwise_the_single_runs(tmp_path: Path) -> None:
    """With a rate of almost nothing, what the run keeps is what it began with."""
    line = (*SMALL, "seed=5", "optimizer=sgd", "learning_rate=1e-30", "weight_decay=0", "epochs=1")
    alone(tmp_path, *line)
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    kept = kept.get("state_dict", kept)
    own = member(*line).net.state_dict()
    assert all(torch.equal(kept[f"net.{name}"], tensor) for name, tensor in own.items())


@pytest.mark.more
def test_with_dropout_results_have_the_single_runs_distribution() -> None:
    """200 seeds of a small net: Kolmogorov and Smirnov's test of losses alone against those packed."""
    line = ("data=breast_cancer", "data.fraction=0.3", "trainer=cpu", "callbacks=none", "model.net.hidden=[8]")
    line = (*line, "model.net.dropout=0.5", "epochs=5", "learning_rate=0.01")
    data = table(*line)
    pack = Pack(data, torch.device("cpu"), 200)
    singles = []
    X, y = (torch.from_numpy(a) for a in (data.splits.validation.X, data.splits.validation.y))
    for seed in range(200):
        pack.join(member(*line, number=seed, data=data, seed=seed))
        one = member(*line, number=seed, data=data, seed=1000 + seed)  # apart, for samples must be independent
        for epoch in range(5):
            rows = (torch.from_numpy(a) for a in (data.splits.train.X, data.splits.train.y))
            for x, labels in Batches(*rows, one.batch_size, one.order, epoch=epoch):
                one.optimizer.zero_grad()
                F.cross_entropy(one.net.train()(x), labels).backward()
                one.optimizer.step()
        with torch.no_grad():
            singles.append(float(F.cross_entropy(one.net.eval()(X), y)))
    for _ in range(5):
        pack.epoch()
    packed = [m.history[-1]["validation_loss"] for m in pack.members]
    assert np.std(packed) > 1e-3
    assert ks_2samp(packed, singles).pvalue > 0.01
    # The test would see dropout that is not there, or half of it.
    wrong = trained([member(*line, "model.net.dropout=0.1", number=s, data=data, seed=s) for s in range(60)], data)
    assert ks_2samp([left.metrics["validation_loss"] for left in wrong.values()], singles).pvalue < 0.01
