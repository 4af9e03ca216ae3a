"""A StudySpec read back is the space that it was made of, and a trial's values are the choices that were sent."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from alphard.errors import UserError
from alphard.search import grammar
from tests.vertex.test_spec import CONFIGS, PHASES, SEARCH, SPACES, compiled, sent
from vertex_ai import reading, spec


@settings(max_examples=25, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(SPACES)
def test_space_that_is_read_back_compiles_to_the_same(written: dict[str, Any]) -> None:
    written = dict(written)
    if "optimizer" in written:
        written["when"] = {"optimizer=sgd": {"optimizer.momentum": "interval(0.5, 0.99)"}}
    try:
        study = spec.study_spec(grammar.read(written), SEARCH, CONFIGS, ())
    except UserError:
        assume(False)
    found = reading.read(study, CONFIGS, ())
    assert spec.study_spec(found.space, SEARCH, CONFIGS, ()) == study
    assert (found.objective, found.direction) == (SEARCH.objective, SEARCH.direction)
    assert {*reading.keys(study)} == {dimension.key for dimension in found.space}


@settings(max_examples=25, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(sent())
def test_values_of_a_trial_are_those_of_its_dimensions(trial: tuple[Any, dict[str, Any], dict[str, str]]) -> None:
    _, study, values = trial
    found = reading.read(study, CONFIGS, ())
    as_told = {key: text if text in found.choices.get(key, ()) else float(text) for key, text in values.items()}
    chosen = found.chosen(as_told)
    assert {*chosen} == {*values}
    for key, value in found.space.values(chosen).items():
        assert found.space[key].holds(value)
        if isinstance(as_told[key], float):
            assert value == pytest.approx(as_told[key])


def test_what_the_service_leaves_out_or_writes_as_text_is_read() -> None:
    study = {
        "metrics": [{"metricId": "validation_loss", "goal": "MINIMIZE"}],
        "parameters": [
            {
                "parameterId": "model.net.dropout",
                "scaleType": "UNIT_LINEAR_SCALE",
                "doubleValueSpec": {"maxValue": 0.5},
            },
            {"parameterId": "epochs", "integerValueSpec": {"minValue": "10", "maxValue": "40"}},
        ],
        "algorithm": "RANDOM_SEARCH",
    }
    found = reading.read(study, CONFIGS, ())
    assert found.written == {"model.net.dropout": "interval(0.0, 0.5)", "epochs": "int(interval(10, 40))"}
    assert (found.objective, found.direction, found.algorithm) == ("validation_loss", "minimize", "random")
    assert found.chosen({"model.net.dropout": 0.5000000000000001, "epochs": 12.0}) == {
        "model.net.dropout": 0.5,
        "epochs": 12,
    }


def test_what_no_search_makes_is_named_all_at_once() -> None:
    study = compiled({"optimizer": "choice(adamw, sgd)"}) | {"algorithm": "NEW_ONE", "metrics": []}
    (parameter,) = study["parameters"]
    below = {"parameterId": "epochs", "integerValueSpec": {"minValue": 1, "maxValue": 2}}
    parameter["conditionalParameterSpecs"] = [
        {"parameterSpec": below, "parentCategoricalValues": {"values": ["adamw", "sgd"]}}
    ]
    study["parameters"].append({"parameterId": "seed", "scaleType": "UNIT_REVERSE_LOG_SCALE", "doubleValueSpec": {}})
    with pytest.raises(UserError) as refused:
        reading.read(study, CONFIGS, ())
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "studySpec.parameters",
        "studySpec.parameters",
        "studySpec.metrics",
        "studySpec.algorithm",
    ]


def test_value_that_is_none_of_the_spaces_is_named() -> None:
    found = reading.read(compiled({"optimizer": "choice(adamw, sgd)"}), CONFIGS, ())
    with pytest.raises(UserError, match="optimizer: adam is none of adamw, sgd"):
        found.chosen({"optimizer": "adam"})
    with pytest.raises(UserError, match="optimizer: Vertex AI tells no value of it"):
        found.chosen({})
