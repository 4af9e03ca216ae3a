"""One training run: a config in, a Result out; where it is written, and whether it is there already."""

import inspect
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphard import ranks  # isort: split

import torch
from omegaconf import DictConfig, OmegaConf

from alphard import artifacts, locking
from alphard.objective import Listener, Reporter
from alphard.progress import conclude
from alphard.quiet import quiet
from alphard.storage import Folder
from alphard.training import Probe, Result, Training
from alphard.types import Count, NonNegative, Positive, Seed, Whole

THREADS = torch.get_num_threads()  # torch's own choice, before a run makes another
GROUPS = {"data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger"}


def run(
    config: DictConfig,
    home: str,
    listeners: tuple[Listener, ...] = (),
    lean: bool = False,
    *,
    seed: Seed,
    epochs: Count,
    batch_size: Count | None,
    learning_rate: Positive,
    weight_decay: NonNegative,
    patience: Whole,
    min_delta: NonNegative,
    restore_best: bool,
    threads: Count | None = None,
    objective: str = "validation_accuracy",
    score_test: bool = False,
    output_dir: str | None = None,
    overwrite: bool = False,
    debug: bool = False,
) -> Result:
    """Train what `config` says, and leave its artifacts in one folder.

    The keyword-only parameters are the settings at the config's root; check.py holds the config against them.

    home:         the folder where neither `output_dir` nor AIP_MODEL_DIR names one.
    listeners:    called with step (from 1) and objective after each validation; for a finished run, once.  One that
                  returns True ends the run, by Pruned.
    lean:         a trial of many: without plots and without the full report.
    epochs:       at most.
    patience:     epochs without a better validation_loss before training stops.
    min_delta:    what counts as better, in nats.
    threads:      CPU threads of torch; None keeps what torch chose, and writes that number into the config.
    score_test:   open the test split once, at the end.
    output_dir:   folder or URL.

    Raises UserError before the first optimizer step for what the user can mend, TrainingError for a run that
    diverged or could not be written, Interrupted for SIGINT and SIGTERM, then with the artifacts of the best weights.
    """
    torch.set_num_threads(threads or THREADS)
    OmegaConf.update(config, "threads", torch.get_num_threads(), force_add=True)
    folder = _folder(output_dir, home)
    reporter = Reporter(objective, not sys.stdout.isatty(), listeners)
    with environment_kept(), quiet(), _scratch(folder) as local:

        def parts() -> Training:
            return Training(config, folder, local, reporter, score_test, lean)

        if ranks.local():  # Lightning started this process to train with rank 0, which tells the rest
            return parts().follow()
        reporter.must_be_heard()
        done = artifacts.finished(folder, config, overwrite)
        if done is None or (score_test and not artifacts.opened(done)):
            folder.must_be_writable()
            with locking.alone_in(folder):
                done = artifacts.finished(folder, config, overwrite)  # another run may have ended meanwhile
                if done is None:
                    return parts().train()
                if score_test and not artifacts.opened(done):
                    done = parts().open_test(done)
        print(f"{folder.path} holds this config's finished run; overwrite=true trains it again")
        conclude(done, folder)
        reporter.again({name: done[name] for name in done["logged"]}, done["stopped_epoch"])
        return Result(done, folder.path)


def probe(config: DictConfig, threads: int, objective: str) -> None:
    """Raise what `run` would before the first step; writes nothing."""
    torch.set_num_threads(threads)
    with environment_kept(), quiet(), tempfile.TemporaryDirectory(prefix="alphard-") as scratch:
        Probe(config, Folder(scratch), Path(scratch), Reporter(objective, False)).probe()


def settings_of(config: DictConfig) -> dict[str, Any]:
    """The keyword arguments of `run` that stand at the config's root."""
    return {name: config[name] for name in inspect.signature(run).parameters if name in config}


@contextmanager
def environment_kept() -> Iterator[None]:
    """Undo what Lightning leaves in the environment, which would tell a next run that it is rank 0 of this one.

    Inside, Slurm is out of Lightning's sight, which would go on from any hpc_ckpt_N.ckpt and requeue the job.
    """
    before = dict(os.environ)
    if "SLURM_NTASKS" in os.environ:
        os.environ["SLURM_JOB_NAME"] = "interactive"  # Lightning's own word for it
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _scratch(folder: Folder) -> Iterator[Path]:
    """Where files are made: in the folder itself, or for one elsewhere, in one that is removed."""
    if folder.local is not None:
        yield folder.local
        return
    with tempfile.TemporaryDirectory(prefix="alphard-") as scratch:
        yield Path(scratch)


def _folder(output_dir: str | None, home: str) -> Folder:
    clouds = os.environ.get("AIP_MODEL_DIR")
    path = output_dir or clouds or home
    # A job of a multirun is given a folder in the cloud's as its output_dir.
    in_clouds = clouds is not None and f"{path}/".startswith(f"{clouds.rstrip('/')}/")
    return Folder(path, "AIP_MODEL_DIR" if clouds and in_clouds else "output_dir")
