"""What a run does at the edges of Lightning's training: before its first step, and at a last one that comes early."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.precision import MixedPrecision

from alphard import signals
from alphard.errors import UserError


class Start(pl.Callback):
    """Calls `begin` before the first step, and takes SIGTERM back from Lightning, whose handler ends in exit 0."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Torch's word for an optimizer that unscales gradients itself, as fused ones do; Lightning cannot clip then.
        fused = any(getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in trainer.optimizers)
        if fused and trainer.gradient_clip_val and isinstance(trainer.precision_plugin, MixedPrecision):
            said = f"trainer.gradient_clip_val: {trainer.gradient_clip_val}: does not go with a fused optimizer at"
            raise UserError(f"{said} trainer.precision={trainer.precision}; optimizer.fused=false")

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.listen()
        if trainer.is_global_zero:
            self.begin()


class LastStep(pl.Callback):
    """Ends an epoch that trainer.max_steps cuts short as a stop of any other kind ends it: with a validation."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True
