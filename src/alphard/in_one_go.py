"""All of an epoch's optimizer steps in one step of Lightning's, where nobody asks for anything by the step.

What Lightning does around a step takes longer than a small network's step.  So a plain loop makes the steps of an epoch
but the last, by the same operations in the same order, and moves Lightning's counters on; the last step is Lightning's
own, which logs, tells the callbacks and validates.  Without this file and its line in training.py each step is.
"""

from functools import partial
from typing import Any, TypeGuard

import pytorch_lightning as pl
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden

from alphard.data.batches import Batches
from alphard.models import Classifier

# By these a callback or a model takes part in each step.
TAKES_PART = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
# With one of these of its own, a model derived from ours makes other steps.
STEP = (
    *("training_step", "backward", "optimizer_step", "optimizer_zero_grad"),
    *("configure_gradient_clipping", "lr_scheduler_step"),
)
MOVES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
PRECISIONS = (Precision, HalfPrecision, DoublePrecision, MixedPrecision)
LOGGED = 50  # every so many steps, where trainer.log_every_n_steps does not say


class InOneGo(pl.Callback):
    """Has the last word before an epoch's first step on how its steps are made.

    told: callbacks that hear of the end of each step all the same, and of nothing else in it.
    """

    def __init__(self, *told: pl.Callback) -> None:
        self.told = told

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._choose(trainer, pl_module)  # an epoch that goes on in its middle does not start

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._choose(trainer, pl_module)

    def _choose(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        loop = trainer.fit_loop.epoch_loop
        loop.__dict__.pop("advance", None)
        if _are_plain(trainer) and _is_ours(model, trainer) and not self._others_take_part(trainer):
            # What Lightning calls for a batch: this loop's alone, and only for this epoch.
            loop.advance = partial(self._advance, trainer, model)  # type: ignore[method-assign]

    def _others_take_part(self, trainer: pl.Trainer) -> bool:
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it
        return any(_has_own(one, pl.Callback, TAKES_PART) for one in callbacks if one not in self.told)

    def _advance(self, trainer: pl.Trainer, model: Classifier, fetcher: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        if not loop.restarting:  # then Lightning has more to do before a step
            self._make_all_but_the_last(trainer, model, fetcher)
        type(loop).advance(loop, fetcher)

    def _make_all_but_the_last(self, trainer: pl.Trainer, model: Classifier, fetcher: Any) -> None:
        """Between two of these steps everything is as it is between two of Lightning's, for a checkpoint."""
        loop, precision, (optimizer,) = trainer.fit_loop.epoch_loop, trainer.precision_plugin, trainer.optimizers
        batches, counted = loop.batch_progress, loop.automatic_optimization.optim_progress.optimizer
        by_the_step = any(config.interval == "step" for config in trainer.lr_scheduler_configs)

        def closure() -> Any:
            with precision.train_step_context():
                loss = model.training_step(batch, index)
            counted.zero_grad.increment_ready()
            counted.zero_grad.increment_started()
            optimizer.zero_grad()
            counted.zero_grad.increment_completed()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has not annotated it
            return loss

        while (index := loop.batch_idx + 1) + 1 < trainer.num_training_batches:
            if trainer.should_stop and loop.done:
                break
            batch = precision.convert_input(next(fetcher)[0])
            batches.increment_ready()
            batches.increment_started()
            counted.step.increment_ready()
            optimizer.step(closure)
            counted.step.increment_completed()
            batches.increment_processed()
            if by_the_step:
                loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            for callback in self.told:
                callback.on_train_batch_end(trainer, model, None, batch, index)
            batches.increment_completed()
            if by_the_step:
                loop.update_lr_schedulers("step", update_plateau_schedulers=True)
            loop._batches_that_stepped += 1


def _are_plain(trainer: pl.Trainer) -> bool:
    """Whether the trainer was asked for nothing by the step: limits, clipping, logging, a scale of gradients."""
    return (
        (trainer.check_val_every_n_epoch is not None and trainer.val_check_batch == trainer.num_training_batches)
        and (trainer.max_steps, trainer.min_steps, trainer.limit_train_batches) == (-1, None, 1.0)
        and (trainer.accumulate_grad_batches, trainer.log_every_n_steps) == (1, LOGGED)  # type: ignore[attr-defined]  # Lightning sets it
        and not trainer.gradient_clip_val
        and type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.precision_plugin) in PRECISIONS
        and getattr(trainer.precision_plugin, "scaler", None) is None
        and type(trainer.profiler) is PassThroughProfiler  # type: ignore[attr-defined]  # Lightning sets it
    )


def _is_ours(model: pl.LightningModule, trainer: pl.Trainer) -> TypeGuard[Classifier]:
    """Whether the step is our model's, and the batches are on its device already."""
    loader, data = trainer.train_dataloader, trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
    return (
        isinstance(model, Classifier)
        and not _has_own(model, Classifier, (*TAKES_PART, *STEP, *MOVES))
        and isinstance(loader, Batches)
        and loader.X.device == trainer.strategy.root_device
        and not (data and _has_own(data, pl.LightningDataModule, MOVES))
    )


def _has_own(one: Any, parent: type, hooks: tuple[str, ...]) -> bool:
    return any(is_overridden(hook, one, parent) for hook in hooks)
