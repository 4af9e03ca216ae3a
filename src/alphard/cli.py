"""The `alphard` command: what comes before and after training.

    alphard SUBCOMMAND [PATH …] [key=value …]

Each subcommand's code is imported only when it is called.
"""

import importlib
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from alphard import __version__, signals
from alphard.errors import Interrupted, UserError

# name: (module, what it does, an example that works).  The module has `main(arguments) -> int`.
SUBCOMMANDS = {
    "new": (
        "alphard.new_command",
        "look at a file of rows, and write the experiment that trains on it, with reasons",
        "alphard new rows.csv target=Survived name=mine",
    ),
    "check": (
        "alphard.check_command",
        "check a config whole, without training",
        "alphard check data=breast_cancer epochs=5",
    ),
    "results": (
        "alphard.search.results_command",
        "show what a search found, here or on Vertex AI: a sorted table, trials.csv, the best as an experiment",
        "alphard results studies/mlp",
    ),
    "retrain": (
        "alphard.search.retrain_command",
        "train a search's best on fresh seeds, then open the test split once",
        "alphard retrain studies/mlp seeds=5",
    ),
    "image": (
        "vertex_ai.image_command",
        "build the container's image by docker or podman, tagged with the git revision, and push it",
        "alphard image build image=europe-west4-docker.pkg.dev/my-project/my-repository/alphard",
    ),
    "rehearse": (
        "vertex_ai.rehearse_command",
        "run the job that submit would send, here and for nothing, and say whether it is ready",
        "alphard rehearse experiment=mine search=mlp search.trials=4",
    ),
    "submit": (
        "vertex_ai.submit_command",
        "a training, or its search, as a job on Vertex AI; dry_run=true prints it for gcloud",
        "alphard submit experiment=titanic_lesson search=titanic_lesson train=gs://… val=gs://… dry_run=true",
    ),
    "wait": (
        "vertex_ai.wait_command",
        "follow a job of Vertex AI to its end; Ctrl-C leaves it running",
        "alphard wait projects/my-project/locations/europe-west4/hyperparameterTuningJobs/123",
    ),
    "cancel": (
        "vertex_ai.cancel_command",
        "end a job of Vertex AI; what its finished trials left is kept",
        "alphard cancel projects/my-project/locations/europe-west4/hyperparameterTuningJobs/123",
    ),
}

# What is asked of a job in the cloud, which a word gives by its name or by its folder's URL.
OF_JOBS = {"results": "vertex_ai.results_command"}
JOB = re.compile(r"projects/[^/]+/locations/|(?!file:)[a-z][a-z0-9+.-]*://")


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
    return status


def usage() -> str:
    """The list of subcommands, each with an example."""
    lines = ["usage: alphard SUBCOMMAND [PATH …] [key=value …]", ""]
    for name, (_, does, example) in SUBCOMMANDS.items():
        lines += [f"  {name:<10}{does}", f"  {'':<10}$ {example}"]
    lines += ["", "Training itself is `python train.py`; its --help shows the config."]
    return "\n".join(lines)
