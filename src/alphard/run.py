"""One training run: a config in, a Result out; where it is written, and whether it is there already."""

import inspect
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alphard import ranks, unpatched  # noqa: F401  before Lightning, for what they do

# isort: split

import torch
from omegaconf import DictConfig, OmegaConf

from alphard import artifacts, build, documents, locking
from alphard.checkpoint import Store
from alphard.copies import made
from alphard.errors import UserError
from alphard.mlflow_store import Place
from alphard.objective import Listener, Reporter
from alphard.probe import Probe
from alphard.progress import conclude
from alphard.quiet import quiet
from alphard.resume import Checkpoints, Resume
from alphard.storage import Folder, kind_of
from alphard.training import Result, Training
from alphard.types import Count, NonNegative, Positive, Seed, Whole

THREADS = torch.get_num_threads()  # torch's own choice, before a run makes another
GROUPS = {"data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger"}


def run(
    config: DictConfig,
    home: str,
    listeners: tuple[Listener, ...] = (),
    lean: bool = False,
    place: Place | None = None,
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
    baselines: bool = False,
    output_dir: str | None = None,
    resume: Resume = "auto",
    checkpoint_seconds: NonNegative | None = 5.0,
    overwrite: bool = False,
    debug: bool = False,
) -> Result:
    """Train what `config` says, and leave its artifacts in one folder.

    The keyword-only parameters are the settings at the config's root; check.py holds the config against them.

    home:         the folder where neither `output_dir` nor AIP_MODEL_DIR names one.
    listeners:    called with step (from 1) and objective after each validation; for a finished run, once.  One that
                  returns True ends the run, by Pruned.
    lean:         a trial of many: without plots and without the full report.
    place:        where the run stands among others, for loggers that keep several.
    epochs:       at most.
    patience:     epochs without a better validation_loss before training stops.
    min_delta:    what counts as better, in nats.
    threads:      CPU threads of torch; None keeps what torch chose, and writes that number into the config.
    score_test:   open the test split once, at the end.
    baselines:    score scikit-learn's plain models on the same split as well.
    output_dir:   folder or URL.
    resume:       whether an unfinished run of this config goes on from its last checkpoint, where it has one.
    checkpoint_seconds: at least so many between two; 0 is after each step, None never.

    Raises UserError before the first optimizer step for what the user can mend, TrainingError for a run that
    diverged or could not be written, Interrupted for SIGINT and SIGTERM, then with the artifacts of the best weights.
    """
    torch.set_num_threads(threads or THREADS)
    OmegaConf.update(config, "threads", torch.get_num_threads(), force_add=True)
    folder = _folder(output_dir, home)
    reporter = Reporter(objective, not sys.stdout.isatty(), listeners)
    logs = None if lean else _logs(config, folder)
    with environment_kept(), quiet(), made(folder) as here, made(logs) if logs else nullcontext() as there:
        checkpoints = Checkpoints(Store(_checkpoints(folder)), config, resume, checkpoint_seconds)

        def parts() -> Training:
            spare = None if lean else Path(home)
            return Training(
                config, folder, here.local, reporter, score_test, baselines, lean, there, place, checkpoints, spare
            )

        if not ranks.first():  # this process trains with the first, which tells the rest
            # On another machine nobody has looked yet: what is finished there waits for no one.
            if not ranks.local() and artifacts.finished(folder, config, overwrite) is not None:
                return Result({}, folder.path)
            return parts().follow()
        reporter.must_be_heard()
        done = artifacts.finished(folder, config, overwrite)
        if done is None or artifacts.lacking(done, score_test, baselines):
            for each in (folder, logs, _checkpoint_dir(folder)):
                if each:
                    each.must_be_writable()
            kept = checkpoints.store.folder
            if kept.local is not None and kind_of(kept.path, kept.at) not in (None, "folder"):
                raise UserError(f"{kept.at}: {kept.path} is a file, and checkpoints go there; move it away")
            with locking.alone_in(folder):
                done = artifacts.finished(folder, config, overwrite)  # another run may have ended meanwhile
                if done is None:
                    checkpoints.find(overwrite)
                    if checkpoints.state or (not overwrite and artifacts.begun(folder)):
                        reporter.go_on()
                    return parts().train()
                if lacking := artifacts.lacking(done, score_test, baselines):
                    done = parts().complete(done, lacking)
        checkpoints.leave_none()
        print(f"{folder.path} holds this config's finished run; overwrite=true trains it again")
        with documents.judged(folder.uri(artifacts.METRICS), "a run", documents.TRAIN):
            conclude(done, folder)
            reporter.go_on()
            reporter.again({name: done[name] for name in done["logged"]}, done["stopped_epoch"])
        return Result(done, folder.path)


def probe(config: DictConfig, threads: int, objective: str) -> None:
    """Raise what `run` would before the first step; writes nothing."""
    torch.set_num_threads(threads)
    with environment_kept(), quiet(), tempfile.TemporaryDirectory(prefix="alphard-") as scratch:
        Probe(config, Folder(scratch), Path(scratch), Reporter(objective, False), lean=True).probe()


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


def _folder(output_dir: str | None, home: str) -> Folder:
    clouds = os.environ.get("AIP_MODEL_DIR")
    path = output_dir or clouds or home
    # A job of a multirun is given a folder in the cloud's as its output_dir.
    return Folder(path, "output_dir" if _below(clouds, path) is None else "AIP_MODEL_DIR")


def _logs(config: DictConfig, folder: Folder) -> Folder | None:
    """Where a cloud wants loggers to write that name no folder; a multirun's jobs apart, as their own folders are."""
    path = os.environ.get("AIP_TENSORBOARD_LOG_DIR")
    if not path or not build.logs_here(config):
        return None
    below = _below(os.environ.get("AIP_MODEL_DIR"), folder.path)
    return Folder(f"{path.rstrip('/')}{below or ''}", "AIP_TENSORBOARD_LOG_DIR")


def _checkpoint_dir(folder: Folder) -> Folder | None:
    """Where a cloud wants checkpoints; those of a multirun's jobs and of a search's trials apart."""
    path = os.environ.get("AIP_CHECKPOINT_DIR")
    if not path:
        return None
    below = _below(os.environ.get("AIP_MODEL_DIR"), folder.path)
    if below is None:
        trial = re.search(r"/trials/[0-9]+$", folder.path)
        below = trial[0] if trial else ""
    return Folder(f"{path.rstrip('/')}{below}", "AIP_CHECKPOINT_DIR")


def _checkpoints(folder: Folder) -> Folder:
    return _checkpoint_dir(folder) or Folder(f"{folder.path}/checkpoints", folder.at)


def _below(parent: str | None, path: str) -> str | None:
    """What of `path` comes after `parent`, from a slash on; None where it lies elsewhere."""
    whole, inner = f"{(parent or '').rstrip('/')}/", f"{path.rstrip('/')}/"
    return inner[len(whole) - 1 : -1] if parent and inner.startswith(whole) else None
