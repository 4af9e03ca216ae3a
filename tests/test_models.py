"""Networks, the Lightning module that fits them, and the weights that it keeps."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from alphard import noise
from alphard.compose import compose
from alphard.construct import instantiate
from alphard.data import Synthetic
from alphard.data.batches import Batch
from alphard.errors import UserError
from alphard.models import MLP, BestWeights, Classifier, Linear
from alphard.models.classifier import BalancedAccuracy
from alphard.models.networks import ACTIVATIONS, NORMALISATIONS
from alphard.quiet import quiet

CONFIGS = Path(__file__).parents[1] / "configs"


def data(rows: int = 125, batch_size: int | None = 32, classes: int = 3) -> Synthetic:
    """100 training rows of 4 features, the last batch short, and 25 to validate."""
    return Synthetic(rows=rows, features=4, classes=classes, batch_size=batch_size)


def classifier(optimizer: Any = None, hidden: tuple[int, ...] = (8,), **given: Any) -> Classifier:
    """A small model for `data`."""
    torch.manual_seed(0)
    net = partial(MLP, hidden=list(hidden))
    return Classifier(4, 3, net, optimizer or partial(torch.optim.SGD, lr=0.1), **given)


def fit(model: pl.LightningModule, rows: Synthetic, *callbacks: pl.Callback, **given: Any) -> pl.Trainer:
    """Train on the CPU, in silence, without leaving anything behind."""
    with quiet():
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            **{"max_epochs": 1, "num_sanity_val_steps": 0} | given,
        )
        trainer.fit(model, datamodule=rows)
    return trainer


# Networks


@pytest.mark.parametrize(
    ("activation", "normalisation", "residual", "hidden"),
    [*itertools.product(ACTIVATIONS, NORMALISATIONS, [False, True], [[], [5], [8, 8, 5, 5]])],
)
def test_mlp_gives_logits_and_every_weight_a_gradient(
    activation: Any, normalisation: Any, residual: bool, hidden: list[int]
) -> None:
    net = MLP(4, 3, hidden, activation, 0.0, normalisation, residual)
    logits = net(torch.randn(64, 4))
    assert logits.shape == (64, 3)
    torch.autograd.backward(F.cross_entropy(logits, torch.arange(64) % 3))
    widths = [m.out_features for m in net.modules() if isinstance(m, nn.Linear)]
    assert widths == [*hidden, 3]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in net.parameters())


def test_residual_adds_the_input_where_widths_agree() -> None:
    net = MLP(4, 3, [4, 4], residual=True)
    for weight in net.layers[:-1].parameters():
        nn.init.zeros_(weight)
    x = torch.randn(6, 4)
    assert torch.equal(net(x), net.layers[-1](x))  # relu(0) adds nothing: each layer passes its input on


def test_dropout_is_for_training_only() -> None:
    net = MLP(4, 3, [64], dropout=0.5)
    x = torch.randn(6, 4)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("make", [partial(MLP, hidden=[8, 8]), Linear])
def test_initialisation_follows_the_seed(make: Callable[..., nn.Module]) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(make(features=4, classes=3).parameters())

    assert torch.equal(weights(7), weights(7))
    assert not torch.equal(weights(7), weights(8))


# The loss


def test_balanced_weights_are_scikit_learns() -> None:
    y = np.repeat([0, 1, 2], [70, 20, 10])
    model = classifier(class_weights="balanced", class_counts=[70, 20, 10])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    assert isinstance(model.class_weights, Tensor)
    assert np.allclose(model.class_weights.numpy(), expected)
    assert np.isclose(expected[y].mean(), 1)  # mean 1 a row, as the docstring says


def test_class_without_a_row_has_a_finite_weight() -> None:
    weights = classifier(class_weights="balanced", class_counts=[50, 50, 0]).class_weights
    assert isinstance(weights, Tensor)
    assert weights.isfinite().all()


def test_weights_by_hand_are_one_a_class() -> None:
    weights = classifier(class_weights=[1.0, 0.0, 2.5]).class_weights
    assert isinstance(weights, Tensor)
    assert weights.tolist() == [1.0, 0.0, 2.5]
    with pytest.raises(UserError, match=r"^model.class_weights: 2 weights for 3 classes; give one a class"):
        classifier(class_weights=[1.0, 2.0])


def test_weights_of_classes_are_not_saved_with_the_model() -> None:
    assert "class_weights" not in classifier(class_weights=[1.0, 2.0, 3.0]).state_dict()


def smoothed(logits: Tensor, y: Tensor, smoothing: float, weights: Tensor) -> Tensor:
    """torch's formula for one batch, written out: targets (1 - s) one-hot + s / C, weighed by class."""
    log_p = logits.log_softmax(1)
    targets = (1 - smoothing) * F.one_hot(y, logits.shape[1]) + smoothing / logits.shape[1]
    return -(targets * weights * log_p).sum() / weights[y].sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
def test_training_loss_is_weighed_and_smoothed_and_validation_loss_plain(
    smoothing: float, weights: list[float] | None
) -> None:
    rows = data(batch_size=None)
    still = partial(torch.optim.SGD, lr=0.0)
    model = classifier(still, label_smoothing=smoothing, class_weights=weights)
    metrics = fit(model, rows).callback_metrics
    ((x, y),) = rows.train_dataloader()
    expected = smoothed(model(x), y, smoothing, torch.tensor(weights or [1.0] * 3))
    assert torch.allclose(metrics["train_loss"], expected, rtol=1e-5)
    ((x, y),) = rows.val_dataloader()
    assert torch.allclose(metrics["validation_loss"], F.cross_entropy(model(x), y), rtol=1e-5)
    assert metrics["validation_accuracy"] == (model(x).argmax(1) == y).float().mean()


@pytest.mark.parametrize(("limit", "sizes"), [(None, [32, 32, 32, 4]), (3, [32, 32, 32]), (0.5, [32, 32])])
def test_train_loss_is_the_mean_over_the_rows_that_were_trained_on(limit: Any, sizes: list[int]) -> None:
    seen: list[tuple[float, int]] = []

    class Noting(Classifier):
        def training_step(self, batch: Batch, index: int) -> Tensor:
            loss = super().training_step(batch, index)
            seen.append((float(loss.detach()), len(batch[1])))
            return loss

    torch.manual_seed(0)
    model = Noting(4, 3, partial(MLP, hidden=[8]), partial(torch.optim.SGD, lr=0.5))
    told: list[float] = []

    class Told(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
            told.append(float(trainer.callback_metrics["train_loss"]))

    fit(model, data(), Told(), max_epochs=2, limit_train_batches=limit)
    assert [size for _, size in seen] == sizes * 2
    for epoch, value in enumerate(told):
        part = seen[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        assert value == pytest.approx(np.average([loss for loss, _ in part], weights=sizes), rel=1e-6)
    assert len(told) == 2


def test_validation_metrics_are_exact_over_a_short_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alphard.data.module.EVALUATED", 10)  # 25 rows: 10, 10 and 5
    rows, model = data(), classifier()
    metrics = fit(model, rows).callback_metrics
    x, y = (torch.cat(parts) for parts in zip(*rows.val_dataloader(), strict=True))
    assert torch.allclose(metrics["validation_loss"], F.cross_entropy(model(x), y), rtol=1e-6)
    assert metrics["validation_accuracy"] == (model(x).argmax(1) == y).float().mean()


def test_training_learns() -> None:
    model = classifier(partial(torch.optim.Adam, lr=0.02), hidden=(32,))
    assert fit(model, data(rows=1000), max_epochs=10).callback_metrics["validation_accuracy"] > 0.85


def test_one_seed_trains_the_same_weights() -> None:
    def trained(seed: int) -> Tensor:
        model = classifier()
        rows = data()
        rows.seed = seed
        fit(model, rows, max_epochs=2)
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


# The best weights


class Scripted(Classifier):
    """Logs `score` as the script says, and has weights that are the epoch's number."""

    script: tuple[float, ...]

    def on_validation_epoch_end(self) -> None:
        self.log("score", self.script[self.current_epoch])

    def on_train_epoch_end(self) -> None:
        with torch.no_grad():
            for weight in self.parameters():
                weight.fill_(self.current_epoch + 2)  # what the next epoch's validation finds


def scripted(script: tuple[float, ...], best: BestWeights) -> Scripted:
    model = Scripted(4, 3, Linear, partial(torch.optim.SGD, lr=0.0))
    model.script = script
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1)
    fit(model, data(), best, max_epochs=len(script))
    return model


NAN = float("nan")


@pytest.mark.parametrize(
    ("mode", "script", "epoch"),
    [
        ("min", (3.0, 1.0, 2.0), 2),
        ("min", (1.0, 1.0, 1.0), 1),
        ("min", (3.0, 2.0, 1.0), 3),
        ("min", (2.0, NAN, 3.0), 1),
        ("max", (0.1, 0.3, 0.2), 2),
        ("max", (-3.0, -1.0, -2.0), 2),
        ("max", (0.3, 0.2, 0.1), 1),
    ],
)
def test_best_epochs_weights_are_kept_and_put_back(mode: Any, script: tuple[float, ...], epoch: int) -> None:
    best = BestWeights("score", mode)
    model = scripted(script, best)
    assert best.epoch == epoch
    assert all((weight == len(script) + 1).all() for weight in model.parameters())
    best.put_back(model)
    assert all((weight == epoch).all() for weight in model.parameters())


def test_without_restore_the_best_epoch_is_known_and_the_last_weights_stay() -> None:
    best = BestWeights("score", restore=False)
    model = scripted((2.0, 1.0, 3.0), best)
    best.put_back(model)
    assert best.epoch == 2
    assert all((weight == 4).all() for weight in model.parameters())


def test_metric_that_is_never_logged_puts_nothing_back() -> None:
    best = BestWeights("nothing")
    model = scripted((2.0, 1.0), best)
    best.put_back(model)
    assert best.epoch == 0
    assert all((weight == 3).all() for weight in model.parameters())


def test_first_batch_that_only_tests_the_validation_is_no_epoch() -> None:
    best = BestWeights("validation_loss")
    fit(classifier(partial(torch.optim.SGD, lr=0.0)), data(), best, max_epochs=1, num_sanity_val_steps=1)
    assert best.epoch == 1


# The configs


@pytest.mark.parametrize("scheduler", ["none", "cosine", "plateau"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_and_scheduler_of_the_configs_trains(optimizer: str, scheduler: str) -> None:
    config = compose(CONFIGS, [f"optimizer={optimizer}", f"scheduler={scheduler}", "epochs=3"])
    torch.manual_seed(0)
    model = instantiate(config.model, features=4, classes=3)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(model, data(), Rates(), max_epochs=3)
    assert not torch.equal(before, nn.utils.parameters_to_vector(model.parameters()))
    first = config.learning_rate
    assert rates == pytest.approx([first, first * 0.75, first * 0.25] if scheduler == "cosine" else [first] * 3)


def test_plateau_lowers_the_rate_when_validation_loss_stops_falling() -> None:
    config = compose(CONFIGS, ["scheduler=plateau", "scheduler.patience=1", "optimizer=sgd", "learning_rate=1e-6"])
    model = instantiate(config.model, features=4, classes=3)
    trainer = fit(model, data(), max_epochs=4)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5e-6)


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_every_model_of_the_configs_gives_logits(model: str) -> None:
    config = compose(CONFIGS, [f"model={model}"])
    assert instantiate(config.model, features=4, classes=3)(torch.randn(5, 4)).shape == (5, 3)


def test_balanced_accuracy_is_the_mean_over_the_classes_that_have_rows() -> None:
    metric = BalancedAccuracy(4)
    said, true = torch.tensor([0, 0, 0, 1, 1, 3, 3]), torch.tensor([0, 0, 0, 0, 1, 1, 2])
    for part in (slice(0, 3), slice(3, 7)):
        metric.update(said[part], true[part])
    assert metric.compute() == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)


def test_a_balanced_accuracy_is_no_share_of_rows() -> None:
    assert noise.binomial_error(0.9, 100, "validation_accuracy") == pytest.approx(0.03)
    assert noise.binomial_error(0.9, 100, "validation_balanced_accuracy") is None
