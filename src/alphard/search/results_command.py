"""`alphard results`: a study's sorted table, trials.csv, report.html and best trial; or a run's scores and report."""

from collections.abc import Sequence
from pathlib import Path

from alphard.errors import UserError
from alphard.search import report, results
from alphard.storage import kind_of


def main(arguments: Sequence[str]) -> int:
    """Show the study, or the run, in the folder given."""
    if len(arguments) != 1 or not arguments[0]:
        said = " ".join(arguments) or "no argument"
        raise UserError(f"alphard results: {said}: give one study, studies/NAME, or one run's folder")
    folder = Path(arguments[0].rstrip("/") or "/")
    if kind_of(str(folder), "alphard results") == "file":
        raise UserError(f"alphard results: {folder} is a file; give the folder of a study, or of a run")
    if kind_of(str(folder / results.ABOUT), "alphard results") != "file":
        from alphard import run_page
        from alphard.storage import Folder

        run = Folder(str(folder), "alphard results")
        if run_page.holds_run(run):
            run_page.show(run)
            return 0
    report.show_whole(folder)
    return 0
