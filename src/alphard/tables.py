"""Tables on stdout."""

import io
import sys

from rich.console import Console
from rich.table import Table

from alphard.errors import plain


def show(table: Table) -> None:
    """Print a table as wide as its content: a cell cut short is of no use in a log.  Brackets in it are no markup."""
    text = io.StringIO()
    console = Console(file=text, highlight=False, markup=False, width=10_000, force_terminal=False)
    console.print(table)
    sys.stdout.write(plain(text.getvalue()))
