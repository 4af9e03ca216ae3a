"""What convert_command.sh costs: its time over the time from process start to train.py's first optimizer step.

python benchmarks/arguments.py        about a minute; exits 1 above the limit of 0.15
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT, REPEATS = 0.15, 5
# A typical trial: the numbers make the rewriting read the config.
ARGUMENTS = [
    "--data=digits",
    "--batch-size=64.0",
    "--learning_rate=0.003",
    "--weight_decay",
    "1e-05",
    "--restore_best=True",
]

# train.py as it is, stopped at its first step.  torch comes first here and not within, which changes only the order.
FIRST_STEP = """
import os, runpy, sys, time
from torch.optim.optimizer import register_optimizer_step_pre_hook
def stop(*_):
    print(time.monotonic(), flush=True)
    os._exit(0)
register_optimizer_step_pre_hook(stop)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def seconds_to_first_step() -> float:
    """From before the process is started to its first optimizer step, without the rewriting."""
    with tempfile.TemporaryDirectory() as folder:
        train = [ROOT / "train.py", "batch_size=64", "learning_rate=0.003", f"output_dir={folder}/out"]
        start = time.monotonic()
        out = subprocess.check_output([sys.executable, "-c", FIRST_STEP, *train], cwd=folder, text=True)
        return float(out.splitlines()[-1]) - start


def seconds_to_rewrite() -> float:
    """The whole script, up to the moment at which it would become train.py."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "python")
        python.write_text(f'#!/bin/bash\n[[ ${{1##*/}} == train.py ]] || exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        start = time.monotonic()
        path = f"{folder}:{os.environ['PATH']}"
        subprocess.run([ROOT / "convert_command.sh", *ARGUMENTS], env=os.environ | {"PATH": path}, check=True)
        return time.monotonic() - start


def main() -> int:
    """Print the ratio of the medians; the two are measured in turn, so that a busy machine slows both."""
    seconds_to_first_step(), seconds_to_rewrite()  # fills the caches
    pairs = [(seconds_to_rewrite(), seconds_to_first_step()) for _ in range(REPEATS)]
    rewriting, first_step = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = rewriting / first_step
    print(f"rewriting {rewriting:.2f} s, first optimizer step after {first_step:.2f} s")
    print(f"ratio {ratio:.3f}, at most {LIMIT}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
