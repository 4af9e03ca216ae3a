"""Hydra's own multirun: where each job's artifacts go, and one table of all jobs at the end."""

import atexit
import os
import re
import sys
from argparse import Namespace
from itertools import pairwise
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig


def folder_of_job(output_dir: str | None) -> str | None:
    """`output_dir` or AIP_MODEL_DIR, which in a multirun name the parent: no two jobs share a folder."""
    parent = output_dir or os.environ.get("AIP_MODEL_DIR")
    if parent is None or not in_multirun():
        return output_dir
    return f"{parent.rstrip('/')}/trials/{HydraConfig.get().job.num}"


def searches(line: Namespace) -> bool:
    """Whether a command line chooses a search, rather than showing what that would be."""
    shows = any(getattr(line, flag, None) for flag in ("cfg", "info", "help", "hydra_help", "shell_completion"))
    return not shows and any(re.fullmatch(r"\+{0,2}search=(?!null$).+", word) for word in line.overrides)


def in_multirun() -> bool:
    """Whether this job is one of several."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def speak_for_one_job(arguments: list[str]) -> list[str]:
    """The command line of this job alone, for the processes that Lightning starts again from sys.argv."""
    flags = [
        word
        for before, word in pairwise(["", *arguments])
        if re.match(r"--config-|-c[pnd]", word) or (re.match(r"--config-|-c[pnd]", before) and "=" not in before)
    ]
    return [sys.argv[0], *flags, *HydraConfig.get().overrides.task]


class Summary(Callback):
    """Prints each job's swept values and metrics; jobs in other processes (a launcher plugin) speak for themselves."""

    def __init__(self) -> None:
        self.jobs: list[tuple[dict[str, str], Any]] = []
        self.swept: set[str] = set()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        atexit.register(self.conclude)  # a signal ends Hydra's multirun before it comes to its end
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        self.swept = {str(each.input_line).partition("=")[0] for each in overrides if each.is_sweep_override()}

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        if isinstance(job_return._return_value, dict) and "stopped_epoch" not in job_return._return_value:
            return  # a machine that trained with another, which tells the result
        said = dict(str(text).partition("=")[::2] for text in config.hydra.overrides.task)
        self.jobs.append((said, job_return))
        if in_multirun() and job_return._return_value is None:  # train.py has told the error
            values = " ".join(f"{key}={value}" for key, value in said.items() if key in self.swept)
            print(f"  in job {config.hydra.job.num} ({values})", file=sys.stderr, flush=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        atexit.unregister(self.conclude)
        self.conclude()

    def conclude(self) -> None:
        """Print the table of the jobs that have ended."""
        from rich.table import Table

        from alphard import tables

        if not self.jobs:
            return
        keys = dict.fromkeys(key for said, _ in self.jobs for key in said)
        swept = [key for key in keys if key in self.swept or len({said.get(key) for said, _ in self.jobs}) > 1]
        names = ["validation_loss", "validation_accuracy"]
        objective = self.jobs[0][1].cfg.get("objective")
        table = Table("job", *swept, *(names if objective in names else [*names, objective]), "epochs")
        parent = ""
        for number, (said, done) in enumerate(self.jobs):
            result = done._return_value  # `return_value` would raise what the job raised
            row = [str(number), *(said.get(key, "") for key in swept)]
            if isinstance(result, dict):
                shown = [result.get(str(column.header)) for column in table.columns[1 + len(swept) : -1]]
                row += ["" if value is None else f"{value:.6f}" for value in shown]
                row += [str(result["stopped_epoch"])]
                parent = str(result["folder"]).rpartition("/")[0]
            else:
                row += ["failed", *[""] * (len(table.columns) - len(row) - 1)]
            table.add_row(*row)
        tables.show(table)
        if parent:
            print(f"artifacts: {parent}/<job>")
