"""`alphard results`: a study's sorted table, trials.csv, and its best trial."""

from collections.abc import Sequence
from pathlib import Path

from alphard.errors import UserError
from alphard.search import report, results


def main(arguments: Sequence[str]) -> int:
    """Show the study in the folder given."""
    if len(arguments) != 1:
        raise UserError(f"alphard results: {' '.join(arguments) or 'no argument'}: give one study, studies/NAME")
    folder = Path(arguments[0].rstrip("/"))
    report.show(folder, *results.rows(folder))
    return 0
