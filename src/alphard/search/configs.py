"""The configs of a study's trials: composed once for each combination of group choices, values set after."""

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alphard import literals
from alphard.compose import of_one_run
from alphard.fingerprint import flat
from alphard.hydra_seam import BASE
from alphard.search.space import Categorical, Dimension, Space

ABSENT = "\0"  # no config holds it
REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")  # to what stands at a path, from the root


@dataclass
class Plain:
    """A config without references, and the paths at which the value of each key stands, its own among them."""

    config: dict[str, Any]
    places: dict[str, list[list[str]]]


@dataclass
class Configs:
    """Where a study's configs lie and what its command line says of all trials.

    folder:    of the primary config, called `name`.
    extra:     folders that --config-dir added.
    overrides: the command line's, without those that the space took.
    groups:    the dimensions that choose a group's option.
    """

    folder: str
    name: str
    extra: tuple[str, ...]
    overrides: tuple[str, ...]
    groups: frozenset[str] = frozenset()
    _composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict, repr=False)
    _settled: dict[tuple[str, ...], DictConfig | Plain] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_composed": {}, "_settled": {}}

    def compose(self, *overrides: str, hydra: bool = False) -> DictConfig:
        """The config of the command line and `overrides`; raises what Hydra raises."""
        GlobalHydra.instance().clear()
        paths = ", ".join(literals.write(f"file://{Path(path).absolute()}") for path in self.extra)
        search_path = [f"hydra.searchpath=[{paths}]"] if self.extra else []
        with initialize_config_dir(str(Path(self.folder).absolute()), **BASE):
            return compose(self.name, [*search_path, *self.overrides, *overrides], return_hydra_config=hydra)

    def trial(self, space: Space, chosen: Mapping[str, Any]) -> DictConfig:
        """The config that a trial trains, without `search`: what `python train.py` would make of these values.

        Raises what Hydra raises for an option that no group has, and OmegaConf for a key that is not there.
        """
        choices = self._choices(chosen)
        if choices not in self._composed:
            self._composed[choices] = self.compose(*choices)
        config = copy.deepcopy(self._composed[choices])
        for key, value in self._values(space, chosen).items():
            OmegaConf.update(config, key, value)  # merges a dict and replaces a list, as an override does
        return of_one_run(config)

    def to_read(self, space: Space, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `trial` gives, good until the next call, which may change the same object.

        In plain dicts where its references say no more than where a value stands: OmegaConf's own copies and lookups
        would take most of the time that a packed trial does not train.
        """
        values = self._values(space, chosen)
        # A dict is merged into what is there, and a reference is none elsewhere.
        if any(isinstance(value, dict) or "${" in str(value) for value in values.values()):
            return self.trial(space, chosen)
        alike = (*self._choices(chosen), *values)
        if alike not in self._settled:
            whole = self.trial(space, chosen)
            self._settled[alike] = _plain(whole, values) or whole
        found = self._settled[alike]
        if isinstance(found, DictConfig):
            for key, value in values.items():
                OmegaConf.update(found, key, value)
            return found
        config: dict[str, Any] = _copied(found.config)
        for key, value in values.items():
            for *above, last in found.places[key]:
                node = config
                for name in above:
                    node = node[name]
                node[last] = _copied(value)
        return config

    def _choices(self, chosen: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(f"{key}={value}" for key, value in chosen.items() if key in self.groups)

    def _values(self, space: Space, chosen: Mapping[str, Any]) -> dict[str, Any]:
        return space.values({key: value for key, value in chosen.items() if key not in self.groups})

    def own(self, dimension: Dimension) -> Any:
        """The config's own value of a dimension's key; ABSENT where there is none."""
        return OmegaConf.select(self.trial(Space(()), {}), dimension.key, default=ABSENT)


def _plain(config: DictConfig, keys: Iterable[str]) -> Plain | None:
    """The config without references, and where in it the values of `keys` stand.

    A mark in a value's place tells where references bring it.  They must be plain: None where a resolver makes
    something of a value, or one is missing.
    """
    marks = {key: f"{ABSENT}{number}" for number, key in enumerate(keys)}
    raw = map(str, flat(OmegaConf.to_container(config, resolve=False)).values())
    if not all(REFERENCE.fullmatch(leaf) for leaf in raw if "${" in leaf):
        return None
    marked = copy.deepcopy(config)
    for key, mark in marks.items():
        OmegaConf.update(marked, key, mark)
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        found = flat(OmegaConf.to_container(marked, resolve=True))
    except OmegaConfBaseException:
        return None
    places = {key: [path for path, leaf in found.items() if leaf == mark] for key, mark in marks.items()}
    if any(OmegaConf.select(marked, path) != marks[key] for key, paths in places.items() for path in paths):
        return None  # a key with a dot in it, which is no path
    return Plain(plain, {key: [path.split(".") for path in paths] for key, paths in places.items()})


def _copied(node: Any) -> Any:
    """A plain config's own dicts and lists, for a constructor may change what it is given."""
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


def group_choices(config: DictConfig) -> dict[str, Any]:
    """Each config group's option, of a config composed with its hydra node."""
    choices: dict[str, Any] = OmegaConf.to_container(config.hydra.runtime.choices)  # type: ignore[assignment]
    return {key: value for key, value in choices.items() if not key.startswith("hydra/")}


def existing(space: Space, dimension: Dimension) -> dict[str, Any]:
    """The choices with which a dimension exists."""
    if dimension.when is None:
        return {}
    parent = space[dimension.when.parent]
    assert isinstance(parent, Categorical), "a condition's parent is a choice"
    return existing(space, parent) | {parent.key: dimension.when.choice}
