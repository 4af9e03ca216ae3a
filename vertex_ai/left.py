"""What the trials of a job left in its folder, and what a trial's own config tells of its values."""

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alphard.compose import of_one_run
from alphard.errors import UserError
from alphard.fingerprint import fingerprint
from alphard.search.configs import ABSENT, Configs
from alphard.search.space import Categorical, Integer, Space
from alphard.storage import Folder

METRICS, CONFIG, HISTORY, LOG = "metrics.json", "config.yaml", "eval_history.csv", "training.log"
TEXTS = (METRICS, CONFIG, HISTORY, LOG)  # what is gathered of every trial
FILE = re.compile(r"([1-9]\d*)/model/([^/]+)")


@dataclass
class Left:
    """What one trial left: the contents of the TEXTS among its files, and the names of all."""

    texts: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def metrics(self) -> dict[str, Any]:
        """metrics.json; empty for a run that is not whole."""
        try:
            found = json.loads(self.texts.get(METRICS, b"{}"))
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

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
        rows = csv.DictReader(io.StringIO(self.texts.get(HISTORY, b"").decode(errors="replace")))
        try:
            found = [float(row["seconds"]) for row in rows]
        except (KeyError, ValueError, TypeError):  # torn by whoever copied it
            return None
        return round(sum(found), 3) if found else None


def of_folder(base: Folder) -> dict[int, Left]:
    """What lies in a job's folder, by Vertex AI's number of the trial, from 1.  Raises UserError where it is unread."""
    found: dict[int, Left] = {}
    for name in base.names():
        if match := FILE.fullmatch(name):
            found.setdefault(int(match[1]), Left()).names.append(match[2])
    wanted = [f"{number}/model/{name}" for number, left in found.items() for name in left.names if name in TEXTS]
    for path, content in base.read_all(wanted).items():
        number, _, name = path.split("/")
        found[int(number)].texts[name] = content
    return found


class Trained:
    """Tells from a trial's config.yaml which values of the space it was trained with.

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
        for combination in itertools.product(*options):
            composed = of_one_run(configs.compose(*(f"{key}={choice}" for key, choice in combination)))
            self.combinations.append((dict(combination), self._flat(composed)))

    def chosen(self, content: bytes) -> dict[str, Any]:
        """The values as a tuner says them; UserError for what is no config of this space."""
        try:
            config = OmegaConf.create(content.decode())
            assert isinstance(config, DictConfig)
            flat = self._flat(config)
        except Exception:  # yaml's, OmegaConf's and the decoder's own
            raise UserError(f"{CONFIG}: is no run's config") from None
        choices, _ = min(self.combinations, key=lambda pair: _distance(pair[1], flat))
        found: dict[str, Any] = {}
        for dimension in self.space.active(found):
            value = choices.get(dimension.key, OmegaConf.select(config, dimension.key, default=ABSENT))
            plain: Any = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            if isinstance(dimension, Categorical):
                plain = dimension.text(plain)
            if plain is None or not (isinstance(dimension, Categorical) or dimension.holds(plain)):
                raise UserError(f"{CONFIG}: {dimension.key}: {value} does not lie in {dimension}")
            found[dimension.key] = int(plain) if isinstance(dimension, Integer) else plain
        return found

    def _flat(self, config: DictConfig) -> dict[str, Any]:
        inner = tuple(f"{key}." for key in self.aside)
        return {k: v for k, v in fingerprint(config).items() if k not in self.aside and not k.startswith(inner)}


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one.get(key, ABSENT) != other.get(key, ABSENT) for key in {*one, *other})
