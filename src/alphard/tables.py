"""Tables on stdout."""

import sys

from rich.console import Console
from rich.table import Table


def show(table: Table) -> None:
    """Print a table as wide as its content: a cell cut short is of no use in a log."""
    console = Console(file=sys.stdout, highlight=False, width=10_000, force_terminal=False)
    console.print(table)
