"""Logged values stay where they are: Lightning copies all it knows of each, at each log and each end of an epoch, only
to find that nothing has to be moved.  For a small network that is a tenth of an epoch.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torchmetrics import Metric


class Unmoved(pl.Callback):
    """From an epoch's start on, moving a logged value to where it is does nothing."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loop = trainer.fit_loop.epoch_loop
        for results in (loop._results, loop.val_loop._results):
            for logged in results.values():
                if "to" not in vars(logged):
                    logged.to = _Move(logged)


class _Move:
    """What moves one logged value, as Lightning's own does where there is anything to move."""

    def __init__(self, logged: Metric) -> None:
        self.logged = logged

    def __call__(self, *args: Any, **kwargs: Any) -> Metric:
        device = args[0] if args else kwargs.get("device")
        value: Any = vars(self.logged).get("value")  # a tensor or a metric
        if value is not None and device is not None and torch.device(device) == value.device:
            return self.logged
        moved: Metric = type(self.logged).to(self.logged, *args, **kwargs)
        return moved
