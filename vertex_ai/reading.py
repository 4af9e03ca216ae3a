"""A StudySpec read back: the search space that it was made of, and a trial's values in it.  The reverse of spec.py."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alphard import guard, literals
from alphard.errors import UserError
from alphard.search import grammar, sweeps
from alphard.search.configs import Configs
from alphard.search.space import Categorical, Condition, Continuous, Dimension, Space, parse
from vertex_ai.spec import ALGORITHMS, Reader

CONDITIONS = ("parentCategoricalValues", "parentDiscreteValues")
SCALES = {None: False, "UNIT_LINEAR_SCALE": False, "UNIT_LOG_SCALE": True}


@dataclass
class Read:
    """What a StudySpec says.

    written: the space, as a search config writes it.
    space:   the same as dimensions.
    choices: of each choice(…), what Vertex AI calls each of its values, a number or a text.
    """

    objective: str
    direction: str
    algorithm: str
    written: dict[str, Any]
    space: Space
    choices: dict[str, dict[float | str, str]]

    def chosen(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's values as a tuner of ours says them; UserError where one is missing or none of the space's."""
        found: dict[str, Any] = {}
        for dimension in self.space.active(found):
            if dimension.key not in parameters:
                raise UserError(f"{dimension.key}: Vertex AI tells no value of it")
            found[dimension.key] = self._own(dimension, parameters[dimension.key])
        return found

    def _own(self, dimension: Dimension, value: Any) -> Any:
        if isinstance(dimension, Categorical):
            known = self.choices[dimension.key]
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers = [one for one in known if isinstance(one, float)]
                value = min(numbers, key=lambda one: abs(one - value), default=value)
            if value not in known:
                raise UserError(f"{dimension.key}: {value} is none of {', '.join(map(str, known))}")
            return known[value]
        # A log scale's rounding may leave an end by the last digit.
        inside = min(max(float(value), dimension.low), dimension.high)
        return inside if isinstance(dimension, Continuous) else round(inside)


def read(study: Mapping[str, Any], configs: Configs, said: Sequence[str]) -> Read:
    """Read a StudySpec in the REST API's form.

    configs, said: as for spec.study_spec.

    Raises UserError with everything in it that no search of ours makes.
    """
    reader = _Parameters(configs, said)
    for parameter in study.get("parameters", ()):
        reader.add(parameter, None)
    metrics = study.get("metrics", [])
    algorithm = {name: ours for ours, name in ALGORITHMS.items()}.get(study.get("algorithm"))
    if len(metrics) != 1:
        reader.problems.append(f"studySpec.metrics: {len(metrics)} of them; a search has one objective")
    elif metrics[0].get("goal") not in ("MAXIMIZE", "MINIMIZE"):
        reader.problems.append(f"studySpec.metrics: goal: {metrics[0].get('goal')}: give MAXIMIZE or MINIMIZE")
    if algorithm is None:
        reader.problems.append(f"studySpec.algorithm: {study['algorithm']}: no search of ours has it")
    if not reader.dimensions:
        reader.problems.append("studySpec.parameters: there are none; nothing was searched")
    if reader.problems:
        raise UserError(*reader.problems)
    written = reader.always | ({"when": reader.sometimes} if reader.sometimes else {})
    direction = metrics[0]["goal"].lower()
    return Read(str(metrics[0]["metricId"]), direction, str(algorithm), written, grammar.read(written), reader.choices)


def keys(study: Mapping[str, Any]) -> Iterator[str]:
    """Every parameter's name, those that exist sometimes too."""
    waiting = list(study.get("parameters", ()))
    while waiting:
        parameter = waiting.pop()
        yield parameter["parameterId"]
        waiting += [below["parameterSpec"] for below in parameter.get("conditionalParameterSpecs", ())]


class _Parameters:
    """Reads parameters, each before those that depend on it."""

    def __init__(self, configs: Configs, said: Sequence[str]) -> None:
        self.configs, self.said = configs, said
        self.always: dict[str, str] = {}
        self.sometimes: dict[str, dict[str, str]] = {}
        self.dimensions: list[Dimension] = []
        self.choices: dict[str, dict[float | str, str]] = {}
        self.problems: list[str] = []

    def add(self, parameter: Mapping[str, Any], when: Condition | None) -> None:
        """A parameter, and after it what exists with some of its values."""
        key = parameter["parameterId"]
        guard.refuse([f"{key}=0"], sealed=True)
        try:
            written = self._sweep(parameter, when)
            dimension = replace(sweeps.dimension(key, sweeps.sweep(key, written)), when=when)
        except ValueError as error:
            self.problems.append(f"studySpec.parameters: {key}: {error}")
            return
        self.dimensions.append(dimension)
        (self.always if when is None else self.sometimes.setdefault(str(when), {}))[key] = written
        for below in parameter.get("conditionalParameterSpecs", ()):
            try:
                condition = Condition(key, self._parent(below, key))
            except ValueError as error:
                self.problems.append(f"studySpec.parameters: {below['parameterSpec']['parameterId']}: {error}")
            else:
                self.add(below["parameterSpec"], condition)

    def _sweep(self, parameter: Mapping[str, Any], when: Condition | None) -> str:
        """The parameter in Hydra's grammar; ValueError for what no search of ours makes."""
        scale = parameter.get("scaleType")
        if scale not in SCALES:
            raise ValueError(f"its scale is {scale}; a search has linear and log ones")
        # What is 0 is left out of the API's answers, and its whole numbers come as texts.
        if (spec := parameter.get("doubleValueSpec")) is not None:
            text = f"interval({float(spec.get('minValue', 0))!r}, {float(spec.get('maxValue', 0))!r})"
        elif (spec := parameter.get("integerValueSpec")) is not None:
            text = f"int(interval({int(spec.get('minValue', 0))}, {int(spec.get('maxValue', 0))}))"
        else:
            return self._choice(parameter, when)
        return f"tag(log, {text})" if SCALES[scale] else text

    def _choice(self, parameter: Mapping[str, Any], when: Condition | None) -> str:
        key = parameter["parameterId"]
        values: list[float | str] = [float(one) for one in parameter.get("discreteValueSpec", {}).get("values", ())]
        values += parameter.get("categoricalValueSpec", {}).get("values", ())
        if not values:
            raise ValueError("is of no kind that a search has")
        one = Categorical(key, (), when)
        reader = Reader(Space((*self.dimensions, one)), self.configs, self.said)
        texts = [reader.literal(one, value if isinstance(value, str) else repr(value)) for value in values]
        # Of a group they are composed, so they must not name files outside configs/.
        guard.refuse([f"{key}={text}" for text in texts], sealed=True)
        # As the space itself will spell them.
        plain = (literals.write(literals.plain(parse(key, text).value())) for text in texts)
        self.choices[key] = dict(zip(values, plain, strict=True))
        if "null" in texts:  # Hydra's choice() takes none, its commas do; two make a sweep
            return ",".join(texts if len(texts) > 1 else texts * 2)
        return f"choice({', '.join(texts)})"

    def _parent(self, below: Mapping[str, Any], key: str) -> str:
        """The one choice of `key` with which a parameter exists."""
        values = [value for name in CONDITIONS for value in below.get(name, {}).get("values", ())]
        if len(values) != 1 or key not in self.choices:
            raise ValueError(f"exists with several values of {key}, or of an interval; a search has one choice")
        return self.choices[key][values[0]]
