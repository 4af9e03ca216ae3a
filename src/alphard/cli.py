"""The `alphard` command: what comes before and after training.

    alphard SUBCOMMAND [PATH …] [key=value …]

Each subcommand's code is imported only when it is called.
"""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from alphard import __version__, signals
from alphard.errors import Interrupted, UserError

# name: (module, what it does, an example that works).  The module has `main(arguments) -> int`.
SUBCOMMANDS = {
    "check": (
        "alphard.check_command",
        "check a config whole, without training",
        "alphard check data=breast_cancer epochs=5",
    ),
    "results": (
        "alphard.search.results_command",
        "show what a search found: a sorted table, trials.csv, the best as an experiment",
        "alphard results studies/mlp",
    ),
    "retrain": (
        "alphard.search.retrain_command",
        "train a search's best on fresh seeds, then open the test split once",
        "alphard retrain studies/mlp seeds=5",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
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
    module, does, example = SUBCOMMANDS[name]
    if {"-h", "--help"} & {*rest}:
        print(f"alphard {name}: {does}\n\n  {example}")
        return 0
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
    return status


def usage() -> str:
    """The list of subcommands, each with an example."""
    lines = ["usage: alphard SUBCOMMAND [PATH …] [key=value …]", ""]
    for name, (_, does, example) in SUBCOMMANDS.items():
        lines += [f"  {name:<10}{does}", f"  {'':<10}$ {example}"]
    lines += ["", "Training itself is `python train.py`; its --help shows the config."]
    return "\n".join(lines)
