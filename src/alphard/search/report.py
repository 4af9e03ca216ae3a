"""What people see of a study: its sorted table, trials.csv, report.html, the winner, and how to go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from rich.table import Table

from alphard import documents, page, tables
from alphard.errors import UserError
from alphard.refusals import Refusals, first_line
from alphard.search import results, winner
from alphard.storage import Folder

CSV = "trials.csv"
MOST = 200  # rows that are printed: laying out 10,000 takes half a minute, and nobody reads them


def show_whole(folder: Path) -> None:
    """Print the table of the study in `folder`, and leave trials.csv, report.html and the winner's experiment."""
    said, trials = results.load(folder)
    with documents.judged(str(folder), "a search", results.RESTORE):
        show(folder, said, *results.sorted_rows(said, trials), trials=trials)


def show(
    folder: Path,
    said: dict[str, Any],
    rows: list[results.Row],
    columns: list[str],
    most: int = MOST,
    trials: Sequence[FrozenTrial] | None = None,
    there: str | None = None,
) -> None:
    """Print a study's table, `most` rows of it, and leave trials.csv and the winner's experiment in its folder.

    trials: what report.html is drawn of; None draws none, and says how.
    there:  what people know the folder by, where that is elsewhere and `folder` a copy.
    """
    place = there or str(folder)
    objective = said["search"]["objective"]
    shown = [name for name in columns if name not in ("near_best", "error")]
    table = Table(*shown)
    for row in rows[:most]:
        table.add_row(*(_cell(row, name, objective) for name in shown))
    tables.show(table)
    if len(rows) > most:
        where = f"alphard results {place}" if trials is None else f"{place}/{CSV}"
        print(f"… and {len(rows) - most} more: {where}")
    near = sum(bool(row["near_best"]) for row in rows) - 1
    if near > 0:
        print(f"* {near} more within the noise of the best, one binomial standard error of its validation rows")
    counts = ", ".join(f"{n} {state}" for state, n in results.counts(row["state"] for row in rows).items())
    print(f"trials: {len(rows)} ({counts})")
    errors = [row for row in rows if row["state"] == "failed"]
    for row in errors[:3]:
        print(f"  trial {row['trial']}: {row['error'].splitlines()[0]}")
    if errors:
        print(f"  what they printed: {place}/trials/<trial>/training.log")
    drawn = None
    if trials is not None and page.drawable():
        from alphard.search import study_page  # a second of imports

        drawn = study_page.write(folder, said, trials, rows, columns)  # which may find that nobody wrote this study
    Folder(str(folder)).write(CSV, results.csv_text(rows, columns).encode())
    print(f"table: {place}/{CSV}")
    if trials is None:
        print(f"report: alphard results {place} draws it")
    else:
        print(page.UNDRAWN if drawn is None else f"report: {drawn}")
    if rows and rows[0]["state"] == "complete":
        _winner(folder, said, rows[0], there)


def write_winner(folder: Path, said: dict[str, Any], best: results.Row) -> None:
    """Write the best trial's experiment."""
    objective = said["search"]["objective"]
    chosen = {k: v for k, v in best.items() if k not in results.OTHERS and k != objective and v is not None}
    try:
        winner.write(folder, said, best["trial"], chosen, f"trial {best['trial']}: {objective} {best[objective]:.6f}")
    except Refusals as error:  # the project's configs are others now, or study.yaml is
        where = f"{folder / results.ABOUT}: its configs do not compose here: {first_line(error)}"
        raise UserError(f"{where[:600]}; restore them, or the file") from None


def _winner(folder: Path, said: dict[str, Any], best: results.Row, there: str | None) -> None:
    number, objective = best["trial"], said["search"]["objective"]
    write_winner(folder, said, best)
    print(f"best: trial {number}, {there or folder}/trials/{number}")
    if there:
        print(f"  alphard results {there}    brings the study here, to repeat and retrain it")
    else:
        print(f"  python train.py --config-dir {folder} experiment={winner.name_of(folder)}    repeats it")
        print(f"  alphard retrain {folder} seeds=5    trains it on fresh seeds, then opens the test split")
    print(f"{objective}: {best[objective]:.6f}", flush=True)


def _cell(row: dict[str, Any], name: str, objective: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if name == objective:
        return f"{value:.6f}{' *' if row['near_best'] else ''}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
