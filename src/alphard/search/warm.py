"""What another study found, as known results of this one."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from alphard.errors import UserError
from alphard.search import brought, grammar, results
from alphard.search.optuna_seam import distribution
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Space


def warm_trials(
    settings: Settings, space: Space, base: DictConfig, choices: Mapping[str, Any], folder: Path
) -> list[FrozenTrial]:
    """The complete trials of `warm_start` that lie in the new space; one line counts them.

    A key that only the old space has must have had the value, or the group's option, that `base` has for all.

    folder: the new study's.
    """
    if settings.warm_start is None:
        return []
    if Path(settings.warm_start).resolve() == folder.resolve():
        raise UserError(f"search.warm_start: {settings.warm_start} is this study itself; name another")
    try:
        with brought.lent(settings.warm_start, "search.warm_start") as study:
            said, trials = results.load(study, settings.storage)
    except UserError as error:
        raise UserError(f"search.warm_start: {error}") from None
    there = said["search"]
    if (there["objective"], there["direction"]) != (settings.objective, settings.direction):
        theirs, ours = f"{there['direction']} {there['objective']}", f"{settings.direction} {settings.objective}"
        raise UserError(f"search.warm_start: {settings.warm_start} is to {theirs}, and this study to {ours}")
    old = grammar.read(there["space"], grammar.of_space(there["space"], said["overrides"]))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]

    def settled(key: str) -> Any:
        value = choices[key] if key in choices else OmegaConf.select(base, key)
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value

    known = [found for trial in complete for found in _in_space(trial, old, space, settled)]
    outside = len(complete) - len(known)
    print(f"warm start: {len(known)} trials of {settings.warm_start} are known; {outside} lie outside this space")
    return known


def _in_space(trial: FrozenTrial, old: Space, space: Space, settled: Callable[[str], Any]) -> Iterator[FrozenTrial]:
    values = old.values(trial.params)
    chosen: dict[str, Any] = {}
    for dimension in space.active(chosen):
        value = values.pop(dimension.key, None)
        if dimension.key not in trial.params or not dimension.holds(value):
            return
        chosen[dimension.key] = dimension.text(value) if isinstance(dimension, Categorical) else value
    # What is left was searched there and is settled here.
    if any(settled(key) != value for key, value in values.items()):
        return
    distributions = {key: distribution(space[key]) for key in chosen}
    yield optuna.trial.create_trial(value=trial.value, params=chosen, distributions=distributions)
