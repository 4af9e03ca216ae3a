"""A study made, or recognised, with its trials queued: as many as there shall be, whoever takes them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from alphard.errors import UserError
from alphard.fingerprint import changes
from alphard.search import optuna_seam
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Space
from alphard.search.storages import name_in


def opened(
    folder: Path,
    storage: BaseStorage,
    settings: Settings,
    fingerprint: Mapping[str, Any],
    epochs: int,
    warm: Sequence[FrozenTrial],
) -> optuna.Study:
    """The study of `folder`, whose attribute `warm` counts the trials that it has from another.

    Raises UserError where another study has that name.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name_in(storage, folder),
        direction=settings.direction,
        pruner=optuna_seam.pruner(settings, epochs),
        load_if_exists=True,
    )
    now = json.loads(json.dumps(fingerprint, default=str))
    before = study.user_attrs.get("fingerprint")
    if before is None:
        for trial in warm[len(study.get_trials(deepcopy=False)) :]:  # some are there if this was killed here
            study.add_trial(trial)
        study.set_user_attr("warm", len(warm))
        study.set_user_attr("fingerprint", now)
    elif difference := changes(before, now):
        remedy = "say its own line, or give output_dir=ANOTHER_FOLDER"
        raise UserError(f"search: {folder} holds another study ({difference}); {remedy}")
    return study


def fill(study: optuna.Study, settings: Settings, space: Space) -> int:
    """Queue trials up to `trials`, a grid's and `initial`'s with their values; returns how many there are in all."""
    grid = settings.algorithm == "grid"
    values: Iterator[dict[str, Any]]
    values = space.grid() if grid else (_texts(space, given) for given in settings.initial)
    total = settings.total(space)
    queued = len(study.get_trials(deepcopy=False)) - int(study.user_attrs["warm"])
    values = islice(values, queued, None)
    for _ in range(queued, total):
        study.enqueue_trial(next(values, {}))
    return total


def _texts(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Initial values as the tuner says them."""
    said: dict[str, Any] = {}
    for key, value in values.items():
        dimension = space[key]
        said[key] = dimension.text(value) if isinstance(dimension, Categorical) else value
    return said
