"""When a trial of a pack stops, and which of its epochs was best: Lightning's EarlyStopping and our BestWeights."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pytorch_lightning.callbacks import EarlyStopping

from alphard.models import BestWeights


@dataclass
class Stopping:
    """`pytorch_lightning.callbacks.EarlyStopping` for one trial, asked once an epoch.

    It compares float32, as the callback compares the tensors that the model logs.
    """

    monitor: str
    mode: str
    patience: int
    min_delta: float
    check_finite: bool = True
    stopping_threshold: float | None = None
    divergence_threshold: float | None = None
    best: float = math.inf  # the least of sign * value
    waited: int = 0

    @classmethod
    def like(cls, callback: EarlyStopping) -> "Stopping":
        """From a callback that has not begun."""
        own = ("monitor", "mode", "patience", "check_finite", "stopping_threshold", "divergence_threshold")
        return cls(**{name: getattr(callback, name) for name in own}, min_delta=abs(callback.min_delta))

    def stops(self, value: float) -> bool:
        """Whether the epoch that gave `value` is the last."""
        if self.check_finite and not math.isfinite(value):
            return True
        sign = 1 if self.mode == "min" else -1
        now = np.float32(sign * value)
        if self.stopping_threshold is not None and now < np.float32(sign * self.stopping_threshold):
            return True
        if self.divergence_threshold is not None and -now < -np.float32(sign * self.divergence_threshold):
            return True
        if now + np.float32(self.min_delta) < np.float32(self.best):
            self.best, self.waited = float(now), 0
            return False
        self.waited += 1
        return self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": self.best, "waited": self.waited}

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up what `state` told."""
        self.best, self.waited = state["best"], state["waited"]


@dataclass
class Best:
    """`alphard.models.BestWeights` for one trial; the pack holds the weights."""

    monitor: str
    sign: int
    restore: bool
    value: float = math.inf
    epoch: int = 0  # counted from 1; 0 before the first validation

    @classmethod
    def like(cls, callback: BestWeights) -> "Best":
        """From a callback that has not begun."""
        return cls(callback.monitor, callback.sign, callback.restore)

    def improved(self, value: float, epoch: int) -> bool:
        """Whether this epoch is better than all before it."""
        if self.sign * value < self.value:
            self.value, self.epoch = self.sign * value, epoch
            return True
        return False

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"value": self.value, "epoch": self.epoch}

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up what `state` told."""
        self.value, self.epoch = state["value"], state["epoch"]
