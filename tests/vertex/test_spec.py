"""Any valid space, and any value that Vertex AI may send of it, in any spelling: it arrives, inside the space."""

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from alphard import arguments
from alphard.errors import UserError
from alphard.search import grammar
from alphard.search.configs import Configs
from alphard.search.settings import Pack, Pruner, Settings
from alphard.search.space import Categorical, Space
from tests.conftest import ROOT
from vertex_ai import spec

CONFIGS = Configs(str(ROOT / "configs"), "config", (), (), frozenset({"optimizer", "model", "scheduler"}))
SEARCH = Settings(objective="validation_accuracy")
PHASES = [Phase.explicit, Phase.generate]  # a failure is small enough, and each example composes a config

# Keys of the config by what their own values are, and what may be searched there.
floats = st.floats(1e-6, 10, allow_nan=False).map(lambda x: float(f"{x:.4g}"))
counts = st.integers(1, 4000)


def interval(ends: st.SearchStrategy[Any], cast: str) -> st.SearchStrategy[str]:
    pair = st.tuples(ends, ends, st.booleans())
    return pair.map(lambda p: ("tag(log, {})" if p[2] else "{}").format(cast.format(min(p[:2]), max(p[:2]))))


def choices(one: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.lists(one, min_size=1, max_size=4, unique=True).map(lambda given: f"choice({', '.join(map(str, given))})")


stepped = st.tuples(st.integers(1, 50), st.integers(1, 40), st.integers(1, 7)).map(
    lambda t: f"range({t[0]}, {t[0] + t[1]}, {t[2]})"
)
lists = st.lists(st.sampled_from(["[64]", "[64,32]", "[128,64,32]", "[]", "[8]"]), min_size=1, unique=True)
texts = st.lists(st.sampled_from(["relu", "'a b'", "'1e5'", "a.b", "'[1'", "'1.10'"]), min_size=1, unique=True)
SPACES = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": interval(floats, "interval({}, {})") | choices(floats) | choices(st.sampled_from([0, 1, 0.5])),
        "model.net.dropout": interval(floats, "interval({}, {})") | st.just("range(0.0, 0.5, 0.1)"),
        "epochs": interval(counts, "int(interval({}, {}))") | stepped | choices(counts),
        "batch_size": choices(counts) | st.just("64,null"),
        "threads": choices(counts),  # whose own value is null
        "model.net.hidden": lists.map(lambda given: f"choice({', '.join(given)})"),
        "model.net.activation": texts.map(lambda given: f"choice({', '.join(given)})"),
        "restore_best": st.just("choice(true, false)"),
        "optimizer": st.just("choice(adamw, sgd)"),
    },
).filter(bool)


@st.composite
def sent(draw: st.DrawFn) -> tuple[Space, dict[str, Any], dict[str, str]]:
    """A space, its StudySpec, and a trial's values as texts."""
    written: dict[str, Any] = dict(draw(SPACES))
    if "optimizer" in written:
        written["when"] = {"optimizer=sgd": {"optimizer.momentum": "interval(0.5, 0.99)"}}
    space = grammar.read(written)
    study = spec.study_spec(space, SEARCH, CONFIGS, ())
    values: dict[str, str] = {}
    for parameter in study["parameters"]:
        choose(draw, parameter, values)
    return space, study, values


def choose(draw: st.DrawFn, parameter: Mapping[str, Any], values: dict[str, str]) -> None:
    """A value that Vertex AI may choose, and what then exists besides."""
    kind = next(name for name in parameter if name.endswith("ValueSpec"))
    about, key = parameter[kind], parameter["parameterId"]
    if kind == "categoricalValueSpec":
        chosen = values[key] = draw(st.sampled_from(about["values"]))
    else:
        if kind == "discreteValueSpec":
            chosen = draw(st.sampled_from(about["values"]))
        elif kind == "integerValueSpec":
            chosen = draw(st.integers(about["minValue"], about["maxValue"]))
        else:
            chosen = draw(st.floats(about["minValue"], about["maxValue"]))
        values[key] = draw(st.sampled_from(spellings(chosen)))
    for below in parameter.get("conditionalParameterSpecs", ()):
        condition = next(value for name, value in below.items() if name.startswith("parent"))
        if chosen in condition["values"]:
            choose(draw, below["parameterSpec"], values)


def spellings(number: float) -> list[str]:
    found = [repr(float(number)), f"{number:.17e}", f"{number:.17g}"]
    return found + [str(int(number))] * (float(number).is_integer())


def must_lie_in(space: Space, sent: Mapping[str, str], choices: Mapping[str, Any], config: Any) -> None:
    chosen: dict[str, Any] = {}
    for dimension in space.active(chosen):
        if dimension.when is None or dimension.key in sent:
            assert dimension.key in sent, f"{dimension.key} was not sent"
        value = choices[dimension.key] if dimension.key in choices else OmegaConf.select(config, dimension.key)
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        assert dimension.holds(plain), (dimension, sent[dimension.key], plain)
        if isinstance(dimension, Categorical):
            kind = type(dimension.value(dimension.text(plain) or ""))
            assert type(plain) is kind or {type(plain), kind} == {int, float}, (dimension, sent[dimension.key], plain)
            plain = dimension.text(plain)
        elif not isinstance(plain, float):
            assert math.isfinite(plain)
        chosen[dimension.key] = plain
    assert {*chosen} == {*sent}


@settings(max_examples=10, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(sent(), st.booleans())
def test_what_vertex_sends_lies_in_the_space(trial: tuple[Space, Any, dict[str, str]], glued: bool) -> None:
    space, _, values = trial
    words = (
        [f"--{k}={v}" for k, v in values.items()] if glued else [w for k, v in values.items() for w in (f"--{k}", v)]
    )
    overrides = arguments.rewrite(words, ROOT / "configs")
    config = CONFIGS.compose(*overrides, hydra=True)
    must_lie_in(space, values, config.hydra.runtime.choices, config)


@pytest.mark.more
@settings(max_examples=60, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(sent(), st.booleans())
def test_and_through_the_real_entry_point(trial: tuple[Space, Any, dict[str, str]], glued: bool) -> None:
    space, _, values = trial
    words = (
        [f"--{k}={v}" for k, v in values.items()] if glued else [w for k, v in values.items() for w in (f"--{k}", v)]
    )
    line = [str(ROOT / "convert_command.sh"), "--cfg", "all", *words]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = subprocess.run(line, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path})
    config: Any = OmegaConf.create(shown.stdout)
    must_lie_in(space, values, config.hydra.runtime.choices, config)


def compiled(space: Mapping[str, Any], **said: Any) -> dict[str, Any]:
    return spec.study_spec(grammar.read(space), Settings(objective="validation_accuracy", **said), CONFIGS, ())


def test_kinds_and_scales() -> None:
    study = compiled(
        {
            "learning_rate": "tag(log, interval(1e-4, 1e-1))",
            "model.net.dropout": "range(0.0, 0.5, 0.25)",
            "epochs": "tag(log, int(interval(10, 40)))",
            "patience": "range(5, 21, 5)",
            "batch_size": "choice(64, 32)",
            "threads": "choice(1, 2)",
            "model.net.hidden": "choice([64], [128, 64])",
            "optimizer": "choice(adamw, sgd)",
            "when": {"optimizer=sgd": {"optimizer.momentum": "interval(0.5, 0.99)"}, "batch_size=32": {"seed": "range(3)"}},
        },
        direction="minimize",
    )  # fmt: skip
    parameters = {one["parameterId"]: one for one in study["parameters"]}
    assert study["metrics"] == [{"metricId": "validation_accuracy", "goal": "MINIMIZE"}]
    assert "algorithm" not in study
    assert parameters["learning_rate"] == {
        "parameterId": "learning_rate",
        "doubleValueSpec": {"minValue": 1e-4, "maxValue": 0.1},
        "scaleType": "UNIT_LOG_SCALE",
    }
    assert parameters["model.net.dropout"]["discreteValueSpec"]["values"] == [0.0, 0.25]
    assert parameters["epochs"]["integerValueSpec"] == {"minValue": 10, "maxValue": 40}
    assert parameters["epochs"]["scaleType"] == "UNIT_LOG_SCALE"
    assert parameters["patience"]["discreteValueSpec"]["values"] == [5.0, 10.0, 15.0, 20.0]
    assert parameters["batch_size"]["discreteValueSpec"]["values"] == [32.0, 64.0]
    # Beside null, 2.0 would stay 2.0: only its text brings the 2 back.
    assert parameters["threads"]["categoricalValueSpec"]["values"] == ["1", "2"]
    assert parameters["model.net.hidden"]["categoricalValueSpec"]["values"] == ["[64]", "[128,64]"]
    (momentum,) = parameters["optimizer"]["conditionalParameterSpecs"]
    assert momentum["parentCategoricalValues"] == {"values": ["sgd"]}
    assert momentum["parameterSpec"]["parameterId"] == "optimizer.momentum"
    (seed,) = parameters["batch_size"]["conditionalParameterSpecs"]
    assert seed["parentDiscreteValues"] == {"values": [32.0]}
    assert {*parameters} == {
        "learning_rate", "model.net.dropout", "epochs", "patience", "batch_size", "threads", "model.net.hidden", "optimizer",
    }  # fmt: skip


def test_algorithms() -> None:
    space = {"epochs": "range(1, 3)"}
    assert [compiled(space, algorithm=name).get("algorithm") for name in ("tpe", "gp", "random", "grid")] == [
        None, None, "RANDOM_SEARCH", "GRID_SEARCH",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("space", "said", "names"),
    [
        ({"epochs": "range(1, 3)"}, {"algorithm": "cmaes"}, "search.algorithm: cmaes"),
        ({"epochs": "range(1, 3)"}, {"algorithm": "qmc"}, "search.algorithm: qmc"),
        ({"epochs": "range(1, 3)"}, {"time_budget": 5.0}, "search.time_budget: 5"),
        (
            {"seed": "range(0, 3000, 2)"},
            {},
            "search.space.seed: int(interval(0, 2998)) in steps of 2: makes 1500 values",
        ),
        ({"seed": f"int(interval(0, {2**60}))"}, {}, "doubles"),
        (
            {"threads": "int(interval(1, 4))"},
            {},
            "1.0 is not 1; give the key a number of its own in configs/, or choice(",
        ),
        ({"threads": "range(1, 9, 2)"}, {}, "search.space.threads"),
        ({"learning_rate": "range(0.0, 1e-9, 1e-11)"}, {}, "Vertex AI takes values that are 1e-10 apart"),
        ({"model.net.activation": "choice('--x')"}, {}, "the choice '--x' cannot be said"),
    ],
)
def test_what_vertex_cannot_say_is_refused_by_name(space: Any, said: Any, names: str) -> None:
    with pytest.raises(UserError) as refused:
        compiled(space, **said)
    assert names in str(refused.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(UserError) as refused:
        compiled({"seed": "range(0, 3000, 2)", "epochs": "range(1, 3)"}, algorithm="cmaes", time_budget=1.0)
    assert len(refused.value.problems) == 3


def test_what_only_spends_less_is_ignored_by_name() -> None:
    said = Settings(objective="x", pruner=Pruner(kind="asha"), initial=[{"epochs": 3}], warm_start="studies/x")
    assert spec.ignored(said) == ["initial", "warm_start", "pruner"]
    assert spec.ignored(Settings(objective="x", pack=Pack(size=8))) == ["pack"]
    assert spec.ignored(SEARCH) == []
