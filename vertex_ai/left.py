"""What the trials of a job left in its folder, and what a trial's own config tells of its values."""

import csv
import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alphard import documents
from alphard.compose import of_one_run
from alphard.errors import UserError
from alphard.fingerprint import fingerprint
from alphard.search.configs import ABSENT, Configs
from alphard.search.space import Categorical, Integer, Space
from alphard.storage import Folder

METRICS, CONFIG, HISTORY, LOG = "metrics.json", "config.yaml", "eval_history.csv", "training.log"
TEXTS = (METRICS, CONFIG, HISTORY, LOG)  # what is gathered of every trial
FILE = re.compile(r"([1-9][0-9]{0,8})/model/([^/]+)")
MOST_COMBINATIONS = 1000


@dataclass
class Left:
    """What one trial left: the contents of the TEXTS among its files, and the names of all."""

    texts: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def metrics(self) -> dict[str, Any]:
        """metrics.json; empty for a run that is not whole."""
        try:
            return documents.of_json(self.texts.get(METRICS, b"{}"), METRICS)
        except documents.NotWritten:
            return {}

    def value(self, objective: str) -> float | None:
        """The objective of the weights that it kept."""
        value = self.metrics().get(objective)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def error(self) -> str | None:
        """The error that its log ends with."""
        lines = self.texts.get(LOG, b"").decode(errors="replace").splitlines()
        return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)

    def seconds(self) -> float | None:
        """How long its epochs took."""
        try:
            rows = csv.DictReader(io.StringIO(self.texts.get(HISTORY, b"").decode(errors="replace")))
            found = [float(row["seconds"]) for row in rows]
        except (KeyError, ValueError, TypeError, csv.Error):  # torn by whoever copied it
            return None
        return round(sum(found), 3) if found and math.isfinite(sum(found)) else None


def of_folder(base: Folder, most: int) -> dict[int, Left]:
    """What lies in a job's folder, by Vertex AI's number of the trial, from 1 to `most`.

    Raises UserError where it is unread.
    """
    found: dict[int, Left] = {}
    for name in base.names():
        if (match := FILE.fullmatch(name)) and int(match[1]) <= most:
            found.setdefault(int(match[1]), Left()).names.append(match[2])
    wanted = [f"{number}/model/{name}" for number, left in found.items() for name in left.names if name in TEXTS]
    for path, content in base.read_all(wanted).items():
        number, _, name = path.split("/")
        found[int(number)].texts[name] = content
    return found


class Trained:
    """Tells from a trial's config.yaml, resolving nothing, which values of the space it was trained with.

    A dimension that chooses a group's option stands in no config.  So the configs of all combinations are composed,
    and the nearest is the one: they differ in that option alone, unless configs/ has changed since.
    """

    def __init__(self, space: Space, configs: Configs) -> None:
        self.space = space
        self.combinations = []
        # Without the dimensions, and what a machine says of itself, combinations alone differ.
        self.aside = ["threads", *(dimension.key for dimension in space if dimension.key not in configs.groups)]
        groups = [dimension for dimension in space if dimension.key in configs.groups]
        options = [[(d.key, c) for c in d.choices] for d in groups if isinstance(d, Categorical)]
        if math.prod(map(len, options)) > MOST_COMBINATIONS:
            keys = ", ".join(d.key for d in groups)
            raise UserError(f"{keys}: more than {MOST_COMBINATIONS} combinations; give the job's name, projects/…")
        for combination in itertools.product(*options):
            composed = of_one_run(configs.compose(*(f"{key}={choice}" for key, choice in combination)))
            self.combinations.append((dict(combination), self._flat(composed)))

    def chosen(self, content: bytes) -> dict[str, Any]:
        """The values as a tuner says them; UserError for what is no config of this space."""
        config = documents.config(content, CONFIG, "the trial's values are not known without it")
        flat, written = self._flat(config), OmegaConf.to_container(config, resolve=False)
        choices, _ = min(self.combinations, key=lambda pair: _distance(pair[1], flat))
        found: dict[str, Any] = {}
        for dimension in self.space.active(found):
            value = choices[dimension.key] if dimension.key in choices else _at(written, dimension.key)
            plain = dimension.text(value) if isinstance(dimension, Categorical) else value
            if plain is None or not (isinstance(dimension, Categorical) or dimension.holds(plain)):
                raise UserError(f"{CONFIG}: {dimension.key}: {value} does not lie in {dimension}")
            found[dimension.key] = int(plain) if isinstance(dimension, Integer) else plain
        return found

    def _flat(self, config: DictConfig) -> dict[str, Any]:
        inner = tuple(f"{key}." for key in self.aside)
        return {k: v for k, v in fingerprint(config).items() if k not in self.aside and not k.startswith(inner)}


def _at(node: Any, key: str) -> Any:
    """What stands at a config path; UserError for a reference, which could read this machine's environment."""
    for part in key.split("."):
        inner = dict(enumerate(node)) if isinstance(node, list) else node
        if not isinstance(inner, dict):
            break
        node = next((one for name, one in inner.items() if str(name) == part), ABSENT)
    if any("${" in text for text in _texts(node)):
        raise UserError(f"{CONFIG}: {key}: is a reference; a trial's own config has the value that it was sent")
    return node


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for one in node.values() if isinstance(node, dict) else node:
            yield from _texts(one)
    elif isinstance(node, str):
        yield node


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one.get(key, ABSENT) != other.get(key, ABSENT) for key in {*one, *other})
