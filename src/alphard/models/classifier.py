"""Tabular classification.  Shapes: B rows in a batch, F features, C classes."""

from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall

from alphard.data.batches import Batch
from alphard.errors import UserError
from alphard.types import NonNegative, Share

MakeNet = Callable[..., nn.Module]
MakeOptimizer = Callable[..., Optimizer]
MakeScheduler = Callable[..., LRScheduler]


class BalancedAccuracy(MulticlassRecall):
    """The share of right answers in each class, mean over the classes that have rows."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, average="macro", validate_args=False)

    def compute(self) -> Tensor:
        right, wrong = (torch.as_tensor(counts, dtype=torch.float32) for counts in (self.tp, self.fn))
        recall: Tensor = right / (right + wrong)
        return recall[right + wrong > 0].mean()


class Classifier(pl.LightningModule):
    """Fit a network by cross-entropy; log `train_loss`, `validation_loss` in nats per row and `validation_accuracy`.

    The validation loss is plain cross-entropy, without smoothing or weights, so that configs compare.
    `validation_balanced_accuracy` is the accuracy's mean over classes, for those of very different sizes.

    features, classes, class_counts: the data's facts, given by run().
    net:             (features, classes) -> network of (B, F) -> (B, C) logits; a `_partial_` node.
    optimizer:       parameters -> optimizer; a `_partial_` node in configs/optimizer/.
    scheduler:       optimizer -> scheduler, stepped once an epoch; plateau watches validation_loss.
    label_smoothing: in [0, 1).
    class_weights:   weights of the loss, (C,); "balanced" weighs each class by the inverse of its rows, mean 1 a row.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        net: MakeNet,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        label_smoothing: Share = 0.0,
        class_weights: Literal["balanced"] | list[NonNegative] | None = None,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.classes = net_of(net, features, classes), classes
        self.make_optimizer, self.make_scheduler, self.smoothing = optimizer, scheduler, label_smoothing
        weights = weights_of(class_weights, classes, class_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.accuracy = MulticlassAccuracy(classes, average="micro")
        self.balanced_accuracy = BalancedAccuracy(classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, C) logits."""
        logits: Tensor = self.net(x)
        return logits

    def on_train_epoch_start(self) -> None:
        self._loss_sum, self._rows = torch.zeros((), device=self.device), 0

    def within_epoch(self) -> dict[str, Any]:
        """What an epoch that is not over is, beside the weights: for a checkpoint between two of its steps.

        A model with methods of this and the next name is saved there, another only between epochs.
        """
        return {"loss_sum": self._loss_sum, "rows": self._rows}

    def go_on_within_epoch(self, state: dict[str, Any]) -> None:
        """Take up what `within_epoch` told."""
        self._loss_sum, self._rows = state["loss_sum"].to(self.device), state["rows"]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        x, y = batch
        weight: Any = self.class_weights
        loss = F.cross_entropy(self.net(x), y, weight=weight, label_smoothing=self.smoothing)
        # One logged mean an epoch: for a small network, self.log at each step costs more than the step.
        self._loss_sum.add_(loss.detach(), alpha=len(y))
        self._rows += len(y)
        if self.trainer.is_last_batch:
            self.log("train_loss", self._loss_sum / self._rows, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        x, y = batch
        logits = self.net(x)
        if not isinstance(logits, Tensor) or logits.shape != (len(y), self.classes):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"model.net: {type(self.net).__name__} returned {got}; give logits, {(len(y), self.classes)}"
            )
        self.accuracy.update(logits, y)
        self.balanced_accuracy.update(logits, y)
        self.log("validation_loss", F.cross_entropy(logits, y), on_epoch=True, batch_size=len(y), sync_dist=True)
        self.log("validation_accuracy", self.accuracy, on_epoch=True, batch_size=len(y))
        self.log("validation_balanced_accuracy", self.balanced_accuracy, on_epoch=True, batch_size=len(y))

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.net.parameters())
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            # Lightning would look for the loss also at the end of an epoch that is not validated.
            every = self.trainer.check_val_every_n_epoch or 1
            watched = {"scheduler": scheduler, "monitor": "validation_loss", "frequency": every}
            return {"optimizer": optimizer, "lr_scheduler": watched}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def net_of(net: MakeNet, features: int, classes: int) -> nn.Module:
    """The network; UserError at model.net where that is none, or has nothing to train."""
    if isinstance(net, nn.Module):
        raise UserError(f"model.net: {type(net).__name__} is built already; _partial_: true lets the run give it sizes")
    made: Any = getattr(net, "func", net)
    name = getattr(made, "__name__", type(made).__name__)
    try:
        built: Any = net(features=features, classes=classes)
    except TypeError as error:
        raise UserError(f"model.net: {name}: {error}; the run gives it features and classes") from error
    if not isinstance(built, nn.Module):
        raise UserError(f"model.net: {name} makes {type(built).__name__}; give a torch.nn.Module")
    if next(built.parameters(), None) is None:
        raise UserError(f"model.net: {name} has no parameters; there is nothing to train")
    return built


def weights_of(choice: str | list[float] | None, classes: int, counts: list[int] | None) -> Tensor | None:
    """The loss's weights, (C,); UserError at model.class_weights where they are not one a class."""
    if choice is None:
        return None
    if isinstance(choice, str):
        assert counts is not None, "run() gives class_counts"
        n = torch.tensor(counts, dtype=torch.float32).clamp(min=1)  # a class without a row weighs nothing anyway
        return n.sum() / (classes * n)
    if len(choice) != classes:
        raise UserError(f"model.class_weights: {len(choice)} weights for {classes} classes; give one a class")
    return torch.tensor(choice, dtype=torch.float32)
