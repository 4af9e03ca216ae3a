"""Hydra entry point: looks at the arguments, lets Hydra compose, checks the whole config, and trains.

The heavy imports wait until a config is there: --help, --cfg and tab completion load no torch.
"""

import os
import signal
import sys
import traceback
from argparse import Namespace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alphard import arguments, foreign, guard, hydra_seam, imported, multirun, signals
from alphard.errors import Interrupted, UserError, masked, unforeseen

CONFIGS = Path(__file__).parent / "configs"
# A run's own config.yaml has no hydra node; these are what config.yaml in configs/ says of it.
OF_A_RUN = ["hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none"]
OF_A_RUN += ["hydra.sweep.subdir=trials/${hydra.job.num}"]


# Exit statuses of the jobs that failed: in a multirun the others go on.
failed: list[int] = []


@hydra_seam.main(config_path="configs", config_name="config")
def job(config: DictConfig) -> dict[str, Any] | None:
    """One run.  Its error is told here, for Hydra would add a traceback of its own."""
    try:
        return train(config)
    except Exception as error:
        stop = stopped(error)
        if stop is not None:
            raise stop from None
        tell(error, bool(config.get("debug")))
        failed.append(status_of(error))
        return None


def train(config: DictConfig) -> dict[str, Any]:
    """Check, then run; leaves no empty folder behind where the check fails."""
    from hydra.core.hydra_config import HydraConfig

    home = HydraConfig.get().runtime.output_dir
    line = sys.argv
    try:
        with imported.for_good():
            from alphard.compose import must_be_sound
            from alphard.run import run, settings_of

        must_be_sound(config)
        settings = settings_of(config)
        settings["output_dir"] = multirun.folder_of_job(settings.get("output_dir"))
        if multirun.in_multirun():
            sys.argv = multirun.speak_for_one_job(line)
        result = run(config, home, **settings)
    finally:
        sys.argv = line
        drop_empty(Path(home))
    return result.metrics | {"folder": result.folder}


def drop_empty(folder: Path) -> None:
    """Remove the folder that Hydra made for a run that wrote elsewhere or nowhere, and its parents if empty."""
    for path in (folder, *folder.parents[:2]):
        try:
            path.rmdir()
        except OSError:
            return


def stopped(error: BaseException) -> Interrupted | None:
    """The signal behind an error: an import of numpy's that one cuts short ends in errors of its own."""
    if isinstance(error, Interrupted):
        return error
    # The handler is ours until it has been called.
    return next((Interrupted(n) for n in signals.ENDING if signal.getsignal(n) == signal.SIG_DFL), None)


def in_our_words(error: BaseException, line: Namespace | None) -> BaseException:
    """What Hydra or the system refused, with everything else that is wrong, and what would be right."""
    from alphard.compose import Refused, refused

    if isinstance(error, Refused) and line is not None:
        return refused(CONFIGS, line, error)
    if isinstance(error, OSError) and error.filename:
        what = f"{error.filename} cannot be made: {error.strerror}"
        return UserError(f"hydra.run.dir: {what}; name a folder with hydra.run.dir=…")
    if isinstance(error, OSError) and line is not None:
        return refused(CONFIGS, line, error)
    return error


def tell(error: BaseException, debug: bool) -> None:
    """An error as a user reads it: one paragraph; the traceback only where it was asked for."""
    if debug:
        print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
    if isinstance(error, UserError):
        text = error.paragraph()
    else:
        text = f"{unforeseen(error)}\n  debug=true shows the traceback"
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line; returns the exit status."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's public way to let errors through, which are then ours to word
    debug = any(a.lower() in ("debug=true", "++debug=true") for a in sys.argv[1:])
    signals.listen()
    line = None
    try:
        arguments.must_be_hydras(sys.argv[1:])
        guard.refuse(sys.argv[1:], os.environ.get("ALPHARD_SEALED") == "1")
        line = hydra_seam.command_line(sys.argv[1:])
        foreign.refuse(line, CONFIGS)
        if line.config_path is not None:
            # Beside the other overrides, which Hydra 1.3 wants in one piece.
            at = sys.argv.index(line.overrides[-1]) + 1 if line.overrides else len(sys.argv)
            sys.argv[at:at] = [word for word in OF_A_RUN if word not in sys.argv]
        if multirun.searches(line):
            from alphard import ranks
            from alphard.search import chosen

            ranks.must_be_alone("search")
            chosen.must_be_one(line, CONFIGS)
            sys.argv += ["--multirun"] * (not line.multirun)
            line.multirun = True
        elif line.multirun:
            from alphard.compose import check_sweep

            check_sweep(CONFIGS, line)
        job()
    except (Exception, Interrupted) as error:
        stop = stopped(error)
        if stop is not None:
            from alphard import ranks

            if ranks.local():  # the first process says it; at another status Lightning kills that one
                return 0
            print(f"stopped by {stop}", file=sys.stderr)
            return stop.status
        worded = in_our_words(error, line)
        tell(worded, debug)
        return status_of(worded)
    return max(failed, default=0)


def status_of(error: BaseException) -> int:
    """2 for what the user can mend before training, 1 for what went wrong in it."""
    return error.status if isinstance(error, UserError) else 1


if __name__ == "__main__":
    sys.exit(main())
