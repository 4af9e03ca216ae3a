"""Both reports as Chromium draws them: every mark there, nothing fetched, on a laptop and a phone, light and dark."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from alphard.search import results
from tests import chromium
from tests.chromium import LAPTOP, PHONE, Tab
from tests.spent import ROOM
from tests.test_report import figures, hostile_run, hostile_study, many, results_of, run, study, written

__all__ = ["run", "study"]
pytestmark = [pytest.mark.more, pytest.mark.timeout(900)]

POINTS = "document.querySelectorAll('#{name} .scatterlayer .points path').length"
# A line that gaps part is one path, which begins anew after each.
PATHS = "[...document.querySelectorAll('#{name} .scatterlayer path.js-line')].map((path) => path.getAttribute('d'))"
SOUND = [*itertools.product((LAPTOP, PHONE), (False, True))]


@pytest.fixture(scope="module", params=SOUND, ids=["laptop", "laptop-dark", "phone", "phone-dark"])
def drawn_study(request: pytest.FixtureRequest, study: Path) -> Iterator[Tab]:
    results_of(str(study))
    with chromium.opened(study / "report.html", *request.param) as tab:
        yield tab


@pytest.fixture(scope="module", params=SOUND, ids=["laptop", "laptop-dark", "phone", "phone-dark"])
def drawn_run(request: pytest.FixtureRequest, run: Path) -> Iterator[Tab]:
    results_of(str(run))
    with chromium.opened(run / "report.html", *request.param) as tab:
        yield tab


def must_be_sound(tab: Tab) -> None:
    """No error, no request but for the file itself, every figure drawn, nothing wider than the screen."""
    assert tab.errors == []
    assert [url[:60] for url in tab.requests[1:] if not url.startswith("data:image/")] == []
    assert tab.requests[0].startswith("file://")
    figures, drawn = tab.evaluate(
        "[document.querySelectorAll('.figure').length, document.querySelectorAll('.figure .main-svg .bg').length]"
    )
    assert 0 < figures <= drawn
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Nothing is cut off at a figure's edge.
    cut = """[...document.querySelectorAll('.figure')].flatMap((box) => {
      const edge = box.getBoundingClientRect();
      return [...box.querySelectorAll('.xtitle, .ytitle, .xtick text, .ytick text')].filter((text) => {
        const its = text.getBoundingClientRect();
        return its.left < edge.left - 1 || its.right > edge.right + 1 || its.bottom > edge.bottom + 1;
      }).map((text) => `${box.id}: ${text.textContent}`)})"""
    assert tab.evaluate(cut) == []
    smallest = "Math.min(...[...document.querySelectorAll('.figure text')].map((t) => parseFloat(getComputedStyle(t).fontSize)))"
    assert tab.evaluate(smallest) >= 10


def shade(tab: Tab, selector: str, of: str) -> float:
    """How light a colour is, from 0 to 1."""
    said = tab.evaluate(f"getComputedStyle(document.querySelector({json.dumps(selector)})).{of}")
    return sum(float(part) for part in said[said.index("(") + 1 : -1].split(",")[:3]) / 765


def test_each_trial_is_drawn(drawn_study: Tab, study: Path) -> None:
    tab = drawn_study
    must_be_sound(tab)
    _, trials = results.load(study)
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    assert tab.evaluate(POINTS.format(name="best")) == len(done) + len(pruned)
    begun = [path.count("M") for path in tab.evaluate(PATHS.format(name="parallel"))]
    assert sum(begun) == len(done)
    long = [t for t in trials if len(t.intermediate_values) > 1]
    begun = [path.replace("Z", "").count("M") for path in tab.evaluate(PATHS.format(name="learning"))]
    assert len(long) <= sum(begun) <= len(trials)
    keys = {key for t in done for key in t.params}
    assert tab.evaluate("document.querySelectorAll('#importances .bars .point path').length") == len(keys)
    for place, dimension in enumerate(results.space_of(results.about(study))):
        having = sum(dimension.key in t.params for t in done)
        if having:
            star = dimension.key in min(done, key=lambda t: (-(t.value or 0), t.number)).params
            assert tab.evaluate(POINTS.format(name=f"slice-{place}")) == having + star
    rows = tab.evaluate("[...document.querySelectorAll('tr.best td')].map((cell) => cell.textContent)")
    best = min(done, key=lambda t: (-(t.value or 0), t.number))
    assert rows[0] == str(best.number)
    assert rows[1].startswith(f"{best.value:.6f}")


def test_each_epoch_cell_and_curve_is_drawn(drawn_run: Tab, run: Path) -> None:
    tab = drawn_run
    must_be_sound(tab)
    metrics = json.loads((run / "metrics.json").read_text())
    assert tab.evaluate(POINTS.format(name="learning-loss")) == 2 * 5
    assert tab.evaluate(POINTS.format(name="learning-accuracy")) == 5
    points = json.loads((run / "curves.json").read_text())
    for split in ("validation", "test"):
        cells = tab.evaluate(
            f"[...document.querySelectorAll('#confusion-{split} .heatmap-label text')].map((t) => t.textContent)"
        )
        expected = [n for row in metrics[f"{split}_confusion_matrix"] for n in row if n]
        assert sorted(int(cell) for cell in cells if cell) == sorted(expected)
        bins = points[split]["calibration"]
        assert tab.evaluate(POINTS.format(name=f"calibration-{split}")) == len(bins)
        assert tab.evaluate(f"document.querySelectorAll('#calibration-{split} .bars .point path').length") == len(bins)
        assert len(tab.evaluate(PATHS.format(name=f"roc-{split}"))) == 1 + len(points[split]["roc"])


def test_page_follows_the_readers_shade(study: Path) -> None:
    results_of(str(study))
    with chromium.opened(study / "report.html", PHONE) as tab:
        light = [shade(tab, "body", "backgroundColor"), shade(tab, "#best .xtick text", "fill")]
        tab.dark(True)
        tab.wait("document.body.dataset.drawn === 'dark'")
        dark = [shade(tab, "body", "backgroundColor"), shade(tab, "#best .xtick text", "fill")]
        tab.dark(False)
        tab.wait("document.body.dataset.drawn === 'light'")
        assert [shade(tab, "body", "backgroundColor"), shade(tab, "#best .xtick text", "fill")] == light
        must_be_sound(tab)
    assert light[0] > 0.9 > 0.3 > light[1]
    assert dark[0] < 0.15 < 0.7 < dark[1]


def test_scripts_in_names_do_not_run(run: Path, tmp_path: Path) -> None:
    for file in (hostile_study(tmp_path / "study"), hostile_run(run, tmp_path / "run")):
        with chromium.opened(file) as tab:
            assert tab.errors == []
            assert tab.evaluate("document.title").startswith(("Study", "Run"))
            assert tab.evaluate("document.querySelectorAll('img[src=x], .figure b, .figure img').length") == 0
            assert "onerror" in tab.evaluate("document.body.textContent")


def test_thirty_classes_with_long_names_are_readable(run: Path, tmp_path: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    names = [f"a class with a rather long name, number {n}" for n in range(30)]
    matrix = [[50 if i == j else (i * j) % 3 for j in range(30)] for i in range(30)]
    large = tmp_path / "large"
    large.mkdir()
    for name in ("config.yaml", "eval_history.csv"):
        (large / name).write_bytes((run / name).read_bytes())
    (large / "metrics.json").write_text(
        json.dumps(
            {k: v for k, v in metrics.items() if not k.startswith("test_")}
            | {"classes": names, "validation_confusion_matrix": matrix}
        )
    )
    results_of(str(large))
    for size in (LAPTOP, PHONE):
        with chromium.opened(large / "report.html", size) as tab:
            must_be_sound(tab)
            script = (
                "[...document.querySelectorAll('#confusion-validation .heatmap-label text')].map((t) => t.textContent)"
            )
            assert sum(int(n or 0) for n in tab.evaluate(script)) == sum(map(sum, matrix))
            ticks = "document.querySelectorAll('#confusion-validation .{}tick text').length"
            assert [tab.evaluate(ticks.format(axis)) for axis in "xy"] == [30, 30]


def test_ten_thousand_trials_open_in_seconds(tmp_path: Path) -> None:
    file = written(tmp_path / "study", many(10_000))
    with chromium.opened(file) as tab:
        # Its own seconds, whatever else the machine does; its wall clock says the same where it does nothing else.
        measured = {one["name"]: one["value"] for one in tab.call("Performance.getMetrics")["metrics"]}
        count = len(figures(file)["best"]["data"][1]["x"])
        assert (
            tab.evaluate(
                "document.querySelectorAll('#best .scatterlayer .trace')[1].querySelectorAll('.points path').length"
            )
            == count
        )
        assert tab.errors == []
    print(f"{measured['ProcessTime']:.1f} s to open, {measured['Nodes']:.0f} nodes")
    assert measured["Nodes"] < 10 * 10_000
    assert measured["ProcessTime"] < ROOM * 10
