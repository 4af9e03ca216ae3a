"""Where a config's values stand, and where its references lead.

What a reference leads to is met where it stands; what a resolver makes (oc.create) stands nowhere else.
"""

import re
import typing
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from alphard import hydra_seam  # noqa: F401  which keeps what ${oc.env:…} gives out of errors

Node = DictConfig | ListConfig

DEEPEST = 40  # dots in a path: what is deeper goes round in circles by a resolver
REFERENCE = re.compile(r"\$\{[^${}: ]+\}")  # a value that is another node's, and no resolver's


def walk(node: Node, path: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Every value, as its path, the node that holds it, its key there, and the value as it is written.

    What a reference leads to is met where it stands; what a resolver makes (oc.create) stands nowhere else.
    """
    if path.count(".") > DEEPEST:
        raise RecursionError
    # Once a node, not once a key: data.drop may name thousands of columns.
    raws: Any = OmegaConf.to_container(node, resolve=False)
    for key in range(len(raws)) if isinstance(raws, list) else list(raws):
        yield join(path, key), node, key, raws[key]
        if raws[key] == "???" or _refers(raws[key]):
            continue
        try:
            child = node[key]
        except OmegaConfBaseException:
            continue  # unreadable says so
        if isinstance(child, dict | list):  # as some resolvers give it
            child = OmegaConf.create(child)
        if isinstance(child, DictConfig | ListConfig):
            yield from walk(child, join(path, key))


def unreadable(config: DictConfig) -> Iterator[str]:
    """What is `???` still, a value that only the user knows; and what refers to nothing."""
    for path, node, key, raw in walk(config, ""):
        try:
            if OmegaConf.is_missing(node, key):
                yield f"{path}: is missing; give {path}=…"
            else:
                node[key]
        except InterpolationToMissingValueError:
            pass  # the missing value itself is named
        except OmegaConfBaseException as error:
            # hydra: is known only while Hydra runs the job; what another key refers to is said there.
            if "${hydra:" not in str(raw) and f"{path}.".startswith(f"{origin(config, raw, path)}."):
                yield f"{path}: {raw}: {short(error)}"


def origin(config: DictConfig, raw: Any, path: str) -> str:
    """The setting that the user typed: where the references that begin at `path`, written as `raw`, end."""
    passed = [path]
    while _refers(raw):
        place = _absolute(raw[2:-1], passed[-1])
        parent, _, key = place.rpartition(".")
        holder = OmegaConf.select(config, parent, throw_on_resolution_failure=False) if parent else config
        if not isinstance(holder, DictConfig) or key not in list(holder):
            break
        if place in passed:  # a ring, whose members have no other origin
            return place
        raw = raw_of(holder, key)
        passed.append(place)
    return passed[-1]


def _absolute(place: str, at: str) -> str:
    """Where a reference that stands at `at` leads; each dot that it begins with is one node up."""
    name = place.lstrip(".")
    if name == place:
        return place
    for _ in range(len(place) - len(name)):
        at = at[: at.rfind("[")] if at.endswith("]") else at.rpartition(".")[0]
    return join(at, name)


def _refers(raw: object) -> bool:
    return isinstance(raw, str) and REFERENCE.fullmatch(raw) is not None


def written(node: Node, key: Any, value: Any) -> Any:
    """`value`, which stands at `key`, as an error shows it: where it is made of references, those."""
    raw = raw_of(node, key)
    return raw if "${" in str(raw) else value


def raw_of(node: Node, key: Any) -> Any:
    """A value as it is written, its references unresolved."""
    return typing.cast(Any, OmegaConf.to_container(node, resolve=False))[key]


def join(path: str, key: object) -> str:
    """The config path of `key` in the node at `path`."""
    return f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}" if path else str(key)


def short(error: BaseException) -> str:
    """The first paragraph of a message that may run to many lines."""
    cause = error.__cause__ or error
    return str(cause).strip().split("\n")[0] or type(cause).__name__
