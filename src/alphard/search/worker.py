"""A process that trains one trial after another, started by local.py with the number of an open socket.

The imports are paid once.  It ends with the process that started it.
"""

import contextlib
import gc
import os
import select
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from alphard import imported
from alphard.errors import UserError, masked
from alphard.mlflow_store import Place
from alphard.search.configs import Configs
from alphard.search.settings import Settings
from alphard.search.space import Space

Listener = Callable[[int, float], bool]


@dataclass
class Setup:
    """What holds for all trials of a study; sent once."""

    configs: Configs
    space: Space
    settings: Settings
    folder: Path


@dataclass
class Job:
    """A trial to train.  place: where its run stands among others, for loggers that keep several."""

    number: int
    chosen: dict[str, Any]
    threads: int
    place: Place | None = None


@dataclass
class Probe:
    """One config to try without training; and, where `whole`, the space to check before, and to answer for."""

    threads: int
    whole: bool


@dataclass
class Ready:
    """The process has imported what it needs, and takes trials."""


@dataclass
class Report:
    """An epoch's value; answered by whether the trial ends here."""

    step: int
    value: float


@dataclass
class Done:
    """How a trial ended, and what a table shows of it.  error: what it raised."""

    value: float | None
    pruned: bool
    error: str | None
    about: dict[str, Any]


def main() -> None:
    """Train what the other end of the socket sends until it sends no more."""
    with begun() as (parent, setup):

        def listen(step: int, value: float) -> bool:
            parent.send(Report(step, value))
            return bool(parent.recv())

        while True:
            job: Job | Probe = parent.recv()
            done = try_(setup, job, listen)
            if isinstance(job, Job):
                freeze()
            if isinstance(job, Job) or job.whole:
                parent.send(done)


@contextlib.contextmanager
def begun() -> Iterator[tuple[Connection, Setup]]:
    """The process as a worker: the other end of its socket, and what it is told first."""
    with Connection(int(sys.argv[1])) as parent:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        setup: Setup = parent.recv()
        with imported.for_good():  # torch and Lightning, once
            import alphard.run  # noqa: F401  first, for it imports them faster
            from alphard.objective import WATCHED

        for name in WATCHED:  # a trial reports to the search alone
            os.environ.pop(name, None)
        parent.send(Ready())
        yield parent, setup


@cache
def freeze() -> None:
    """What a first trial has loaded stays; looked through again and again it costs each trial 10 ms."""
    gc.collect()
    gc.freeze()


def try_(setup: Setup, job: Job | Probe, listen: Listener) -> Done:
    """Do the job, or say what was raised; only the process's own death says nothing."""
    from alphard.errors import Pruned

    began, steps = time.perf_counter(), [0]

    def hear(step: int, value: float) -> bool:
        steps.append(step)
        return listen(step, value)

    done = Done(None, False, None, {})
    try:
        if isinstance(job, Probe):
            with warnings.catch_warnings(record=True) as heard:
                _probe(setup, job)
            done.about["warnings"] = [str(each.message) for each in heard if each.category is UserWarning]
        else:
            done.value, done.about = _train(setup, job, hear)
    except Pruned:
        done.pruned = True
    except Exception as error:  # whatever a user's own code and the libraries raise is this trial's alone
        if isinstance(job, Job) and not isinstance(error, UserError):
            write_down(setup.folder / "trials" / str(job.number))
        done.error = said(error)
    done.about = {"stopped_epoch": steps[-1], "seconds": round(time.perf_counter() - began, 3)} | done.about
    return done


def _train(setup: Setup, job: Job, listen: Listener) -> tuple[float, dict[str, Any]]:
    from alphard.run import run, settings_of

    config = setup.configs.trial(setup.space, job.chosen)
    home = str(setup.folder / "trials" / str(job.number))
    settings = settings_of(config) | {"threads": job.threads, "score_test": False, "output_dir": home}
    metrics = run(config, home, (listen,), lean=True, place=job.place, **settings).metrics
    about = {"stopped_epoch": metrics["stopped_epoch"]}
    about |= {name: metrics[name] for name in ("best_epoch", "val_rows") if metrics.get(name) is not None}
    return float(metrics[config.objective]), about


def _probe(setup: Setup, job: Probe) -> None:
    """What every trial would fail by, before the first: the config, the space, the data, the objective's name."""
    from alphard.compose import must_be_sound
    from alphard.run import probe
    from alphard.search import checking

    config = setup.configs.trial(setup.space, {})
    if job.whole:
        checking.check(setup.space, setup.settings, setup.configs, config)
    else:
        must_be_sound(config)
    probe(config, job.threads, config.objective)


def said(error: Exception) -> str:
    """An error as a table shows it."""
    return masked(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")


def write_down(home: Path) -> None:
    """The error being handled, where the trial's own words are."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "training.log").open("a", encoding="utf-8") as log:
        log.write(masked(traceback.format_exc()))


def _end_with(parent: Connection) -> None:
    """End this process at once when the other end of its connection is gone."""
    poll = select.poll()
    poll.register(parent.fileno(), 0)  # asks for nothing, and is told of a hang-up all the same
    poll.poll()
    os._exit(1)
