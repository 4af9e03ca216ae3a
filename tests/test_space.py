"""A search space as it is written: what it becomes, what a command line makes of it, and what is refused."""

from itertools import product
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from alphard.errors import UserError
from alphard.search import grammar
from alphard.search.settings import Settings
from alphard.search.space import Categorical, Condition, Continuous, Integer, Space

MLP = {
    "learning_rate": "tag(log, interval(1e-4, 1e-1))",
    "model.net.hidden": "choice([64], [128, 64], [256, 128])",
    "model.net.dropout": "interval(0, 0.5)",
    "epochs": "int(interval(10, 40))",
    "optimizer": "choice(adamw, sgd)",
    "when": {"optimizer=sgd": {"optimizer.momentum": "interval(0.5, 0.99)"}},
}


def read(space, *overrides: str) -> Space:
    return grammar.read(space, grammar.of_space(space, overrides))


@pytest.mark.parametrize(
    ("written", "dimension"),
    [
        ("interval(0, 0.5)", Continuous("k", 0.0, 0.5)),
        ("tag(log, interval(1e-4, 1e-1))", Continuous("k", 1e-4, 1e-1, log=True)),
        ("int(interval(10, 40))", Integer("k", 10, 40)),
        ("tag(log, int(interval(1, 64)))", Integer("k", 1, 64, log=True)),
        ("int(tag(log, interval(1, 64)))", Integer("k", 1, 64, log=True)),
        ("range(1, 10)", Integer("k", 1, 9)),
        ("range(1, 10, 4)", Integer("k", 1, 9, step=4)),
        ("range(10, 1, -4)", Integer("k", 2, 10, step=4)),
        ("range(0, 1, step=0.25)", Continuous("k", 0.0, 0.75, step=0.25)),
        ("1, 2.5, null, true", Categorical("k", ("1", "2.5", "null", "true"))),
        ("adam,sgd", Categorical("k", ("adam", "sgd"))),
        ("choice([8], [8, 8], {a: 1})", Categorical("k", ("[8]", "[8,8]", "{a:1}"))),
        ("choice('a b', '1e5', a)", Categorical("k", ("'a b'", "'1e5'", "a"))),
        ("interval(2, 2)", Continuous("k", 2.0, 2.0)),
    ],
)
def test_a_sweep_becomes_a_dimension(written, dimension):
    assert read({"k": written})["k"] == dimension


def test_a_choices_text_means_the_value_that_was_written():
    choices = read({"k": "1, 1.5, null, true, [8, 16], {a: 1}, 'a b', '1e5'"})["k"]
    values = [choices.value(text) for text in choices.choices]
    assert values == [1, 1.5, None, True, [8, 16], {"a": 1}, "a b", "1e5"]
    assert [choices.text(value) for value in values] == list(choices.choices)
    assert choices.text(2) is None


def test_what_depends_on_a_choice_exists_only_with_it():
    space = read(MLP)
    assert space["optimizer.momentum"].when == Condition("optimizer", "sgd")
    for optimizer in ("adamw", "sgd"):
        chosen = {}
        for dimension in space.active(chosen):
            chosen[dimension.key] = optimizer if dimension.key == "optimizer" else dimension.ends()[0]
        assert ("optimizer.momentum" in chosen) == (optimizer == "sgd")


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("learning_rate=interval(1e-3,1e-2)", "learning_rate", Continuous("learning_rate", 1e-3, 1e-2, log=True)),
        ("epochs=interval(5,8)", "epochs", Integer("epochs", 5, 8)),
        ("epochs=range(5,8)", "epochs", Integer("epochs", 5, 7)),
        ("epochs=5,6", "epochs", Categorical("epochs", ("5", "6"))),
        ("weight_decay=interval(0,1)", "weight_decay", Continuous("weight_decay", 0.0, 1.0)),
        ("optimizer.momentum=interval(0.8,0.9)", "optimizer.momentum", Continuous("optimizer.momentum", 0.8, 0.9, when=Condition("optimizer", "sgd"))),
        ("optimizer.momentum=0.9", "optimizer.momentum", Categorical("optimizer.momentum", ("0.9",), when=Condition("optimizer", "sgd"))),
    ],
)  # fmt: skip
def test_a_command_line_narrows_and_keeps_the_scale(override, key, expected):
    assert read(MLP, override)[key] == expected


def test_a_value_on_the_command_line_takes_its_dimension_out_of_the_space():
    assert "learning_rate" not in read(MLP, "learning_rate=0.01")
    with_sgd = read(MLP, "optimizer=sgd")
    assert "optimizer" not in with_sgd
    assert with_sgd["optimizer.momentum"].when is None
    assert "optimizer.momentum" not in read(MLP, "optimizer=adamw")
    assert "optimizer.momentum" not in read(MLP, "optimizer=adamw,adam")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "nothing to search"),
        ({"k": "interval(2, 1)"}, "search.space.k: interval(2, 1): is upside down; write interval(1, 2)"),
        (
            {"k": "tag(log, interval(0, 0.1))"},
            "search.space.k: tag(log, interval(0, 0.1)): starts at 0; a log scale needs a positive start",
        ),
        ({"k": "tag(linear, interval(0, 0.1))"}, "the one tag is log"),
        ({"k": "tag(log, choice(1, 2))"}, "a choice has no scale"),
        ({"k": "tag(log, range(1, 9, 2))"}, "a log scale has no steps"),
        ({"k": "interval(0, inf)"}, "finite"),
        ({"k": "interval(a, 1)"}, "search.space.k: interval(a, 1): the start of interval is no number"),
        ({"k": "tag(log, interval(1, b))"}, "the end of interval is no number"),
        (
            {"k": "choise(gelu, relu)"},
            "search.space.k: choise(gelu, relu): there is no choise(…); did you mean `choice`?",
        ),
        ({"k": "uniform(0, 1)"}, "there is no uniform(…); give interval(a, b)"),
        ({"k": "loguniform(1, 2)"}, "there is no loguniform(…); give tag(log, interval(a, b))"),
        ({"k": "choice(1"}, "search.space.k: choice(1: Hydra cannot read this"),
        ({"k": "range(3, 3)"}, "a range leaves its end out"),
        ({"k": "range(0, 3, step=0)"}, "must not be zero"),
        ({"k": "glob(*)"}, "no sweep that a search knows"),
        ({"k": [1, 2]}, "search.space.k: [1, 2]: a list is one value; write choice(1, 2) for several"),
        ({"k": 3}, "search.space.k: 3: is one value"),
        ({"k": "sgd"}, "is one value"),
        ({"k": None}, "is one value"),
        ({"k": "1,2", "when": {"k": {"j": "1,2"}}}, "PARENT=CHOICE"),
        ({"k": "1,2", "when": {"k=3": {"j": "1,2"}}}, "and never 3"),
        ({"kind": "a,b", "when": {"kin=a": {"j": "1,2"}}}, "did you mean `kind`"),
        (
            {"k": "1,2", "when": {"model=mpl": {"j": "1,2"}}},
            "search.space.when.model=mpl: model is no dimension of this space; add `model: choice(…)` to it",
        ),
        ({"k": "interval(1, 2)", "when": {"k=1": {"j": "1,2"}}}, "needs a choice"),
        ({"k": "1,2", "when": {"k=1": {"k": "1,2"}}}, "stands twice"),
        ({"k": "1,2", "when": {"k=1": {}}}, "give what exists only then"),
        ({"k": "1,2", "when": [1]}, "give {PARENT=CHOICE: {key: sweep}}"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(space, said):
    with pytest.raises(UserError) as error:
        read(space)
    assert said in str(error.value)
    assert "search.space" in str(error.value)


def test_all_problems_are_said_at_once():
    with pytest.raises(UserError) as error:
        read({"a": "interval(2, 1)", "b": [1], "c": "choice(1, 2)", "when": {"d=1": {"e": "1,2"}}})
    assert len(error.value.problems) == 3


def test_what_follows_from_another_problem_is_not_said():
    with pytest.raises(UserError) as error:
        read({"a": "choise(1, 2)", "when": {"a=1": {"e": "1,2"}}})
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epochs=interval(5.5,8)", "epochs: interval(5.5,8): the key is searched in whole numbers; give int(interval(6, 8))"),
        ("learning_rate=interval(0,1e-2)", "learning_rate: interval(0,1e-2): starts at 0, and the key is searched on a log scale; a log"),
        ("learning_rate=interval(2,1)", "learning_rate: interval(2,1): is upside down"),
    ],
)  # fmt: skip
def test_a_narrowing_that_does_not_fit_is_refused(override, said):
    with pytest.raises(UserError) as error:
        read(MLP, override)
    assert str(error.value).startswith(said)


def test_a_condition_may_be_of_what_a_command_line_searches():
    space = {"k": "1,2", "when": {"model=mlp": {"j": "1,2"}}}
    assert read(space, "model=choice(mlp,linear)")["j"].when == Condition("model", "mlp")
    assert "j" not in read(space, "model=choice(other,linear)")


def initial_of(initial: list[dict[str, Any]], *overrides: str) -> list[dict[str, Any]]:
    given = grammar.of_space(MLP, overrides)
    said = Settings(objective="validation_accuracy", initial=initial)
    return grammar.fitted(said, grammar.read(MLP, given), MLP, given).initial


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("seed=1", [{"learning_rate": 1e-3, "epochs": 20}, {"optimizer": "sgd", "optimizer.momentum": 0.6}]),
        ("learning_rate=0.01", [{"epochs": 20}, {"optimizer": "sgd", "optimizer.momentum": 0.6}]),
        ("learning_rate=interval(1e-2,1e-1)", [{"epochs": 20}, {"optimizer": "sgd", "optimizer.momentum": 0.6}]),
        ("learning_rate=interval(1e-4,1e-2)", [{"learning_rate": 1e-3, "epochs": 20}, {"optimizer": "sgd", "optimizer.momentum": 0.6}]),
        ("optimizer=adamw", [{"learning_rate": 1e-3, "epochs": 20}]),  # an entry without values goes
        ("optimizer=sgd", [{"learning_rate": 1e-3, "epochs": 20}, {"optimizer.momentum": 0.6}]),
        ("optimizer.momentum=0.9", [{"learning_rate": 1e-3, "epochs": 20}, {"optimizer": "sgd"}]),
    ],
)  # fmt: skip
def test_the_command_line_overrules_the_files_initial_values(override, left):
    initial = [{"learning_rate": 1e-3, "epochs": 20}, {"optimizer": "sgd", "optimizer.momentum": 0.6}]
    assert initial_of(initial, override) == left


def test_an_initial_value_that_the_command_line_does_not_touch_stays_wrong():
    wrong = [{"learning_rate": 3, "epocs": 5}, {}]
    assert initial_of(wrong) == wrong
    assert initial_of(wrong, "optimizer=adamw", "epochs=5") == wrong


def test_a_grid_is_every_combination_and_no_other():
    space = read({"a": "1,2", "b": "range(0, 3)", "when": {"a=2": {"c": "x,y"}}})
    cells = list(space.grid())
    assert len(cells) == 3 + 3 * 2
    assert [cell for cell in cells if cell["a"] == "1"] == [{"a": "1", "b": b} for b in range(3)]
    rest = [{"a": "2", "b": b, "c": c} for b, c in product(range(3), "xy")]
    assert [cell for cell in cells if cell["a"] == "2"] == rest


floats = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.tuples(floats, floats).map(sorted))
@settings(max_examples=100, deadline=None)
def test_an_interval_of_any_floats_is_read_exactly(ends):
    low, high = ends
    assert read({"k": f"interval({low!r}, {high!r})"})["k"] == Continuous("k", low, high)


@given(st.lists(st.one_of(st.integers(), floats, st.booleans(), st.text(max_size=5)), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_choice_of_any_values_comes_back(values):
    from alphard import literals

    try:
        written = [literals.write(v if isinstance(v, str) else literals.Plain(str(v).lower())) for v in values]
    except ValueError:
        return  # what Hydra's grammar cannot say
    choices = read({"k": f"choice({', '.join(written)})"})["k"]
    for value in values:
        assert any(choices.value(text) == value for text in choices.choices)
    # What a tuner is given is read by Hydra as one value again.
    for text in choices.choices:
        assert not OverridesParser.create().parse_override(f"k={text}").is_sweep_override()
