"""What people see of a study: its sorted table, trials.csv, the winner, and how to go on."""

from pathlib import Path
from typing import Any

from rich.table import Table

from alphard import tables
from alphard.search import results, winner
from alphard.storage import Folder

CSV = "trials.csv"


def show(folder: Path, most: int | None = None) -> None:
    """Print the study's table, `most` rows of it, and leave trials.csv and the winner's experiment in its folder."""
    said, rows, columns = results.rows(folder)
    objective = said["search"]["objective"]
    shown = [name for name in columns if name not in ("near_best", "error")]
    table = Table(*shown)
    for row in rows[:most]:
        table.add_row(*(_cell(row, name, objective) for name in shown))
    tables.show(table)
    if most is not None and len(rows) > most:
        print(f"… and {len(rows) - most} more: alphard results {folder}")
    near = sum(bool(row["near_best"]) for row in rows) - 1
    if near > 0:
        print(f"* {near} more within the noise of the best, one binomial standard error of its validation rows")
    counts = ", ".join(f"{n} {state}" for state, n in results.counts(row["state"] for row in rows).items())
    print(f"trials: {len(rows)} ({counts})")
    errors = [row for row in rows if row["state"] == "fail"]
    for row in errors[:3]:
        print(f"  trial {row['trial']}: {row['error'].splitlines()[0]}")
    Folder(str(folder)).write(CSV, results.csv_text(rows, columns).encode())
    print(f"table: {folder / CSV}")
    if rows and rows[0]["state"] == "complete":
        _winner(folder, said, rows[0])


def write_winner(folder: Path, said: dict[str, Any], best: results.Row) -> None:
    """Write the best trial's experiment."""
    number, objective = best["trial"], said["search"]["objective"]
    searched = [name for name in best if name not in results.OTHERS and name != objective and best[name] is not None]
    says = f"trial {number}: {objective} {best[objective]:.6f}"
    winner.write(folder, number, results.configs_of(said, best), searched, says)


def _winner(folder: Path, said: dict[str, Any], best: results.Row) -> None:
    number, objective = best["trial"], said["search"]["objective"]
    write_winner(folder, said, best)
    print(f"best: trial {number}, {folder / 'trials' / str(number)}")
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
