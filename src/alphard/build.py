"""The parts of a run, from a checked config: trainer, data, model."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from alphard import targets
from alphard.errors import UserError
from alphard.hydra_seam import instantiate

# What a run of seconds does without, unless trainer.* asks for it.
LEAN: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 1,  # tells before the first step whether the objective is logged
}


def callbacks_of(config: DictConfig) -> list[pl.Callback]:
    """The config's callbacks, in its order."""
    return [_said_at(f"callbacks.{name}", instantiate, node) for name, node in config.callbacks.items()]


def trainer_of(config: DictConfig, callbacks: list[pl.Callback], logs: Path) -> pl.Trainer:
    """Lightning's trainer with the config's loggers, which write below `logs` where they name no folder."""
    for name in ("callbacks", "logger"):
        if name in config.trainer:
            raise UserError(f"trainer.{name}: the run brings its own; put yours in {name}.<name> with a _target_")
    loggers = []
    for name, node in config.logger.items():
        save = {"save_dir": str(logs)} if "save_dir" in node and node.save_dir is None else {}
        loggers.append(_said_at(f"logger.{name}", instantiate, node, **save))
    lean = LEAN | {"default_root_dir": str(logs.parent)}  # where Lightning's own checkpoints go
    given = {name: value for name, value in lean.items() if name not in config.trainer}
    make = instantiate(config.trainer, _partial_=True)
    trainer: pl.Trainer = _said_at("trainer", make, callbacks=callbacks, logger=loggers or False, **given)
    return trainer


def data_of(config: DictConfig) -> pl.LightningDataModule:
    """The data module; a table's rows are loaded when first asked for."""
    data: pl.LightningDataModule = _said_at("data", instantiate, config.data)
    return data


def model_of(config: DictConfig, facts: dict[str, Any]) -> pl.LightningModule:
    """The model, given those of the data's `facts` that its signature names and its node does not."""
    asked = inspect.signature(targets.locate(config.model._target_)).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in asked.values())
    given = {name: value for name, value in facts.items() if anything or (name in asked and name not in config.model)}
    model: pl.LightningModule = _said_at("model", lambda: instantiate(config.model, _partial_=True)(**given))
    if not isinstance(model, pl.LightningModule):
        raise UserError(f"model: {type(model).__name__} is no LightningModule; a network goes into model.net")
    return model


def judge_on(accelerator: str) -> pl.Trainer:
    """A trainer that only validates, on one device."""
    return pl.Trainer(logger=False, accelerator=accelerator, devices=1, **LEAN)


def _said_at(path: str, make: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call `make`; what it raises becomes an error at the config path."""
    try:
        return make(*given, **named)
    except UserError:
        raise
    except Exception as error:  # a library, or a user's own constructor, raises what it likes
        cause = error.__cause__ or error
        raise UserError(f"{path}: {type(cause).__name__}: {str(cause).strip()}") from error
