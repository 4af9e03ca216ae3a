"""An epoch's steps made in one of Lightning's: bitwise what they are one at a time, and one at a time where asked for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    StochasticWeightAveraging,
    Timer,
)
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from alphard import checkpoint
from alphard.data import Synthetic
from alphard.in_one_go import InOneGo
from alphard.models import MLP, BestWeights, Classifier
from tests.in_process import run_here
from tests.killing import cut_at, left_by
from tests.test_models import fit

STEPS, EPOCHS = 4, 3
ADAMW = partial(torch.optim.AdamW, lr=0.05, fused=True)
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Watch(pl.Callback):
    """What can be seen of a training between its epochs, and after each one's last step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, hook: str, trainer: pl.Trainer) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        counted = (trainer.current_epoch, trainer.global_step, trainer.fit_loop.total_batch_idx, trainer.is_last_batch)
        state = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        self.seen.append((hook, metrics, rates, counted, str(state), trainer.fit_loop.state_dict()))

    def on_train_epoch_start(self, trainer: pl.Trainer, _: Any) -> None:
        self.note("start", trainer)

    def on_validation_end(self, trainer: pl.Trainer, _: Any) -> None:
        self.note("validated", trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, _: Any) -> None:
        self.note("end", trainer)

    def on_train_end(self, trainer: pl.Trainer, _: Any) -> None:
        self.note("over", trainer)


def data(rows: int = 125, batch_size: int | None = 32) -> Synthetic:
    """100 training rows in four batches, the last of them short."""
    return Synthetic(rows=rows, features=4, classes=3, batch_size=batch_size)


def trained(
    *last: pl.Callback,
    kind: type[Classifier] = Classifier,
    optimizer: Any = ADAMW,
    net: dict[str, Any] | None = None,
    rows: Any = data,
    callbacks: Callable[[], list[pl.Callback]] = list,
    model: dict[str, Any] | None = None,
    **given: Any,
) -> tuple[list[Any], list[torch.Tensor]]:
    """What was seen, and the weights with the optimizer's state."""
    torch.manual_seed(0)
    made = kind(4, 3, partial(MLP, **{"hidden": [8], **(net or {})}), optimizer, **(model or {}))
    watch = Watch()
    trainer = fit(made, rows(), *callbacks(), watch, *last, **{"max_epochs": EPOCHS, **given})
    state = trainer.optimizers[0].state_dict()["state"].values()
    return watch.seen, [*made.state_dict().values(), *(part for each in state for part in tensors(each.values()))]


def tensors(parts: Any) -> list[torch.Tensor]:
    found = []
    for part in parts:
        found += tensors(part) if isinstance(part, list) else [part] if isinstance(part, torch.Tensor) else []
    return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that Lightning makes itself."""
    really, steps = _TrainingEpochLoop.advance, []

    def counted(self: Any, fetcher: Any) -> None:
        steps.append(self.batch_idx + 1)
        really(self, fetcher)

    monkeypatch.setattr(_TrainingEpochLoop, "advance", counted)
    return steps


def must_be_the_same(one: Any, other: Any) -> None:
    assert one[0] == other[0]
    assert len(one[1]) == len(other[1])
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one[1], other[1], strict=True))


# The same


class ByTheStep(Classifier):
    """A scheduler that is stepped with the optimizer, and asks Lightning how many steps there will be."""

    every = 1

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.net.parameters())
        scheduler = OneCycleLR(optimizer, 0.2, int(self.trainer.estimated_stepping_batches))
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": self.every}]


class ByThreeSteps(ByTheStep):
    every = 3


class PlateauByTheStep(Classifier):
    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.net.parameters())
        watched = {"scheduler": ReduceLROnPlateau(optimizer, patience=2, threshold=1.0), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": watched | {"monitor": "validation_loss", "strict": False}}


def lbfgs(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


def stopping(**given: Any) -> list[pl.Callback]:
    return [EarlyStopping("validation_loss", patience=0, min_delta=10.0, **given)]


SAME: dict[str, dict[str, Any]] = {
    "adamw": {},
    "dropout": {"net": {"dropout": 0.5}},
    "batch normalisation": {"net": {"normalisation": "batch"}, "optimizer": MOMENTUM},
    "weights and smoothing": {"model": {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}},
    "cosine": {"model": {"scheduler": partial(CosineAnnealingLR, T_max=EPOCHS)}, "optimizer": MOMENTUM},
    "plateau": {"model": {"scheduler": partial(ReduceLROnPlateau, patience=0, threshold=1.0)}},
    "a scheduler by the step": {"kind": ByTheStep, "optimizer": MOMENTUM},
    "by three": {"kind": ByThreeSteps, "optimizer": MOMENTUM},
    "a plateau by the step": {"kind": PlateauByTheStep},
    "a closure called thrice": {"optimizer": lbfgs},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true", "optimizer": MOMENTUM},
    "64-true": {"precision": "64-true"},
    "stopped": {"callbacks": stopping, "max_epochs": 9},
    "not yet stopped": {"callbacks": stopping, "min_epochs": 4, "max_epochs": 9},
    "the best": {"callbacks": lambda: [BestWeights("validation_loss")]},
    "averaged in the end": {"callbacks": lambda: [StochasticWeightAveraging(0.01, 2)], "max_epochs": 5, "optimizer": MOMENTUM},
    "every second": {"check_val_every_n_epoch": 2, "max_epochs": 4},
    "loaders made anew": {"reload_dataloaders_every_n_epochs": 1},
    "without validation": {"limit_val_batches": 0},
    "two batches": {"rows": partial(data, batch_size=50)},
    "one batch": {"rows": partial(data, batch_size=None)},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*validation_loss.* which is not available")
@pytest.mark.parametrize("how", SAME)
def test_in_one_go_or_one_at_a_time_all_is_the_same(how: str, made: list[int]) -> None:
    one_at_a_time = trained(**SAME[how])
    steps = len(made)
    made.clear()
    must_be_the_same(trained(InOneGo(), **SAME[how]), one_at_a_time)
    epochs = sum(hook == "end" for hook, *_ in one_at_a_time[0])
    assert one_at_a_time[0][-1][3][1] == steps
    assert len(made) == epochs, "Lightning makes the last step of each epoch, and no other"


def test_whoever_is_told_hears_of_every_step_as_from_lightning() -> None:
    class Told(Watch):
        def on_train_batch_end(self, trainer: pl.Trainer, model: Any, _: Any, batch: Any, index: int) -> None:
            self.note(f"step {index} of {len(batch[1])} rows, loss {model._loss_sum}", trainer)

    heard = []
    for go in (pl.Callback, InOneGo):
        told = Told()
        last = (go(told), told) if go is InOneGo else (told,)
        trained(*last, kind=ByTheStep, optimizer=MOMENTUM)
        heard.append(told.seen)
    assert heard[0] == heard[1]
    assert len(heard[0]) == EPOCHS * (STEPS + 3) + 1


# One at a time


class OwnStep(Classifier):
    def training_step(self, batch: Any, index: int) -> Any:
        return super().training_step(batch, index)


class OwnOptimizerStep(Classifier):
    def optimizer_step(self, *args: Any, **given: Any) -> None:
        super().optimizer_step(*args, **given)


class Hears(Classifier):
    def on_before_zero_grad(self, _: Any) -> None:
        pass


class Moves(Synthetic):
    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        return batch


class Loaders(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        X = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(X, (X[:, 0] > 0).long()), batch_size=32)

    def val_dataloader(self) -> Any:
        return self.train_dataloader()


class OwnStrategy(SingleDeviceStrategy):
    pass


class OwnPrecision(Precision):
    pass


def scaling() -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))


ASKED: dict[str, Callable[[], dict[str, Any]]] = {
    "clipping": lambda: {"gradient_clip_val": 1.0},
    "accumulation": lambda: {"accumulate_grad_batches": 2},
    "max_steps": lambda: {"max_steps": 10},
    "min_steps": lambda: {"min_steps": 3},
    "a limit in batches": lambda: {"limit_train_batches": 3},
    "a limit in parts": lambda: {"limit_train_batches": 0.5},
    "overfitting": lambda: {"overfit_batches": 3},
    "validation by batches": lambda: {"val_check_interval": 2},
    "validation by parts": lambda: {"val_check_interval": 0.5},
    "validation by all batches": lambda: {"val_check_interval": 3, "check_val_every_n_epoch": None},
    "validation by time": lambda: {"val_check_interval": "00:00:00:01"},
    "a time": lambda: {"max_time": "00:01:00:00"},
    "a dry run": lambda: {"fast_dev_run": 3},
    "logging": lambda: {"log_every_n_steps": 1},
    "a profiler": lambda: {"profiler": "simple"},
    "a scale": lambda: {"plugins": [scaling()], "optimizer": MOMENTUM},
    "an own strategy": lambda: {"strategy": OwnStrategy(torch.device("cpu"))},
    "an own precision": lambda: {"plugins": [OwnPrecision()]},
    "averages": lambda: {"callbacks": lambda: [EMAWeightAveraging(decay=0.9)]},
    "a timer": lambda: {"callbacks": lambda: [Timer(interval="epoch")]},
    "a function": lambda: {"callbacks": lambda: [LambdaCallback(on_before_backward=lambda *_: None)]},
    "own step": lambda: {"kind": OwnStep},
    "own optimizer step": lambda: {"kind": OwnOptimizerStep},
    "own hook": lambda: {"kind": Hears},
    "own way of batches": lambda: {"rows": lambda: Moves(rows=125, features=4, classes=3, batch_size=32)},
    "loaders": lambda: {"rows": Loaders},
}  # fmt: skip


@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_for_by_the_step_is_had_by_the_step(what: str, made: list[int]) -> None:
    one_at_a_time = trained(**ASKED[what]())
    steps = list(made)
    made.clear()
    must_be_the_same(trained(InOneGo(), **ASKED[what]()), one_at_a_time)
    assert made == steps
    assert steps[:2] == [0, 1]


def test_an_epoch_at_a_time_is_asked(made: list[int]) -> None:
    def changing() -> list[pl.Callback]:
        return [GradientAccumulationScheduler({1: 2, 2: 1})]

    one_at_a_time = trained(callbacks=changing)
    made.clear()
    must_be_the_same(trained(InOneGo(), callbacks=changing), one_at_a_time)
    last = STEPS - 1
    assert made == [last, *range(STEPS), last]


# In a run, with its checkpoints

LINE = ("data=breast_cancer", "epochs=3", "scheduler=cosine", "model.net.dropout=0.2", "checkpoint_seconds=0")


def test_a_run_makes_its_epochs_in_one_go_and_leaves_the_same(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(tmp_path / "in one go", *LINE, lean=True)
    assert made == [7] * 3
    made.clear()
    run_here(tmp_path / "logged", *LINE, "+trainer.log_every_n_steps=1", lean=True)
    assert made == [*range(8)] * 3
    monkeypatch.setattr(InOneGo, "_choose", lambda *_: None)
    run_here(tmp_path / "one at a time", *LINE, lean=True)
    assert left_by(tmp_path / "in one go") == left_by(tmp_path / "one at a time") == left_by(tmp_path / "logged")


def test_a_checkpoint_between_two_steps_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for folder in ("in one go", "one at a time"):
        cut_at(13, tmp_path / folder, *LINE, lean=True)
        names = sorted((tmp_path / folder / "checkpoints").iterdir())
        assert [path.name for path in names] == [f"step-{step:012}.ckpt" for step in (11, 12)]
        states.append(checkpoint.loads(names[-1].read_bytes()))
        for name in [name for name in states[-1]["callbacks"] if name.startswith("History")]:
            del states[-1]["callbacks"][name]  # it holds seconds
        monkeypatch.setattr(InOneGo, "_choose", lambda *_: None)
    one, other = states
    assert one.keys() == other.keys()
    assert {name for name in one if checkpoint.dumps({"": one[name]}) != checkpoint.dumps({"": other[name]})} == set()
