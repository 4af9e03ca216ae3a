"""The whole config, checked before anything is loaded or written.

YAML is the surface and signatures are the schema: each `_target_` is bound to its signature, the root to run()'s.
`check` collects every problem and raises once.  Its one conversion: an integral float becomes an int where no float is
allowed (cloud tuners send 64.0); it is written into the config, where the user typed it.
"""

import inspect
import math
import re
import traceback
import typing
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from alphard import references, targets
from alphard.errors import UserError
from alphard.hydra_seam import instantiate
from alphard.references import join, origin, short

Schema = Callable[..., Any]

# Hydra's own words in a node.
RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
# What run() knows and a config need not: the data's facts, the model's parameters, the optimizer of a scheduler.
GIVEN = {"features", "classes", "class_counts", "params", "optimizer"}
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def check(config: DictConfig, root: Schema, groups: set[str]) -> None:
    """Raise UserError with every problem of `config`, each by its config path.

    root:   the function whose keyword-only parameters are the settings at the root.
    groups: root keys that hold nodes to instantiate.
    """
    try:
        problems = [*references.unreadable(config), *_settings(config, root, groups)]
        for path, node, key in references.walk(config, ""):
            if key == "_target_":
                problems += _node(config, path.removesuffix("._target_"), node)
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
    text = OmegaConf.to_yaml(config, resolve=False)
    referred = set(re.findall(r"\$\{(?:[\w.]+:)?\.*(\w+)", text))
    hints = typing.get_type_hints(root, include_extras=True)
    for name in map(str, config):
        if name in known:
            yield from _value(config, config, name, hints[name], name)
        elif name not in groups | referred:
            yield f"{name}: no setting has this name, and nothing refers to it{nearest(name, [*known, *groups])}"
    for name, parameter in known.items():
        if name not in config and parameter.default is parameter.empty:
            yield f"{name}: is missing; give {name}=…"
    for group in sorted(groups & {"callbacks", "logger"} & set(config)):
        for name, node in (config[group] or {}).items():
            if name not in RESERVED and (not isinstance(node, DictConfig) or "_target_" not in list(node)):
                yield f"{group}.{name}: {_show(node)}: give a _target_, or remove it with ~{group}.{name}"
    for group in sorted((groups - {"callbacks", "logger"}) & set(config)):
        node = OmegaConf.select(config, group, throw_on_resolution_failure=False)
        if not isinstance(node, DictConfig) or "_target_" not in list(node):
            yield f"{group}: {_show(node)}: give a _target_; a config without its groups has no options to choose from"
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
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return  # a class written in C that tells no signature: its constructor will speak
    yield from _names(path, node, parameters)
    hints = _hints(target)
    for name in map(str, node):
        if name not in RESERVED and name in parameters and name in hints:
            yield from _value(config, node, name, hints[name], join(path, name), ours=not _library(target))


def _names(path: str, node: DictConfig, parameters: typing.Mapping[str, inspect.Parameter]) -> Iterator[str]:
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    target, stated = node["_target_"], list(map(str, node))
    for name in stated:
        if name not in RESERVED and name not in named and not anything:
            yield f"{join(path, name)}: {target} takes no such argument{nearest(name, named)}"
    taken = len(node["_args_"]) if "_args_" in node else 0
    built = node.get("_partial_", False) or path in ("model", "")
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
    adapter = _adapter(annotation)
    if adapter is None:
        return
    problem = _judge(adapter, plain)
    if problem is None or _judge(adapter, _tuples(plain)) is None:
        return
    source = origin(config, node, name, path)
    integral = _integral(plain)
    if _judge(adapter, integral) is None or _judge(adapter, _tuples(integral)) is None:
        OmegaConf.update(config, source, integral)
        return
    place, message = problem
    also = f" (as {path})" if source != path else ""
    yield f"{source}{place}: {_show(plain)}{also}: {message}"


def _judge(adapter: TypeAdapter[Any], value: Any) -> tuple[str, str] | None:
    """Where in the value, and what is wrong with it; None where nothing is.  What pydantic made of it is discarded."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        messages = list(dict.fromkeys(e["msg"].removeprefix("Input ") for e in error.errors()))
        place = "".join(f"[{step}]" for step in error.errors()[0]["loc"] if isinstance(step, int))
        return place, " or ".join(messages)
    return None


def _integral(value: Any) -> Any:
    """64.0 -> 64, also inside lists; anything else stays."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return [_integral(item) for item in value] if isinstance(value, list) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation, config=STRICT)
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a type that brings its own configuration
        return TypeAdapter(annotation)


def _hints(target: Schema) -> dict[str, Any]:
    signed = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009  mypy mistrusts .__init__
    try:
        return typing.get_type_hints(signed, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}  # a library's annotation that names what only a type checker imports


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
    for name, node in config.get("callbacks", {}).items():
        try:
            instantiate(node)
        except Exception as error:
            yield f"callbacks.{name}: {node.get('_target_')} refused its arguments: {short(error)}"


def _holds_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(map(_holds_target, value.values()))
    return isinstance(value, list) and any(map(_holds_target, value))


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
