"""report.html of a study and of a run: the figures hold what the files hold, whatever the files hold."""

import contextlib
import io
import json
import math
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from torchmetrics.functional.classification import multiclass_auroc, multiclass_calibration_error

from alphard import artifacts, cli, files, page
from alphard.curves import MOST, curves
from alphard.search import grammar, results, study_lines, study_page
from alphard.storage import Folder
from tests.conftest import run_train
from tests.in_process import run_here
from tests.spent import ROOM

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>&<b>"
FIGURE = re.compile(r'<div class="figure" id="([^"]*)"[^>]*></div><script type="application/json">(.*?)</script>', re.S)
Figures = dict[str, Any]


def figures(file: Path) -> Figures:
    """The page's figures by name, as plotly is given them."""
    return {name: json.loads(content) for name, content in FIGURE.findall(file.read_text())}


def trace(figure: Any, name: str) -> Any:
    (found,) = (one for one in figure["data"] if one.get("name", "").startswith(name))
    return found


def lines(one: Any) -> list[list[Any]]:
    """A trace's lines, which gaps part."""
    found: list[list[Any]] = [[]]
    for point in zip(one["x"], one["y"], strict=True):
        if point[0] is None:
            found.append([])
        else:
            found[-1].append(point)
    return [line for line in found if line]


def results_of(*arguments: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["results", *arguments]) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    line = ("search=mlp", "search.trials=8", "search.parallel=1", "epochs=4", "threads=1", "search.seed=1")
    pruner = ("search.pruner.kind=asha", "search.pruner.grace_epochs=1", "search.algorithm=random")
    done = run_train(folder, *line, *pruner, "data.fraction=0.2")
    assert done.status == 0, done.err
    assert "report: alphard results studies/mlp draws it" in done.out
    assert not (folder / "studies/mlp/report.html").exists()
    return folder / "studies/mlp"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run_here(folder, "epochs=5", "data.test_fraction=0.2", "score_test=true")
    return folder


def test_studys_figures_hold_its_trials(study: Path) -> None:
    said = results_of(str(study))
    assert f"report: {study}/report.html" in said
    _, trials = results.load(study)
    done = {t.number: t.value for t in trials if t.state == TrialState.COMPLETE}
    pruned = {t.number: t.value for t in trials if t.state == TrialState.PRUNED}
    assert done
    assert pruned
    drawn = figures(study / "report.html")
    history = drawn["best"]
    complete = trace(history, "complete")
    assert dict(zip(complete["x"], complete["y"], strict=True)) == done
    crossed = trace(history, "pruned")
    assert dict(zip(crossed["x"], crossed["y"], strict=True)) == pruned
    best = trace(history, "best")
    assert [*zip(best["x"], best["y"], strict=True)][min(done) :] == [
        (n, max(done[m] for m in done if m <= n)) for n in range(min(done), 8)
    ]
    curved = [line for one in drawn["learning"]["data"] if "lines" in one["mode"] for line in lines(one)]
    expected = [sorted(trial.intermediate_values.items()) for trial in trials if trial.intermediate_values]
    assert sorted(curved) == sorted(expected)
    assert len(curved) == 8
    assert sum(len(lines(one)) for one in drawn["parallel"]["data"]) == len(done)
    (bars,) = drawn["importances"]["data"]
    assert math.isclose(sum(bars["x"]), 1)
    assert {*bars["y"]} == {key for trial in trials if trial.number in done for key in trial.params}
    for place, dimension in enumerate(results.space_of(results.about(study))):
        having = [t for t in trials if t.number in done and dimension.key in t.params]
        if having:
            found = drawn[f"slice-{place}"]["data"][0]
            assert sorted(found["y"]) == sorted(t.value for t in having)
            for said, x, y in zip(found["text"], found["x"], found["y"], strict=True):
                trial = trials[int(said.removeprefix("trial "))]
                assert (x, y) == (trial.params[dimension.key], trial.value)


def test_studys_page_is_the_same_twice(study: Path) -> None:
    results_of(str(study))
    first = (study / "report.html").read_bytes()
    results_of(str(study))
    assert (study / "report.html").read_bytes() == first


def test_trials_page_says_what_a_trial_does_not_leave(study: Path) -> None:
    _, trials = results.load(study)
    complete = next(t.number for t in trials if t.state == TrialState.COMPLETE)
    pruned = next(t.number for t in trials if t.state == TrialState.PRUNED)
    assert "validation_" not in results_of(str(study / f"trials/{pruned}"))
    text = (study / f"trials/{pruned}/report.html").read_text()
    assert "the run has not come to its end" in text
    assert "learning-loss" in figures(study / f"trials/{pruned}/report.html")
    results_of(str(study / f"trials/{complete}"))
    assert "alphard retrain, or this trial" in (study / f"trials/{complete}/report.html").read_text()


def test_runs_figures_hold_what_it_left(run: Path) -> None:
    said = results_of(str(run))
    assert f"report: {run}/report.html" in said
    assert "accuracy" in said
    metrics, history = json.loads((run / "metrics.json").read_text()), Folder(str(run)).read("eval_history.csv")
    rows = files.epochs((history or b"").decode())
    drawn = figures(run / "report.html")
    for name, figure in (("train_loss", "loss"), ("validation_loss", "loss"), ("validation_accuracy", "accuracy")):
        found = trace(drawn[f"learning-{figure}"], name.replace("_", " "))
        assert found["y"] == [row[name] for row in rows]
        assert found["x"] == [1, 2, 3, 4, 5]
    points = json.loads((run / "curves.json").read_text())
    for split, count in (("validation", metrics["val_rows"]), ("test", metrics["test_rows"])):
        (cells,) = drawn[f"confusion-{split}"]["data"]
        matrix = [[int(n or 0) for n in row] for row in cells["text"]]
        assert matrix == metrics[f"{split}_confusion_matrix"]
        assert sum(map(sum, matrix)) == count
        bars, _, line = drawn[f"calibration-{split}"]["data"]
        assert sum(bars["y"]) == count
        assert line["y"] == [one["accuracy"] for one in points[split]["calibration"]]
        roc = drawn[f"roc-{split}"]["data"][1:]
        assert sorted(one["y"] for one in roc) == sorted(one["true"] for one in points[split]["roc"])


def test_opening_the_test_split_later_adds_its_curves(tmp_path: Path) -> None:
    run_here(tmp_path, "epochs=1", "data.test_fraction=0.2")
    before = json.loads((tmp_path / "curves.json").read_text())
    run_here(tmp_path, "epochs=1", "data.test_fraction=0.2", "score_test=true")
    after = json.loads((tmp_path / "curves.json").read_text())
    assert [*before] == ["validation"]
    assert [*after] == ["validation", "test"]
    assert after["validation"] == before["validation"]


def copy_of(run: Path, folder: Path, **changed: str | None) -> Path:
    """The run, with files of other content, or without them."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns(page.FILE))
    for name, content in changed.items():
        path = next(path for path in run.iterdir() if path.name.replace(".", "_") == name)
        (folder / path.name).unlink()
        if content is not None:
            (folder / path.name).write_text(content)
    return folder


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"validation": 3}', '{"validation": {"roc": 1}}'])
def test_older_runs_page_says_what_is_not_drawn(run: Path, tmp_path: Path, content: str | None) -> None:
    old = copy_of(run, tmp_path / "old", curves_json=content)
    results_of(str(old))
    text = (old / "report.html").read_text()
    assert "Calibration and ROC are not drawn" in text
    assert {"confusion-test", "confusion-validation"} < {*figures(old / "report.html")}
    assert not any(name.startswith(("roc", "calibration")) for name in figures(old / "report.html"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics_json", "nonsense"),
        ("metrics_json", "[1]"),
        ("metrics_json", '{"validation_confusion_matrix": 5, "validation_accuracy": 1.0}'),
        ("eval_history_csv", "a,b\n1,2\n"),
        ("eval_history_csv", "epoch,train_loss\n1,x\n"),
        ("config_yaml", "[: :"),
        ("config_yaml", "- 1\n"),
    ],
)
def test_what_no_run_writes_is_one_clear_error(
    run: Path, tmp_path: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copy_of(run, tmp_path / "broken", **{name: content})
    assert cli.main(["results", str(broken)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "not what a run writes" in said
    assert str(broken) in said
    assert not (broken / "report.html").exists()


def test_page_that_cannot_be_written_is_one_error(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_of(run, tmp_path / "copy")
    (copy / "report.html" / "inside").mkdir(parents=True)
    assert cli.main(["results", str(copy)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"{copy}/report.html cannot be written" in said
    assert not list(copy.glob(".report*"))


def test_folder_that_holds_neither_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["results", str(tmp_path)]) == 2
    assert "holds no study" in capsys.readouterr().err


def test_secrets_are_not_shown(run: Path, tmp_path: Path) -> None:
    config = "seed: 0\nlogger:\n  api_key: geheim1\n  tokenizer: words\n  password: ${oc.env:PASS}\n"
    config += "data:\n  path: https://me:geheim2@host/rows.csv\n"
    copy = copy_of(run, tmp_path / "copy", config_yaml=config)
    results_of(str(copy))
    text = (copy / "report.html").read_text()
    assert "geheim" not in text
    assert "tokenizer: words" in text
    assert "${oc.env:PASS}" in text
    assert page.unveiled_override("+logger.api_key=geheim") == "+logger.api_key=***"
    assert page.unveiled_override("seed=1") == "seed=1"


# --- studies of every kind, without training ---

X, N, KIND = FloatDistribution(1e-4, 1.0, log=True), IntDistribution(1, 9), CategoricalDistribution(("a", "b", "[1,2]"))
SPACE = {"x": "tag(log, interval(1e-4, 1))", "n": "int(interval(1, 9))", "kind": "choice(a, b, [1,2])"}
SPACE_WHEN = SPACE | {"when": {"kind=b": {"depth": "interval(0, 1)"}}}


def made(number: int, value: float | None, state: TrialState = TrialState.COMPLETE, **reported: Any) -> FrozenTrial:
    random = np.random.default_rng(number)
    kind = ("a", "b", "[1,2]")[number % 3]
    params = {"x": float(10 ** random.uniform(-4, 0)), "n": int(random.integers(1, 10)), "kind": kind}
    ranges: dict[str, Any] = {"x": X, "n": N, "kind": KIND}
    if kind == "b":
        params["depth"], ranges["depth"] = float(random.uniform()), FloatDistribution(0, 1)
    steps = reported.get("steps", {} if value is None else {1: value / 2, 2: value})
    trial = create_trial(state=state, value=value, params=params, distributions=ranges, intermediate_values=steps)
    trial.number = number
    return trial


def written(folder: Path, trials: list[FrozenTrial], space: Any = SPACE_WHEN, **search: Any) -> Path:
    """report.html of a study with these trials."""
    node = {"objective": "validation_accuracy", "direction": "maximize", "algorithm": "random"} | search
    configs = {
        "folder": ".",
        "name": "config",
        "extra": [],
        "overrides": [],
        "choices": {"data": "digits"},
        "groups": [],
    }
    said = {"search": node | {"space": space}, "overrides": ["search=mlp"], "configs": configs}
    folder.mkdir(exist_ok=True)
    return Path(study_page.write(folder, said, trials, *results.sorted_rows(said, trials)))


ODD = {
    "none": (
        [],
        {"Best so far is not drawn", "Not drawn: no trial has reported an epoch", "No trial has come to its end"},
    ),
    "one": ([made(0, 0.5)], {"Importances are not drawn"}),
    "two": ([made(0, 0.5), made(1, 0.7)], set()),
    "equal": ([made(n, 0.5) for n in range(5)], {"Importances are not drawn"}),
    "failed": ([made(n, None, TrialState.FAIL) for n in range(3)], {"Best so far is not drawn", "3 failed"}),
    "pruned": ([made(n, 0.1 * n, TrialState.PRUNED) for n in range(4)], {"Best so far is not drawn"}),
    "running": ([made(0, 0.5), made(1, None, TrialState.RUNNING, steps={1: 0.2})], {"running trials"}),
    "nan": ([made(0, 0.5), made(1, 0.6, steps={1: math.nan, 2: 0.6}), made(2, 0.1, steps={1: math.inf})], set()),
    "infinite": ([made(0, 0.5), made(1, math.inf), made(2, 0.7)], set()),
    "far": ([*(made(n, 0.5 + n / 100) for n in range(20)), made(20, -1e9)], {"Far outside: 1 trial"}),
    "silent": ([made(n, 0.5 + n / 9, steps={}) for n in range(4)], {"Not drawn: no trial has reported an epoch"}),
}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("kind", [*ODD])
def test_any_study_has_a_sound_page(
    tmp_path: Path, kind: str, direction: str, capfd: pytest.CaptureFixture[str]
) -> None:
    trials, words = ODD[kind]
    file = written(tmp_path / "study", trials, direction=direction)
    text, drawn = file.read_text(), figures(file)
    # A best that lies far from the others is never out of sight.
    assert (kind, direction) == ("far", "minimize") or all(word in text for word in words)
    assert "NaN" not in json.dumps(drawn)
    assert "Infinity" not in json.dumps(drawn)
    finite = [t.value for t in trials if t.state == TrialState.COMPLETE and math.isfinite(t.value or 0)]
    assert ("best" in drawn) == bool(finite)
    if finite:
        assert trace(drawn["best"], "best")["y"][-1] == (max if direction == "maximize" else min)(finite)
    assert ("learning" in drawn) == any(t.intermediate_values for t in trials)
    assert capfd.readouterr() == ("", ""), "no warning of Optuna's reaches anybody"


def test_conditional_dimension_is_drawn_of_the_trials_that_have_it(tmp_path: Path) -> None:
    trials = [made(n, (n * 7 % 12) / 12) for n in range(12)]
    drawn = figures(written(tmp_path / "s", trials))
    assert len(drawn["slice-3"]["data"][0]["y"]) == 4
    assert "not there" in {one["text"] for one in drawn["parallel"]["layout"]["annotations"]}
    (bars,) = drawn["importances"]["data"]
    assert {*bars["y"]} == {"x", "n", "kind", "depth"}
    assert math.isclose(sum(bars["x"]), 1)


@pytest.mark.parametrize("space", [{"x": SPACE["x"]}, {"kind": SPACE["kind"]}])
def test_space_of_one_dimension(tmp_path: Path, space: dict[str, str]) -> None:
    trials = []
    for n in range(6):
        trial = made(n, n / 6)
        trial.params = {key: trial.params[key] for key in space}
        trial.distributions = {key: trial.distributions[key] for key in space}
        trials.append(trial)
    drawn = figures(written(tmp_path / "s", trials, space))
    assert {"best", "parallel", "learning", "slice-0"} <= {*drawn}


def test_history_of_a_trial_stands_for_what_it_did_not_report(tmp_path: Path) -> None:
    """A trial of Vertex AI reports to nobody here, but its history has been gathered."""
    home = tmp_path / "study/trials/0"
    home.mkdir(parents=True)
    (home / "eval_history.csv").write_text("epoch,validation_accuracy\n1,0.25\n2,0.5\n")
    file = written(tmp_path / "study", [made(0, 0.5, steps={}), made(1, 0.25, steps={})])
    assert [line for one in figures(file)["learning"]["data"] for line in lines(one)] == [[(1, 0.25), (2, 0.5)]]


def hostile_study(folder: Path) -> Path:
    """A study whose names, choices and errors are a script."""
    space = {"x": "interval(0, 1)", "kind": f'choice("{HOSTILE}", b)'}
    choices = grammar.read(space)["kind"].choices  # type: ignore[union-attr]  # it is Categorical
    assert any("<script>" in choice and "onerror" in choice for choice in choices)
    ranges = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(choices)}
    trials = []
    for n in range(6):
        chosen = {"x": n / 6, "kind": choices[n % 2]}
        state = TrialState.FAIL if n == 5 else TrialState.COMPLETE
        about = {"error": HOSTILE, "stopped_epoch": 3}
        trial = create_trial(
            state=state, value=None if n == 5 else n, params=chosen, distributions=ranges, user_attrs=about
        )
        trial.number = n
        trials.append(trial)
    return written(folder, trials, space, objective=HOSTILE)


def hostile_run(run: Path, folder: Path) -> Path:
    """A run whose classes are scripts."""
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["classes"] = [f"{n} {HOSTILE}" for n in range(len(metrics["classes"]))]
    copy_of(run, folder, metrics_json=json.dumps(metrics))
    results_of(str(folder))
    return folder / "report.html"


def test_texts_are_escaped(run: Path, tmp_path: Path) -> None:
    for file in (hostile_study(tmp_path / "study"), hostile_run(run, tmp_path / "run")):
        text = file.read_text()
        own = text.replace(page._asset("page.js"), "")
        assert "<script>document" not in own
        assert "<img src=x" not in own
        assert "&lt;/script&gt;" in own
        drawn = json.dumps(figures(file), ensure_ascii=False)
        assert "<script>" not in drawn
        assert "&lt;/script&gt;" in drawn


# --- curves.json ---


def logits(rows: int, classes: int, sharp: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(rows)
    y = torch.randint(classes, (rows,))
    return torch.randn(rows, classes) + sharp * torch.nn.functional.one_hot(y, classes) * torch.rand(rows, 1), y


@pytest.mark.parametrize(("rows", "classes"), [(50, 2), (3000, 3), (20_000, 5)])
def test_curves_are_those_of_the_scores(rows: int, classes: int) -> None:
    z, y = logits(rows, classes)
    found = curves(z, y)
    probabilities = z.softmax(1)
    auroc = float(multiclass_auroc(probabilities, y, classes, average="macro"))
    assert math.isclose(np.mean([one["area"] for one in found["roc"]]), auroc, abs_tol=1e-5)
    for one in found["roc"]:
        assert len(one["true"]) == len(one["false"]) <= MOST
        assert (one["false"][0], one["true"][0], one["false"][-1], one["true"][-1]) == (0, 0, 1, 1)
        assert abs(np.trapezoid(one["true"], one["false"]) - one["area"]) < 1e-3
    bins = found["calibration"]
    assert sum(one["rows"] for one in bins) == rows
    error = sum(one["rows"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / rows
    assert math.isclose(error, float(multiclass_calibration_error(probabilities, y, classes, n_bins=15)), abs_tol=1e-5)


def test_curves_of_what_cannot_be_judged() -> None:
    z, y = logits(30, 3)
    assert curves(z, torch.zeros_like(y))["roc"] == [None, None, None]
    assert curves(z * math.nan, y) == {}
    sure = curves(torch.tensor([[200.0, 0.0], [0.0, 200.0]]), torch.tensor([0, 1]))
    assert sure["calibration"] == [{"rows": 2, "confidence": 1.0, "accuracy": 1.0}]


def test_lean_trial_leaves_no_curves(study: Path) -> None:
    assert not list(study.glob(f"trials/*/{artifacts.POINTS}"))


def many(count: int) -> list[FrozenTrial]:
    """A large study: complete, pruned and failed trials with ten epochs each."""
    trials = []
    for n in range(count):
        value = 0.5 + 0.4 * math.sin(n) ** 2
        steps = {step: value * step / 10 for step in range(1, 11)}
        state = (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED)[n % 3]
        trials.append(made(n, value, state, steps=steps))
    return trials


@pytest.mark.more
def test_ten_thousand_trials_are_written_in_seconds(tmp_path: Path) -> None:
    trials = many(10_000)
    began = time.process_time()  # whatever else the machine does
    file = written(tmp_path / "study", trials)
    took = time.process_time() - began
    print(f"{took:.1f} s to write")
    assert took < ROOM * 10
    drawn = figures(file)
    assert len(trace(drawn["best"], "complete")["x"]) == sum(t.state == TrialState.COMPLETE for t in trials)
    assert sum(len(lines(one)) for one in drawn["learning"]["data"]) == 10_000
    assert "complete trials the 1000 best are shown" in file.read_text()


def test_of_more_curves_than_a_page_holds_some_are_drawn_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_lines, "POINTS", 300)
    file = written(tmp_path / "study", many(90))  # of ten epochs each
    drawn = [line for one in figures(file)["learning"]["data"] if "lines" in one["mode"] for line in lines(one)]
    assert len(drawn) == 20 + 10 + 1
    assert {len(line) for line in drawn} == {10}
    assert "One in 3 is drawn, and the best." in file.read_text()
    best = trace(figures(file)["best"], "best")["y"][-1]
    assert best in {line[-1][1] for line in drawn}


def test_without_what_draws_the_rest_is_told(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "drawable", lambda: False)
    (run / page.FILE).unlink(missing_ok=True)
    assert cli.main(["results", str(run)]) == 0
    said = capsys.readouterr().out
    assert "pip install -c constraints.txt -e '.[report]'" in said
    assert "accuracy" in said
    assert not (run / page.FILE).exists()
