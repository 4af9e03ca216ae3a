"""report.html of a study: best so far, lines across and along, importances, slices, its best trials, settings."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from alphard import documents, files, page
from alphard.page import Drawing, Page, Section
from alphard.search import results, study_figures, study_lines
from alphard.search.shown import Curve, Shown, outside, shown, span
from alphard.storage import Folder

TABLED, FAILED = 25, 10  # the best trials, and the first failed ones, that are listed
# What a study's settings are, in the order in which they are shown; the space has lines of its own.
SETTINGS = (
    *("objective", "direction", "algorithm", "pruner", "trials", "parallel", "seed", "initial", "warm_start"),
    *("max_failures", "time_budget", "storage"),
)
NONE = {
    "best": "Best so far is not drawn: no trial has come to its end.",
    "parallel": "Parallel coordinates and slices are not drawn either.",
    "importances": "Importances are not drawn: they need complete trials that differ in their values.",
    "learning": "Not drawn: no trial has reported an epoch.",
}


def write(
    folder: Path,
    said: Mapping[str, Any],
    trials: Sequence[FrozenTrial],
    rows: Sequence[results.Row],
    columns: list[str],
) -> str:
    """Draw the study in `folder`; returns where report.html lies now.

    said, trials: as results.load gives them; rows, columns: as results.sorted_rows does.
    """
    search = said["search"]
    curves = {trial.number: curve for trial in trials if (curve := _curve(folder, trial, search["objective"]))}
    this = shown(trials, results.space_of(said), search["objective"], search["direction"], curves)
    content = Page(
        f"Study {folder.resolve().name}",
        f"A search by alphard for the {'highest' if this.sign > 0 else 'lowest'} {this.objective}.",
        _facts(this, rows),
        [_overview(this), _slices(this), _learning(this), _table(this, rows, columns), _settings(folder, said, this)],
    ).to_html()
    Folder(str(folder), "studies").write(page.FILE, content)
    return str(folder / page.FILE)


def _curve(folder: Path, trial: FrozenTrial, objective: str) -> Curve | None:
    """What a trial reported, from the storage; of one from Vertex AI, from its history."""
    if trial.intermediate_values:
        steps = sorted(trial.intermediate_values)
        return steps, [float(trial.intermediate_values[step]) for step in steps]
    path = folder / "trials" / str(trial.number) / files.HISTORY
    try:
        found = [row for row in files.epochs(path.read_text()) if objective in row]
    except (OSError, ValueError, TypeError, csv.Error):  # lost, or torn by whoever copied it
        return None
    return ([int(row["epoch"]) for row in found], [row[objective] for row in found]) if found else None


def _facts(this: Shown, rows: Sequence[results.Row]) -> list[tuple[str, str]]:
    facts = [(f"{state} trials", str(n)) for state, n in results.counts(row["state"] for row in rows).items()]
    if this.ranked:
        best = this.ranked[0]
        facts = [(f"best {this.objective}", f"{best.value:.6f}"), ("of trial", str(best.number)), *facts]
    return facts


def _overview(this: Shown) -> Section:
    drawn = {
        "best": study_figures.best_so_far(this),
        "importances": study_figures.importances(this),
        "parallel": study_lines.parallel(this),
    }
    words = " ".join(NONE[name] for name, drawing in drawn.items() if drawing is None)
    return Section("The search", words, [drawing for drawing in drawn.values() if drawing], columns=2)


def _slices(this: Shown) -> Section:
    drawings: list[Drawing] = study_figures.slices(this) if this.ranked else []
    if not drawings:
        return Section("Slices", "Not drawn: no trial has come to its end.")
    words = f"Each dimension by itself, of the complete trials; the star is the best.{this.thinned}"
    values = [float(trial.value or 0) for trial in this.ranked]
    words += outside(values, span(values, values[:1]), "trial")
    names = {name for trial in this.ranked for name in trial.params}
    if missing := [d.key for d in this.space if page.label(d.key) not in names]:
        words += f" No complete trial has {', '.join(missing)}."
    return Section("Slices", words, drawings, columns=3)


def _learning(this: Shown) -> Section:
    drawing = study_lines.learning(this)
    return Section("All trials by epoch", "" if drawing else NONE["learning"], [drawing] if drawing else [])


def _table(this: Shown, rows: Sequence[results.Row], columns: Sequence[str]) -> Section:
    """The best trials, and which failed."""
    names = [name for name in columns if name not in ("near_best", "error", "state")]
    done = [row for row in rows if row["state"] == "complete"]
    failed = [row for row in rows if row["state"] == "failed"]
    near = sum(bool(row["near_best"]) for row in done) - 1
    words = "No trial has come to its end." if not done else f"The first {min(TABLED, len(done))} of {len(done)}."
    if near > 0:
        words += f" * {near} more lie within the noise of the validation rows from the best."
    body = [[_cell(row, name, this.objective) for name in names] for row in done[:TABLED]]
    more = page.table([name.replace("_", " ") if name in results.AFTER else name for name in names], body, best=1)
    if failed:
        said = [(f"trial {row['trial']}", _first_line(row["error"])) for row in failed[:FAILED]]
        aside = f", of which the first {FAILED}" if len(failed) > FAILED else ""
        more = f"{more if done else ''}<h3>{len(failed)} failed{aside}</h3>{page.pairs(said)}"
    return Section("Best trials", words, more=more if done or failed else "")


def _cell(row: results.Row, name: str, objective: str) -> Any:
    value = row[name]
    if name == objective and value is not None:
        return f"{value:.6f}{' *' if row['near_best'] else ''}"
    return f"{value:.1f}" if name == "seconds" and value is not None else value


def _first_line(said: Any) -> str:
    return next(iter(str(said or "").splitlines()), "")


def _settings(folder: Path, said: Mapping[str, Any], this: Shown) -> Section:
    search, configs = said["search"], said["configs"]
    space = [[d.key, str(d), str(d.when or "always")] for d in this.space]
    known = [(name.replace("_", " "), _said(search[name])) for name in SETTINGS if search.get(name) not in (None, [])]
    line = " ".join(page.unveiled_override(str(word)) for word in said["overrides"])
    choices = {
        group: choice
        for group, choice in configs["choices"].items()
        if choice not in (None, "none", []) and "@" not in group
    }
    known += [("configs", ", ".join(f"{group}={_said(choice)}" for group, choice in choices.items()))]
    known += [("said", line)] if line else []
    known += [("data", facts)] if (facts := _data(folder, this)) else []
    known += [("job", str(job.get("name") or job.get("folder")))] if isinstance(job := said.get("job"), dict) else []
    python = ".".join(map(str, sys.version_info[:3]))
    known.append(("drawn by", f"{page.versions()}, optuna {optuna.__version__}, Python {python}"))
    more = (
        page.table(["dimension", "values", "exists"], space) + "<br>" + page.pairs(known) + _best_config(folder, this)
    )
    return Section("Settings", "", more=more)


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(page.unveiled(value), default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip()


def _data(folder: Path, this: Shown) -> str:
    """What the best trial's metrics say of the data."""
    if not this.ranked:
        return ""
    path = folder / "trials" / str(this.ranked[0].number) / files.METRICS
    try:
        metrics = documents.of_json(path.read_bytes(), str(path))
        names = {"train_rows": "training rows", "val_rows": "validation rows", "test_rows": "test rows, sealed"}
        counts = [f"{metrics[name]} {words}" for name, words in names.items() if metrics.get(name)]
        return ", ".join([*counts, f"{metrics['features']} features", f"{len(metrics['classes'])} classes"])
    except (OSError, LookupError, TypeError, documents.NotWritten):  # lost, or torn by whoever copied it
        return ""


def _best_config(folder: Path, this: Shown) -> str:
    """The best trial's config.yaml, with its references."""
    if not this.ranked:
        return ""
    path = folder / "trials" / str(this.ranked[0].number) / files.CONFIG
    try:
        config = documents.config(path.read_bytes(), str(path))
    except (OSError, documents.NotWritten):
        return ""
    plain = page.unveiled(OmegaConf.to_container(config, resolve=False))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return page.folded(f"config.yaml of trial {this.ranked[0].number}", text)
