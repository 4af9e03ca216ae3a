"""Objects from a config's node: judged and built from one snapshot, so that no resolver runs between the two.

Hydra's own instantiate resolves as it builds, when `${oc.env:X}` may mean another thing than it did to check.py.  Here
every reference is resolved once, then every target is judged, and then exactly that is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from alphard import targets
from alphard.errors import UserError

# Hydra's own words in a node.  _convert_ is read and not obeyed: lists and dicts are always plain.
RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


class ConstructionError(Exception):
    """A node could not become an object; the cause is what its constructor raised, or why its target is refused."""


@dataclass
class _Call:
    """A node whose target is judged, and has not been called."""

    target: Callable[..., Any]
    name: str
    partial: bool
    args: list[Any]
    named: dict[str, Any]


def instantiate(node: Any, **given: Any) -> Any:
    """What `hydra.utils.instantiate(node, _convert_="all")` makes, of trusted targets alone; null makes null.

    given: arguments from the run, as they are; they replace the node's own.

    Raises ConstructionError, and lets a constructor's UserError through.
    """
    plain = snapshot(node)
    if plain is None:
        return None
    if not isinstance(plain, dict) or "_target_" not in plain:
        raise ConstructionError(f"{plain!r} has no _target_")
    _judge(plain)
    whole = bool(given.pop("_partial_", plain.get("_partial_", False)))
    call = _call({name: value for name, value in plain.items() if name not in given} | {"_partial_": whole})
    return _made(call, given)


def snapshot(node: Any) -> Any:
    """`node` in plain dicts and lists, each reference resolved once and where it stands; `???` stays."""
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig | ListConfig) else node


def _judge(plain: Any) -> None:
    """Raise for an untrusted target at any depth, also where `_recursive_: false` leaves it to its constructor."""
    for value in plain.values() if isinstance(plain, dict) else plain:
        if isinstance(value, dict | list):
            _judge(value)
    if isinstance(plain, dict) and "_target_" in plain:
        try:
            targets.locate(plain["_target_"])
        except (targets.Untrusted, ImportError, AttributeError) as error:
            raise ConstructionError(f"{plain['_target_']}: {error}") from error


def _call(node: dict[str, Any]) -> _Call:
    called = _calls if node.get("_recursive_", True) else _as_it_is
    args = node.get("_args_") or []
    if not isinstance(args, list):
        raise ConstructionError(f"_args_: {args!r}: should be a list")
    named = {name: called(value) for name, value in node.items() if name not in RESERVED}
    name = node["_target_"]
    return _Call(targets.locate(name), name, bool(node.get("_partial_", False)), [called(arg) for arg in args], named)


def _calls(value: Any) -> Any:
    if isinstance(value, dict):
        return _call(value) if "_target_" in value else {name: _calls(item) for name, item in value.items()}
    return [_calls(item) for item in value] if isinstance(value, list) else value


def _as_it_is(value: Any) -> Any:
    return value


def _made(value: Any, given: Mapping[str, Any] = MappingProxyType({})) -> Any:
    if isinstance(value, dict):
        return {name: _made(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_made(item) for item in value]
    if not isinstance(value, _Call):
        return value
    args = [_made(arg) for arg in value.args]
    # What is missing in a partial node is given to it later.
    known = {name: item for name, item in value.named.items() if not (value.partial and _missing(item))}
    for name, item in known.items():
        if _missing(item):
            raise ConstructionError(f"{name} is missing; {value.name} needs it")
    named = {name: _made(item) for name, item in known.items()} | dict(given)
    try:
        return partial(value.target, *args, **named) if value.partial else value.target(*args, **named)
    except UserError:
        raise
    except Exception as error:  # a library, or a user's own constructor, raises what it likes
        raise ConstructionError(f"{value.name}: {type(error).__name__}: {error}") from error


def _missing(value: object) -> bool:
    return isinstance(value, str) and value == "???"
