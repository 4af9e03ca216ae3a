"""The `alphard` command: what comes before and after training.

    alphard SUBCOMMAND [PATH …] [key=value …]

Each subcommand's code is imported only when it is called.
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from alphard import __version__, signals
from alphard.errors import Interrupted, UserError, unforeseen
from alphard.subcommands import SUBCOMMANDS, help_of, usage

ASKED = "_ARGCOMPLETE"  # a shell sets it when Tab is pressed
# What is asked of a job in the cloud, which a word gives by its name or by its folder's URL.
OF_JOBS = {"results": "vertex_ai.results_command"}
JOB = re.compile(r"projects/[^/]+/locations/|(?!file:)[a-z][a-z0-9+.-]*://")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    if ASKED in os.environ:
        from alphard import completion

        completion.answer()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("", "-h", "--help", "help"):
        print(usage())
        return 0 if name else 2
    if name in ("-V", "--version", "version"):
        print(f"alphard {__version__}")
        return 0
    if name not in SUBCOMMANDS:
        near = get_close_matches(name, SUBCOMMANDS, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else "; alphard --help lists them"
        print(f"error: alphard has no subcommand {name}{hint}", file=sys.stderr)
        return 2
    if {"-h", "--help"} & {*rest}:
        print(help_of(name))
        return 0
    module = SUBCOMMANDS[name].module
    if any(map(JOB.match, rest)):
        module = OF_JOBS.get(name, module)
    return call(module, rest)


def call(module: str, arguments: Sequence[str]) -> int:
    """A subcommand's own main, its errors told as train.py tells them."""
    signals.listen()
    try:
        status: int = importlib.import_module(module).main(arguments)
    except UserError as error:
        print(error.paragraph(), file=sys.stderr)
        return error.status
    except Interrupted as stop:
        print(f"stopped by {stop}", file=sys.stderr)
        return stop.status
    except Exception as error:  # what was not foreseen is one line all the same
        print(unforeseen(error), file=sys.stderr)
        return 1
    return status
