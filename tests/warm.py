"""What the forks of conftest.py's run_train start from, and what they do."""

import gc
import os
import runpy
import sys
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import optuna  # noqa: F401
import pandas  # noqa: F401
import pytorch_lightning  # noqa: F401
import sklearn.datasets
import sklearn.preprocessing  # noqa: F401
import skops.io  # noqa: F401
import torchmetrics  # noqa: F401
from hydra.core.override_parser.overrides_parser import OverridesParser

import alphard.run
import alphard.search.command  # noqa: F401
from alphard import plots
from alphard.history import History

# What a first picture and a first override load and build, each fork would anew.
plots.learning_curves(History())
plots.confusion_matrix([[1, 2], [3, 4]], ["no", "yes"])
OverridesParser.create().parse_overrides(["a.b=1e-3", "+c=[x,'y z',{d:null}]", "~e", "f/g@h=choice(1,i)", "j=${k.l}"])


def run_forked(script: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str], said: str) -> None:
    """Become `python SCRIPT ARGUMENTS` in `folder`, with stdout and stderr in files of the folder `said`."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(said, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    gc.freeze()  # nothing that was imported is looked at again, so its memory stays one for all
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
