"""The whole config, checked before anything is loaded or written.

YAML is the surface and signatures are the schema: each `_target_` is bound to its signature, the root to run()'s.
`check` collects every problem and raises once.  Its one conversion: an integral float becomes an int where no float is
allowed (cloud tuners send 64.0); it is written into the config, where the user typed it.
"""

import inspect
import re
import traceback
import typing
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alphard import nodes, references, targets
from alphard.construct import RESERVED, instantiate
from alphard.errors import UserError
from alphard.references import join, origin, raw_of, short, written
from alphard.values import hints, judge, show

__all__ = ["check", "judge", "nearest"]

Schema = Callable[..., Any]

# What run() knows and a config need not: the data's facts, the model's parameters, the optimizer of a scheduler.
GIVEN = {"features", "classes", "class_counts", "params", "optimizer"}


def check(config: DictConfig, root: Schema, groups: set[str]) -> None:
    """Raise UserError with every problem of `config`, each by its config path.

    root:   the function whose keyword-only parameters are the settings at the root.
    groups: root keys that hold nodes to instantiate.
    """
    try:
        problems = [*references.unreadable(config), *_settings(config, root, groups)]
        for path, node, key, _ in references.walk(config, ""):
            if key == "_target_" and path.partition(".")[2] and path.rpartition(".")[0] not in nodes.MANY:
                problems += _node(config, path.removesuffix("._target_"), node)
        problems += [*nodes.kinds(config, groups), *nodes.endless(config, groups)]
    except RecursionError:
        raise UserError("a node refers to itself by a resolver, as in ${oc.select:itself}; refer to another") from None
    if not problems:  # a constructor would only repeat what a signature said
        problems += _constructed(config)
    once: dict[str, str] = {}  # a setting is wrong once, however many nodes refer to it
    for problem in problems:
        once.setdefault(problem.partition(":")[0], problem)
    if once:
        raise UserError(*once.values())


def nearest(name: str, names: typing.Iterable[str]) -> str:
    """`; did you mean `x`?`, or where nothing is near, nothing."""
    near = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def _settings(config: DictConfig, root: Schema, groups: set[str]) -> Iterator[str]:
    """The root is bound to run()'s signature; a key of the user's own is welcome where something refers to it."""
    known = {name: p for name, p in inspect.signature(root).parameters.items() if p.kind is p.KEYWORD_ONLY}
    text = str(OmegaConf.to_container(config, resolve=False))  # to_yaml takes seconds for thousands of column names
    referred = set(re.findall(r"\$\{(?:[\w.]+:)?\.*(\w+)", text))
    annotations = hints(root)
    for name in map(str, config):
        if name in known:
            yield from _value(config, config, name, annotations[name], name)
        elif name == "search":
            shown = show(written(config, name, nodes.read(config, name)))
            yield f"search: {shown}: no search is chosen; choose one first, as in search=mlp"
        elif name not in groups | referred:
            yield f"{name}: no setting has this name, and nothing refers to it{nearest(name, [*known, *groups])}"
    for name, parameter in known.items():
        if name not in config and parameter.default is parameter.empty:
            yield f"{name}: is missing; give {name}=…"
    yield from _groups(config, groups)


def _groups(config: DictConfig, groups: set[str]) -> Iterator[str]:
    """What holds no node where the run builds one."""
    for group in sorted(groups & set(map(str, config))):
        node = nodes.read(config, group)
        if node is nodes.UNREADABLE:
            continue  # references.unreadable said so
        if group not in nodes.MANY and not nodes.has_target(node):
            named = "a config without its groups has no options to choose from"
            remedy = named if isinstance(node, str) else f"{group}=NAME chooses an option with one"
            yield f"{group}: {show(written(config, group, node))}: give a _target_; {remedy}"
        elif group in nodes.MANY and not isinstance(node, DictConfig):
            shown = show(written(config, group, node))
            yield f"{group}: {shown}: give nodes by names, or choose {group}=none"
        elif group in nodes.MANY:
            for name in sorted({*map(str, node)} & RESERVED):
                yield f"{group}.{name}: stands beside the nodes; it belongs into one, as {group}.NAME.{name}"
            for name in sorted({*map(str, node)} - RESERVED):
                one = nodes.read(node, name)
                if one is not nodes.UNREADABLE and not nodes.has_target(one):
                    shown = show(written(node, name, one))
                    yield f"{group}.{name}: {shown}: give a _target_, or remove it with ~{group}.{name}"
    for group in sorted(groups - {"optimizer", "scheduler"} - set(config)):
        yield f"{group}: is missing; give {group}=…"


def _node(config: DictConfig, path: str, node: DictConfig) -> Iterator[str]:
    """One `_target_`: its name trusted, its arguments bound, its values of the right kind."""
    try:
        target = targets.locate(node["_target_"])
    except OmegaConfBaseException as error:
        yield f"{path}._target_: {short(error)}"
        return
    except targets.Untrusted as error:
        yield f"{path}._target_: {error}"
        return
    except (Exception, SystemExit) as error:  # importing a user's own module may raise anything
        yield f"{path}._target_: {node['_target_']} cannot be imported: {type(error).__name__}: {error}{_place(error)}"
        return
    yield from nodes.words(path, node)
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return  # a class written in C that tells no signature: its constructor will speak
    yield from _names(path, node, parameters)
    annotations = hints(target)
    for name in map(str, node):
        if name not in RESERVED and name in parameters and name in annotations:
            yield from _value(config, node, name, annotations[name], join(path, name), ours=not _library(target))


def _names(path: str, node: DictConfig, parameters: typing.Mapping[str, inspect.Parameter]) -> Iterator[str]:
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    target, stated = node["_target_"], list(map(str, node))
    for name in stated:
        if name not in RESERVED and name not in named and not anything:
            yield f"{join(path, name)}: {target} takes no such argument{nearest(name, named)}"
    args = nodes.read(node, "_args_")
    taken = len(args) if isinstance(args, ListConfig) else 0
    built = nodes.read(node, "_partial_") is True or path in ("model", *nodes.LATER)
    for name, parameter in list(named.items())[taken:]:
        if parameter.default is parameter.empty and name not in stated and not (built and name in GIVEN):
            hint = "; a partial node (_partial_: true) is given it" if name in GIVEN else f"; give {path}.{name}=…"
            yield f"{join(path, name)}: {target} needs it{hint}"


def _value(
    config: DictConfig, node: DictConfig, name: str, annotation: Any, path: str, *, ours: bool = True
) -> Iterator[str]:
    """One value against its annotation.  Of a library, whose annotations may lie, only plain values are judged."""
    try:
        value = node[name]
        plain = OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
    except OmegaConfBaseException:
        return  # references.unreadable said so
    if _holds_target(plain) or not (ours or isinstance(plain, bool | int | float | str)):
        return
    problem, meant = judge(annotation, plain)
    if not problem and meant is plain:
        return
    source = origin(config, raw_of(node, name), path)
    if not problem:
        OmegaConf.update(config, source, meant)
        return
    place, _, message = problem.rpartition(f": {show(plain)}: ")
    also = f" (as {path})" if source != path else ""
    parent, _, key = source.rpartition(".")
    holder = OmegaConf.select(config, parent) if parent else config
    said = written(holder, key, plain) if isinstance(holder, DictConfig) and key in list(holder) else plain
    yield f"{source}{place}: {show(said)}{also}: {message}"


def _place(error: BaseException) -> str:
    """The last line of a user's own code that an error passed, for `cannot be imported`."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own and "alphard/targets.py" not in own[-1].filename else ""


def _library(target: Schema) -> bool:
    return (target.__module__ or "").split(".")[0] not in {"alphard", *targets.own_packages()}


def _constructed(config: DictConfig) -> Iterator[str]:
    """The ranges that only a library's constructor and first step know, on one parameter that nobody needs."""
    import torch

    name = "optimizer"
    try:
        if "optimizer" in config:
            optimizer = instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(1))])
            name = "scheduler"
            if "scheduler" in config:
                scheduler = instantiate(config.scheduler)(optimizer)
                optimizer.step(lambda: 0.0)
                scheduler.step(*[0.0] * isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau))
    except Exception as error:  # whatever a constructor raises is the user's to read
        yield f"{name}: {config[name].get('_target_')} refused its arguments: {short(error)}"
    for path, node in nodes.places(config, {"callbacks"}):
        try:
            instantiate(node)
        except OmegaConfBaseException:
            continue  # ${hydra:…} is known only while Hydra runs the job
        except Exception as error:
            yield f"{path}: {node['_target_']} refused its arguments: {short(error)}"


def _holds_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(map(_holds_target, value.values()))
    return isinstance(value, list) and any(map(_holds_target, value))
