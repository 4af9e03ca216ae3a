"""A study in memory, of its own trials alone, as figures show it: names and choices escaped, and short enough."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from alphard.page import label
from alphard.search.space import Space
from alphard.search.storages import FINISHED

MOST = 2000  # trials of which a figure shows each as a mark of its own
LONGEST = 24  # letters of a choice, or of a dimension's name beside an axis
Curve = tuple[Sequence[int], Sequence[float]]  # epochs from 1, the objective at each


@dataclass(frozen=True)
class Shown:
    """What the figures are drawn of.

    sign:   1 where the largest value is the best, else -1.
    ranked: the complete trials, the best first, the earliest of equals.
    curves: a trial's objective by epoch, by its number.
    """

    study: optuna.Study
    space: Space
    objective: str
    sign: int
    ranked: Sequence[FrozenTrial]
    curves: Mapping[int, Curve]

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, by number."""
        return self.study.get_trials(deepcopy=False, states=states)

    @property
    def seen(self) -> list[FrozenTrial]:
        """The complete trials that a figure has room for, the worst first: the best ones, and some of the rest."""
        if len(self.ranked) <= MOST:
            return [*reversed(self.ranked)]
        best, rest = self.ranked[: MOST // 2], self.ranked[MOST // 2 :]
        step = len(rest) / (MOST // 2)
        return [*reversed([*best, *(rest[int(i * step)] for i in range(MOST // 2))])]

    @property
    def thinned(self) -> str:
        """What is to be said where not all complete trials are seen."""
        if len(self.ranked) <= MOST:
            return ""
        return f" Of {len(self.ranked)} complete trials the {MOST // 2} best are shown, and as many of the others."


def shown(
    trials: Iterable[FrozenTrial], space: Space, objective: str, direction: str, curves: Mapping[int, Curve]
) -> Shown:
    """The study of `trials`, which keep their numbers; one whose value is no finite number counts as failed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=StudyDirection[direction.upper()])
    known: _Known = {}
    study.add_trials([_dressed(trial, known) for trial in trials])
    sign = 1 if direction == "maximize" else -1
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return Shown(
        study, space, objective, sign, sorted(done, key=lambda t: (-sign * float(t.value or 0), t.number)), curves
    )


def cut(name: str) -> str:
    """An escaped name, short enough to stand beside an axis; its end says more than its beginning."""
    return name if len(name) <= LONGEST or "&" in name else f"…{name[1 - LONGEST :]}"


def span(values: Iterable[float], best: Iterable[float] = ()) -> list[float] | None:
    """An axis without what lies far outside of the rest, but never without `best`; None where all have room."""
    known = sorted(value for value in values if math.isfinite(value))
    if len(known) < 4:
        return None
    low, _, high = quantiles(known, n=4)
    far = 4 * (high - low)
    near = [value for value in known if low - far <= value <= high + far]
    if far == 0 or len(near) == len(known):
        return None
    ends = [*near, *best]
    pad = 0.05 * (max(ends) - min(ends))
    return [min(ends) - pad, max(ends) + pad]


def outside(
    values: Iterable[float], within: Sequence[float] | None, what: str, where: str = "a double click shows all"
) -> str:
    """What is to be said of the values, each a `what`, that an axis has no room for."""
    count = sum(not within[0] <= value <= within[1] for value in values if math.isfinite(value)) if within else 0
    return f" Far outside: {count} {what}{'s' * (count != 1)}; {where}." if count else ""


# A dimension's name and range as they are drawn, which all trials share.
_Known = dict[tuple[str, BaseDistribution], tuple[str, BaseDistribution]]


def _dressed(trial: FrozenTrial, known: _Known) -> FrozenTrial:
    state, value = trial.state, trial.value
    if value is not None and not math.isfinite(value):
        state, value = TrialState.FAIL, None
    ranges, params = {}, {}
    for key, given in trial.distributions.items():
        if (key, given) not in known:
            known[key, given] = label(key), _named(given)
        (name, distribution), chosen = known[key, given], trial.params[key]
        if isinstance(given, CategoricalDistribution) and isinstance(distribution, CategoricalDistribution):
            chosen = distribution.choices[given.choices.index(chosen)]
        ranges[name], params[name] = distribution, chosen
    return optuna.trial.create_trial(
        state=state if state in FINISHED else TrialState.WAITING, value=value, params=params, distributions=ranges
    )


def _named(given: BaseDistribution) -> BaseDistribution:
    if not isinstance(given, CategoricalDistribution):
        return given
    return CategoricalDistribution(_apart([label(choice, LONGEST) for choice in given.choices]))


def _apart(names: Sequence[str]) -> list[str]:
    """Names that stay different after they were cut."""
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]
