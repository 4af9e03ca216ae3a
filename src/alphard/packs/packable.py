"""A trial's config as a member of a pack, as `python train.py` would make it, or the reason why it trains alone."""

import inspect
import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from alphard import build
from alphard.construct import snapshot
from alphard.data import TableData, kept
from alphard.models import BestWeights, Classifier
from alphard.models.classifier import net_of, weights_of
from alphard.packs.kind import Unpackable, must_stack, structure
from alphard.packs.layers import dropouts
from alphard.packs.member import VALIDATED, Member
from alphard.packs.stopping import Best, Stopping

# What a trainer may be told that acts on a whole training, or on what is shown of it.
TRAINER = {
    "_target_", "accelerator", "devices", "max_epochs", "precision", "enable_progress_bar", "enable_model_summary",
    "enable_checkpointing", "default_root_dir", "log_every_n_steps", "num_sanity_val_steps", "strategy", "num_nodes",
}  # fmt: skip
SINGLE = {"strategy": (None, "auto"), "devices": (None, 1, "1", "auto"), "num_nodes": (None, 1)}
FLOAT32 = (None, 32, "32", "32-true")
SERVING = ("train_dataloader", "val_dataloader", "_on_device", "setup")
SIGNATURE = inspect.signature(Classifier)
OF_MODEL = ("log_graph", "log_model")  # what a logger takes from the model itself
MOVING = ("transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer")
DRAWS = "_draws_from_a_global_generator"


def member_of(number: int, config: Mapping[str, Any], data: TableData) -> Member:
    """The trial that `config` says, of the rows in `data`.  Raises Unpackable, and UserError as a single run would."""
    _must_be_plain(config)
    _must_serve_plainly(data)
    stopping, best = _callbacks(config)
    served = snapshot(config["data"])
    seed = int(config["seed"])
    _seed_everything(seed)
    model = _model(config, data.facts)
    net, weights = build.said_at("model", _net_and_weights, model)
    optimizer = model["optimizer"](net.parameters())
    scheduler = model["scheduler"](optimizer) if model["scheduler"] else None
    rule = _rule(optimizer, net)
    if scheduler is not None:
        optimizer.step()  # without a gradient it does nothing; schedulers warn where they come before it
    batch_size = served.get("batch_size", data.batch_size)
    parts = _parts(config, net, batch_size) | {
        "optimizer": rule,
        "model.class_weights": "none" if weights is None else "given",
        "structure": structure(net),
    }
    kind = json.dumps(parts, sort_keys=True)
    return Member(
        number=number,
        seed=seed,
        order=int(served.get("seed", data.seed)),
        epochs=int(config["trainer"]["max_epochs"]),
        objective=config["objective"],
        batch_size=batch_size,
        net=net,
        optimizer=optimizer,
        scheduler=scheduler,
        smoothing=float(model["label_smoothing"]),
        class_weights=weights,
        stopping=stopping,
        best=best,
        kind=kind,
        parts=parts,
        rule=rule,
        shapes=_proven(kind, net, data),
    )


def _model(config: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a Classifier, which itself is not made: its metrics would take longer than all the rest."""
    make = build.maker_of(config, facts)
    if make.func is not Classifier:
        raise Unpackable(f"{make.func.__name__} is not alphard.models.Classifier, whose loss a pack knows", "model")
    told = SIGNATURE.bind(*make.args, **make.keywords)
    told.apply_defaults()
    return told.arguments


def _net_and_weights(model: dict[str, Any]) -> tuple[nn.Module, Tensor | None]:
    net = net_of(model["net"], model["features"], model["classes"])
    return net, weights_of(model["class_weights"], model["classes"], model["class_counts"])


def _seed_everything(seed: int) -> None:
    """As Lightning's, without its environment variables."""
    random.seed(seed)
    np.random.seed(seed)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # the same numbers, and no list of calls that wait for a device, which would grow with each trial
        torch.default_generator.manual_seed(seed)


def _must_be_plain(config: Mapping[str, Any]) -> None:
    """Raise Unpackable for what acts by the step, on several devices, or on what only a single run has."""
    trainer = config["trainer"]
    for name, value in trainer.items():
        single = SINGLE.get(str(name))
        if (single and value not in single) or (name not in TRAINER and value is not None):
            raise Unpackable(f"{value!r} is for a trial that trains alone", f"trainer.{name}")
    if trainer.get("precision") not in FLOAT32:
        raise Unpackable(f"{trainer['precision']!r} is no float32, in which packs compute", "trainer.precision")
    if not isinstance(trainer.get("max_epochs"), int) or trainer["max_epochs"] < 1:
        raise Unpackable(f"{trainer.get('max_epochs')!r} is no number of epochs", "trainer.max_epochs")
    for name, node in (config.get("logger") or {}).items():
        if of_model := [key for key in OF_MODEL if node.get(key)]:
            raise Unpackable("is for a trial that trains alone", f"logger.{name}.{of_model[0]}")
    if (objective := config["objective"]) not in VALIDATED:
        raise Unpackable(f"{objective} is nothing that a pack computes", "objective")


def _must_serve_plainly(data: TableData) -> None:
    """Raise Unpackable where a data module does more than hold rows."""
    kind, at = type(data), "data"
    for name in SERVING:
        if getattr(kind, name) is not getattr(TableData, name):
            raise Unpackable(f"{kind.__name__} has a {name} of its own", at)
    for name in MOVING:
        if is_overridden(name, data, LightningDataModule):
            raise Unpackable(f"{kind.__name__} has a {name} of its own", at)
    if kind.__module__.startswith("alphard."):
        return
    # Kept with the rows themselves: a dataclass of a user's own, which compares by value, is no key of a dict.
    known = vars(data)
    if DRAWS not in known:
        before = kept.generators()
        data.whole()
        known[DRAWS] = before != kept.generators()
    if known[DRAWS]:
        raise Unpackable(f"{kind.__name__}.load draws from a global generator, as the weights do after it", at)


def _callbacks(config: Mapping[str, Any]) -> tuple[Stopping | None, Best | None]:
    stopping: Stopping | None = None
    best: Best | None = None
    for name, callback in zip(config["callbacks"], build.callbacks_of(config), strict=True):
        at = f"callbacks.{name}"
        if type(callback) is EarlyStopping and stopping is None and callback._check_on_train_epoch_end is None:
            stopping = Stopping.like(callback)
        elif type(callback) is BestWeights and best is None:
            best = Best.like(callback)
        else:
            raise Unpackable(f"a pack has no {type(callback).__name__}, or no second one", at)
        if callback.monitor not in VALIDATED:
            raise Unpackable(f"{callback.monitor} is nothing that a pack computes at validation", f"{at}.monitor")
    return stopping, best


def _rule(optimizer: Optimizer, net: nn.Module) -> str:
    """Which of packs.optimizer.KINDS it is."""
    kind, at = type(optimizer), "optimizer"
    if kind not in (AdamW, Adam, SGD):
        raise Unpackable(f"a pack has no {kind.__name__}", at)
    if len(optimizer.param_groups) != 1:
        raise Unpackable(f"{len(optimizer.param_groups)} groups of parameters are more than a pack has", at)
    group = optimizer.param_groups[0]
    for name in ("amsgrad", "maximize", "capturable", "differentiable"):
        if group.get(name):
            raise Unpackable("a pack has no such rule", f"{at}.{name}")
    mine = {id(p) for p in group["params"]}
    if any(id(p) not in mine or not p.requires_grad for p in net.parameters()):
        raise Unpackable("model.net has parameters that are not trained", "model.net")
    if any(p.dtype != torch.float32 for p in net.parameters()):
        raise Unpackable("model.net has parameters that are no float32", "model.net")
    decoupled = kind is Adam and group.get("decoupled_weight_decay")
    return "AdamW" if decoupled else "SGD with Nesterov" if group.get("nesterov") else kind.__name__


def _parts(config: Mapping[str, Any], net: nn.Module, batch_size: int | None) -> dict[str, str]:
    """The net's own arguments, but for those that are the p of its dropouts; and the batch size."""
    rates = {module.p for module in dropouts(net).values()}
    node = snapshot(config["model"]["net"])
    parts = {"batch_size": "null" if batch_size is None else str(batch_size)}
    for name, value in node.items():
        if name != "_partial_" and not (isinstance(value, float) and value in rates):
            parts["model.net" if name == "_target_" else f"model.net.{name}"] = str(value)
    return parts


def _proven(kind: str, net: nn.Module, data: TableData) -> dict[str, torch.Size]:
    """Look, at the first of a kind, whether it stacks; the shape of a row at each dropout."""
    key = f"{kind}\n{data.facts['features']}"
    if key not in _found:
        try:
            table = data.splits.train
            x, y = torch.from_numpy(table.X[:SOME].copy()), torch.from_numpy(table.y[:SOME].copy())
            _found[key] = must_stack(net, x, y)
        except Unpackable as why:
            _found[key] = why
    found = _found[key]
    if isinstance(found, Unpackable):
        raise Unpackable(str(found), found.path)
    return found


SOME = 16  # rows to try a net with
_found: "dict[str, dict[str, torch.Size] | Unpackable]" = {}
