"""What stands around a target: Hydra's own words in its node, and the kind of object that its place needs."""

from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from alphard import targets
from alphard.construct import RESERVED, snapshot
from alphard.references import join, written
from alphard.values import show

CONVERSIONS = ("none", "partial", "object", "all")
MANY = {"callbacks", "logger"}  # groups of nodes under names of the user's own
LATER = {"optimizer": "the model's parameters are", "scheduler": "the optimizer is"}  # given to a partial node


UNREADABLE: Any = object()  # what a reference to nothing leads to


def read(node: DictConfig, key: str) -> Any:
    """The value at `key`: None where there is none, UNREADABLE where it cannot be had."""
    try:
        return node[key] if key in list(node) else None
    except OmegaConfBaseException:
        return UNREADABLE


def has_target(node: object) -> bool:
    """Whether this is a node to build."""
    return isinstance(node, DictConfig) and "_target_" in list(node)


def words(path: str, node: DictConfig) -> Iterator[str]:
    """What is wrong with `_args_`, `_partial_`, `_recursive_` and `_convert_` of one node."""
    for name in sorted(RESERVED & {*map(str, node)} - {"_target_"}):
        value = read(node, name)
        at = f"{join(path, name)}: {show(written(node, name, value))}"
        if value is UNREADABLE:
            continue  # references.unreadable said so
        if name == "_args_" and not isinstance(value, ListConfig):
            yield f"{at}: should be a list of positional arguments"
        elif name in ("_partial_", "_recursive_") and not isinstance(value, bool):
            yield f"{at}: should be true or false"
        elif name == "_convert_" and value not in CONVERSIONS:
            yield f"{at}: should be one of {', '.join(CONVERSIONS)}"


def kinds(config: DictConfig, groups: set[str]) -> Iterator[str]:
    """Groups whose object would not be of the kind that the run needs; what no config told, check.py says."""
    for path, node in places(config, groups):
        target = _located(node)
        if target is None:
            continue
        group = path.partition(".")[0]
        base, article = _needed(group)
        partial = read(node, "_partial_") is True
        if isinstance(target, type) and not issubclass(target, base):
            also = "; a network goes into model.net" if group == "model" else ""
            yield f"{path}._target_: {node['_target_']} is no {article}{also}"
        elif isinstance(target, type) and group in LATER and not partial:
            yield f"{path}._partial_: should be true; {LATER[group]} given to it later"
        elif partial and group in {"data", *MANY}:
            yield f"{path}._partial_: should not be true; nothing is given to it later"


def places(config: DictConfig, groups: set[str]) -> Iterator[tuple[str, DictConfig]]:
    """The nodes that a run builds, by their paths, where references lead to them too."""
    for group in sorted(groups & set(map(str, config))):
        found = read(config, group)
        if group not in MANY:
            held = {group: found}
        else:
            names = map(str, found) if isinstance(found, DictConfig) else ()
            held = {f"{group}.{name}": read(found, name) for name in names}
        yield from ((path, node) for path, node in held.items() if has_target(node))


def endless(config: DictConfig, groups: set[str]) -> Iterator[str]:
    """Nodes that hold themselves, as in `data.name: ${data}`."""
    for path, node in places(config, groups):
        try:
            snapshot(node)
        except (RecursionError, OmegaConfBaseException) as error:  # of the others, references.unreadable spoke
            if "RecursionError" in repr(error):
                yield f"{path}: a value in it refers to {path} itself; refer to another key"


def _located(node: DictConfig) -> Callable[..., Any] | None:
    try:
        return targets.locate(node["_target_"])
    except (Exception, SystemExit):  # check.py says where and why
        return None


def _needed(group: str) -> tuple[type, str]:
    import pytorch_lightning as pl
    import torch

    needed: dict[str, tuple[type, str]] = {
        "callbacks": (pl.Callback, "Callback of Lightning's"),
        "data": (pl.LightningDataModule, "LightningDataModule"),
        "logger": (pl.loggers.Logger, "Logger of Lightning's"),
        "model": (pl.LightningModule, "LightningModule"),
        "optimizer": (torch.optim.Optimizer, "Optimizer of torch's"),
        "scheduler": (torch.optim.lr_scheduler.LRScheduler, "LRScheduler of torch's"),
        "trainer": (pl.Trainer, "Trainer of Lightning's"),
    }
    return needed[group]
