"""A run without the price of a process: composed, checked and trained as train.py does."""

import contextlib
import io
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alphard.compose import compose, must_be_sound
from alphard.run import Result, run, settings_of
from tests.conftest import ROOT


def config_of(*overrides: str) -> DictConfig:
    """The config of `python train.py OVERRIDES`, checked."""
    config = compose(ROOT / "configs", overrides)
    must_be_sound(config)
    return config


def run_here(folder: Path, *overrides: str, **given: Any) -> Result:
    """Train in this process, its output thrown away; `given` goes to run()."""
    config = config_of("threads=1", *overrides)
    with contextlib.redirect_stdout(io.StringIO()):
        return run(config, str(folder), **given, **settings_of(config))
