"""The parts of a run, from a checked config: trainer, data, model."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.model_helpers import is_overridden

from alphard import cluster, mlflow_store, ranks, targets
from alphard.construct import instantiate, snapshot
from alphard.data import TableData, kept
from alphard.errors import UserError
from alphard.mlflow_store import Place
from alphard.storage import is_url

# A training that one of these makes empty has nothing to score, or nothing to score by.
EMPTY = {
    "max_epochs": "nothing would be trained; epochs=… says how long",
    "max_steps": "nothing would be trained; leave it out for whole epochs",
    "limit_train_batches": "nothing would be trained; take at least 1 batch",
    "limit_val_batches": "nothing would be validated, and the objective not known; take at least 1 batch",
}


def callbacks_of(config: Mapping[str, Any]) -> list[pl.Callback]:
    """The config's callbacks, in its order."""
    return [said_at(f"callbacks.{name}", instantiate, node) for name, node in config["callbacks"].items()]


def loggers_of(config: DictConfig, logs: Path, place: Place | None = None) -> dict[str, Logger]:
    """The config's loggers, by config path.

    logs:  where those write that name no folder.
    place: where MLflow's run stands among others.
    """
    loggers = {}
    for name, node in config.logger.items():
        given: dict[str, Any] = {"save_dir": str(logs)} if _names_no_folder(node) else {}
        if place is not None and node.get("_target_") == mlflow_store.LOGGER:
            tags = snapshot(node.get("tags")) or {}
            given |= {"experiment_name": place.experiment, "run_name": place.name, "tags": tags | dict(place.tags)}
        loggers[f"logger.{name}"] = said_at(f"logger.{name}", instantiate, node, **given)
    return loggers


def trainer_of(
    config: DictConfig, callbacks: list[pl.Callback], home: Path, loggers: Sequence[Logger] = ()
) -> pl.Trainer:
    """Lightning's trainer.  home: where Lightning's own checkpoints go."""
    _must_make_sense(config.trainer)
    lean = lean_for(callbacks) | {"default_root_dir": str(home)}
    given = {name: value for name, value in lean.items() if config.trainer.get(name) is None}
    make = said_at("trainer", instantiate, config.trainer, _partial_=True)
    own = make.keywords.get("plugins") or []
    given |= cluster.arguments(config.trainer, own if isinstance(own, list) else [own])
    trainer: pl.Trainer = said_at("trainer", make, callbacks=callbacks, logger=list(loggers) or False, **given)
    for name, remedy in EMPTY.items():
        if getattr(trainer, name) == 0:
            raise UserError(f"trainer.{name}: 0: {remedy}")
    return trainer


def logs_here(config: DictConfig) -> bool:
    """Whether any logger writes where the run says."""
    return any(map(_names_no_folder, config.logger.values()))


def _names_no_folder(node: DictConfig) -> bool:
    return "save_dir" in node and node.save_dir is None


def lean_for(callbacks: list[pl.Callback]) -> dict[str, Any]:
    """What a run of seconds does without, unless trainer.* asks for it or a callback brings it."""
    brought = {
        "enable_progress_bar": ProgressBar,
        "enable_model_summary": ModelSummary,
        "enable_checkpointing": Checkpoint,
    }
    return {
        **{name: any(isinstance(callback, kind) for callback in callbacks) for name, kind in brought.items()},
        "num_sanity_val_steps": 1,  # tells before the first step whether the objective is logged
    }


def data_of(config: Mapping[str, Any], shared: bool = False) -> pl.LightningDataModule:
    """The data module; a table's rows are loaded when first asked for.

    shared: one run of many in this process, which may have loaded the same rows already.
    """
    node = config["data"]
    data: pl.LightningDataModule = said_at("data", instantiate, node)
    asked = inspect.signature(targets.locate(node["_target_"])).parameters
    if "batch_size" in asked and "batch_size" not in node and ranks.first():
        said = "takes batch_size and is not told; the setting says nothing until its YAML has batch_size: ${batch_size}"
        warnings.warn(f"data: {node['_target_']} {said}", stacklevel=2)
    if shared and isinstance(data, TableData):
        kept.give_rows(data, snapshot(node))
    return data


def maker_of(config: Mapping[str, Any], facts: dict[str, Any]) -> partial[Any]:
    """What makes the model, given those of the data's `facts` that its signature names and its node does not."""
    node = config["model"]
    asked = inspect.signature(targets.locate(node["_target_"])).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in asked.values())
    given = {name: value for name, value in facts.items() if anything or (name in asked and name not in node)}
    return partial(said_at("model", instantiate, node, _partial_=True), **given)


def model_of(config: Mapping[str, Any], facts: dict[str, Any]) -> pl.LightningModule:
    """The model, of `maker_of`."""
    model: pl.LightningModule = said_at("model", maker_of(config, facts))
    if not isinstance(model, pl.LightningModule):
        raise UserError(f"model: {type(model).__name__} is no LightningModule; a network goes into model.net")
    later = any(is_overridden(hook, model) for hook in ("configure_model", "setup"))  # may bring the parameters
    if not later and next(model.parameters(), None) is None:
        raise UserError(f"model: {type(model).__name__} has no parameters; there is nothing to train")
    return model


def judge_like(trainer: pl.Trainer) -> pl.Trainer:
    """A trainer that only validates, on one device, in the precision of `trainer`."""
    return judge_on("cpu" if trainer.strategy.root_device.type == "cpu" else "gpu", trainer.precision)


def judge_on(accelerator: str, precision: Any) -> pl.Trainer:
    """A trainer that trains nothing, on one device."""
    made = {"accelerator": accelerator, "precision": precision, "devices": 1, "logger": False}
    judge: pl.Trainer = said_at("trainer", pl.Trainer, **made, **lean_for([]))
    return judge


def _must_make_sense(node: DictConfig) -> None:
    """Raise UserError for what Lightning's Trainer would refuse in words that name no remedy, or silently do wrong."""
    for name in ("callbacks", "logger"):
        if name in node:
            raise UserError(f"trainer.{name}: the run brings its own; put yours in {name}.<name> with a _target_")
    if node.get("barebones"):
        raise UserError("trainer.barebones: True: switches off the logging that a result is made of; leave it out")
    root = str(node.get("default_root_dir"))
    if is_url(root):
        raise UserError(f"trainer.default_root_dir: {root}: is a URL; leave it out: Lightning's files go to output_dir")
    gpus = CUDAAccelerator.is_available() or MPSAccelerator.is_available()
    asked = node.get("accelerator")
    if asked in ("gpu", "cuda", "mps") and not gpus:
        raise UserError(f"trainer.accelerator: {asked}: no GPU is seen here; trainer=auto takes what there is")


def said_at(path: str, make: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call `make`; what it raises becomes an error at the config path."""
    try:
        return make(*given, **named)
    except UserError:
        raise
    except Exception as error:  # a library, or a user's own constructor, raises what it likes
        cause = error.__cause__ or error
        raise UserError(f"{path}: {type(cause).__name__}: {str(cause).strip()}") from error
