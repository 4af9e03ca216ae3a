"""What a tuning job tries next, from its StudySpec alone, by Optuna in memory."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from vertex_ai.played import KINDS, Parameter

Spec = Mapping[str, Any]  # in the REST API's form
# The client sends an enum as its number.
NUMBERS = {
    "goal": {1: "MAXIMIZE", 2: "MINIMIZE"},
    "scaleType": {1: "UNIT_LINEAR_SCALE", 2: "UNIT_LOG_SCALE"},
    "algorithm": {2: "GRID_SEARCH", 3: "RANDOM_SEARCH"},
}
PARENTS = ("parentCategoricalValues", "parentDiscreteValues", "parentIntValues")


class Suggestions:
    """The trials of a StudySpec, one after the other; parameters with a condition only where it holds.

    The Bayesian default is TPE here.  A grid ends when all of it was tried.
    """

    def __init__(self, study: Spec, seed: int = 0) -> None:
        self.parameters: list[Spec] = list(study["parameters"])
        self.metric = str(study["metrics"][0]["metricId"])
        self.algorithm = enum(study, "algorithm")
        maximize = enum(study["metrics"][0], "goal") != "MINIMIZE"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler: BaseSampler = RandomSampler(seed) if self.algorithm == "RANDOM_SEARCH" else TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
        self._grid = grid(self.parameters)
        self._asked: dict[str, optuna.Trial] = {}

    def kinds(self) -> dict[str, str]:
        """Each parameter's kind, one of KINDS, by its id."""
        return {str(one["parameterId"]): kind(one) for one in _walk(self.parameters)}

    def ask(self, name: str) -> list[Parameter] | None:
        """The parameters of the trial called `name`, or None where nothing is left to try."""
        if self.algorithm == "GRID_SEARCH":
            return next(self._grid, None)
        trial = self._asked[name] = self._study.ask()
        return list(_suggest(trial, self.parameters, ""))

    def tell(self, name: str, value: float | None) -> None:
        """What a trial measured; None for an infeasible one, as is one whose value is no finite number."""
        if trial := self._asked.pop(name, None):
            sound = value is not None and math.isfinite(value)
            self._study.tell(trial, value if sound else None, state=TrialState.COMPLETE if sound else TrialState.FAIL)


def enum(node: Spec, name: str) -> str | None:
    """An enum's name, whichever way it was sent."""
    value = node.get(name)
    return NUMBERS[name].get(value) if isinstance(value, int) else value


def kind(parameter: Spec) -> str:
    """Which of KINDS a parameter is of."""
    return next(name for name in KINDS if name in parameter)


def grid(parameters: list[Spec]) -> Iterator[list[Parameter]]:
    """Every combination of parameters that are no doubles."""
    yield from ([*itertools.chain(*parts)] for parts in itertools.product(*map(_grid_of, parameters)))


def _grid_of(parameter: Spec) -> list[list[Parameter]]:
    found = []
    for value in _values(parameter):
        this = {"parameterId": parameter["parameterId"], "value": value}
        found += [[this, *below] for below in grid([spec for _, spec in _below(parameter, value)])]
    return found


def _values(parameter: Spec) -> list[Any]:
    spec = parameter[kind(parameter)]
    if kind(parameter) == "integerValueSpec":
        low, high = _ends(spec)
        return [float(value) for value in range(int(low), int(high) + 1)]
    assert "values" in spec, "the service refuses a grid over doubles"
    return list(spec["values"])


def _suggest(trial: optuna.Trial, parameters: list[Spec], above: str) -> Iterator[Parameter]:
    for parameter in parameters:
        # The same id may stand below two parents, with two ranges.
        name = f"{above}{parameter['parameterId']}"
        value = _draw(trial, name, parameter)
        yield {"parameterId": parameter["parameterId"], "value": value}
        for condition, spec in _below(parameter, value):
            yield from _suggest(trial, [spec], f"{name}={condition}/")


def _draw(trial: optuna.Trial, name: str, parameter: Spec) -> Any:
    spec, log = parameter[kind(parameter)], enum(parameter, "scaleType") == "UNIT_LOG_SCALE"
    if "values" in spec:
        return trial.suggest_categorical(name, list(spec["values"]))
    low, high = _ends(spec)
    if kind(parameter) == "doubleValueSpec":
        return trial.suggest_float(name, low, high, log=log)
    return float(trial.suggest_int(name, int(low), int(high), log=log))


def _ends(spec: Spec) -> tuple[float, float]:
    """An interval's ends; a client leaves out what is 0."""
    return float(spec.get("minValue", 0)), float(spec.get("maxValue", 0))


def _below(parameter: Spec, value: Any) -> Iterator[tuple[str, Spec]]:
    """The conditional parameters that exist with this value, each with its condition."""
    for one in parameter.get("conditionalParameterSpecs", ()):
        values = next(one[name]["values"] for name in PARENTS if name in one)
        if value in (values if isinstance(value, str) else [float(each) for each in values]):
            yield ",".join(map(str, values)), one["parameterSpec"]


def _walk(parameters: list[Spec]) -> Iterator[Spec]:
    for parameter in parameters:
        yield parameter
        yield from _walk([one["parameterSpec"] for one in parameter.get("conditionalParameterSpecs", ())])
