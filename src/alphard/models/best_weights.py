"""The weights of the best epoch, kept in memory and put back at the end."""

import math
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn

from alphard.errors import UserError


class BestWeights(pl.Callback):
    """Keep a copy of the weights whenever `monitor` is better than ever; `restore` puts them back.

    monitor: a metric that the model logs at validation.
    restore: False only remembers which epoch was best.
    """

    def __init__(self, monitor: str, mode: Literal["min", "max"] = "min", restore: bool = True) -> None:
        self.monitor, self.sign, self.restore = monitor, 1 if mode == "min" else -1, restore
        self.value = math.inf
        self.epoch = 0  # counted from 1; 0 before the first validation
        self.weights: dict[str, Tensor] | None = None
        self.validated: dict[str, Tensor] | None = None
        self.averaged = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it
        if self.restore and any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
            said = "StochasticWeightAveraging averages after the last validation, and the best epoch's weights would be"
            raise UserError(f"callbacks: {said} put back in its place; restore_best=false keeps the average")
        self.averaged = any(isinstance(callback, WeightAveraging) for callback in callbacks)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # WeightAveraging, whose place is after this one, swaps its average in for validation and now out again.
        if self.averaged and not trainer.sanity_checking:
            self.validated = _copy(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value < self.value:
            weights = self.validated if self.averaged else _copy(pl_module)
            # In this order a signal between two lines leaves whole weights, at worst of the epoch before.
            self.weights, self.value, self.epoch = weights, value, trainer.current_epoch + 1
        self.validated = None

    @property
    def state_key(self) -> str:
        return self._generate_state_key(monitor=self.monitor)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value, self.epoch, self.weights = (state_dict[name] for name in ("value", "epoch", "weights"))

    def put_back(self, model: nn.Module) -> None:
        """Load the best weights into `model`, where restoring is on and an epoch was validated."""
        if self.restore and self.weights is not None:
            model.load_state_dict(self.weights)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
