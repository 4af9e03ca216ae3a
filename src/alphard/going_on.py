"""What a training goes on from: collected from Lightning's parts between two epochs or two steps, and put back.

Lightning's own checkpoints hold no random states, no metrics and no running mean of an epoch's loss, and those at an
epoch's end are taken before the schedulers have stepped.
"""

import random
from collections.abc import Mapping
from copy import deepcopy
from importlib.metadata import version
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from alphard.checkpoint import State
from alphard.data.batches import Batches

LIGHTNING = version("pytorch_lightning")
# The others spread a model over devices, and save it in ways of their own.
STRATEGIES = (SingleDeviceStrategy, DDPStrategy)


def exact_within(trainer: pl.Trainer, model: pl.LightningModule) -> bool:
    """Whether a checkpoint inside an epoch is exact: model and data are known to say all that they are then."""
    says_all = "within_epoch" in vars(type(model))  # its own word, not one that it inherits
    ours = isinstance(trainer.train_dataloader, Batches)
    return says_all and ours and trainer.world_size == 1 and trainer.val_check_batch is not None


def averages(trainer: pl.Trainer, within: bool) -> bool:
    """Whether stochastic weight averaging has begun, whose own restart takes another learning rate."""
    swa = [one for one in _callbacks(trainer) if isinstance(one, StochasticWeightAveraging)]
    return any(trainer.current_epoch + within > one.swa_start for one in swa)


def between_steps(trainer: pl.Trainer, batch: int) -> bool:
    """Whether nothing is left to do after batch number `batch` of the epoch, from 0, before the next is begun."""
    if trainer.is_last_batch or trainer.should_stop or (batch + 1) % trainer.accumulate_grad_batches:
        return False
    assert trainer.val_check_batch is not None, "exact_within has looked"
    counted = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch
    return (counted + 1) % trainer.val_check_batch != 0  # a validation follows


def collect(trainer: pl.Trainer, model: pl.LightningModule, within: bool) -> State:
    """Everything, under Lightning's names where a callback or a model of the user's looks for them.

    within: between two steps of an epoch, at the end of on_train_batch_end; else at the start of on_train_epoch_start.
    """
    loops = trainer.fit_loop.state_dict()
    if not within:
        loops = _between_epochs(loops)
    state: State = {
        "within": within,
        "ranks": trainer.world_size,
        "random": _of_all_ranks(trainer, _random_state(trainer)),
        "metrics": {name: torch.as_tensor(value) for name, value in trainer.callback_metrics.items()},
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": LIGHTNING,
        "state_dict": trainer.strategy.lightning_module_state_dict(),
        "loops": loops,
        "optimizer_states": [trainer.strategy.optimizer_state(optimizer) for optimizer in trainer.optimizers],
        "lr_schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "callbacks": {one.state_key: one.state_dict() for one in _callbacks(trainer)},
        "precision": trainer.precision_plugin.state_dict(),
        "data": trainer.datamodule.state_dict() if trainer.datamodule else {},  # type: ignore[attr-defined]  # Lightning sets it
    }
    if within:
        state["within_epoch"] = model.within_epoch()  # type: ignore[operator]  # exact_within has looked
    for callback in _callbacks(trainer):
        callback.on_save_checkpoint(trainer, model, state)
    model.on_save_checkpoint(state)
    return state


def put_back(trainer: pl.Trainer, model: pl.LightningModule, state: State) -> None:
    """Before the first callback's on_fit_start, in Lightning's own order; `position` must follow.

    Raises what a part raises that the state does not fit.
    """
    if trainer.datamodule and state["data"]:  # type: ignore[attr-defined]  # Lightning sets it
        trainer.datamodule.load_state_dict(state["data"])  # type: ignore[attr-defined]  # likewise
    model.on_load_checkpoint(state)
    trainer.strategy.load_model_state_dict(state, strict=model.strict_loading)
    for callback in _callbacks(trainer):
        callback.on_load_checkpoint(trainer, model, state)
    for callback in _callbacks(trainer):
        if kept := state["callbacks"].get(callback.state_key):
            callback.load_state_dict(deepcopy(kept))
    trainer.precision_plugin.load_state_dict(state["precision"])
    trainer.strategy.load_optimizer_state_dict(state)
    # A callback may bring a scheduler of its own later, and restore it.
    for config, kept in zip(trainer.lr_scheduler_configs, state["lr_schedulers"], strict=False):
        config.scheduler.load_state_dict(kept)
    trainer.fit_loop.load_state_dict(state["loops"])
    _set_random_state(trainer, state["random"][trainer.global_rank])


def position(trainer: pl.Trainer, model: pl.LightningModule, state: State) -> None:
    """In on_train_start: from here on Lightning is where it was, and not restarting.

    It would skip a scheduler's step at the end of an epoch in which it restarts, and where max_steps is set take a new
    epoch for one that is over.
    """
    trainer.fit_loop._restarting = False  # its setter would answer for max_steps
    trainer.fit_loop.epoch_loop.restarting = state["within"]
    trainer.callback_metrics.update(state["metrics"])
    if state["within"]:
        model.go_on_within_epoch(state["within_epoch"])  # type: ignore[operator]  # exact_within has looked


def _between_epochs(loops: dict[str, Any]) -> dict[str, Any]:
    """The loops' state as it was before the next epoch was announced."""
    loops["epoch_progress"]["total"]["ready"] -= 1
    loops["epoch_progress"]["current"]["ready"] -= 1
    loops["state_dict"].pop("combined_loader", None)  # where the loaders were in the last one
    return loops


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]  # Lightning sets it


def _of_all_ranks(trainer: pl.Trainer, mine: Any) -> list[Any]:
    if trainer.world_size == 1:
        return [mine]
    found = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, mine)
    return found


def _random_state(trainer: pl.Trainer) -> dict[str, Any]:
    """Of every generator that a training draws from."""
    kind, numbers, gauss = random.getstate()
    numpy: Mapping[str, Any] = np.random.get_state(legacy=False)
    device = trainer.strategy.root_device
    return {
        "python": [kind, list(numbers), gauss],
        "numpy": [numpy["state"]["key"].tolist(), *(numpy["state"]["pos"], numpy["has_gauss"], numpy["gauss"])],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _set_random_state(trainer: pl.Trainer, state: Mapping[str, Any]) -> None:
    kind, numbers, gauss = state["python"]
    random.setstate((kind, tuple(numbers), gauss))
    key, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.array(key, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and trainer.strategy.root_device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], trainer.strategy.root_device)
