"""Time of --help, and from process start to the first optimizer step, against the import of Lightning.

    python benchmarks/start.py        about 1 minute

Whole processes in turns; medians of the ratios.  Promised: --help at most 0.4, the first step at most 1.35.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAIN = str(ROOT / "train.py")
# Runs train.py as it is, and ends the process when an optimizer has made its first step.
FIRST_STEP = """
import os, runpy, sys
import torch.optim.adamw
step = torch.optim.AdamW.step
def first(self, *a, **k):
    step(self, *a, **k)
    os._exit(0)
torch.optim.AdamW.step = first
sys.argv = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
os._exit(9)
"""
COMMANDS = {
    "import pytorch_lightning": ["-c", "import pytorch_lightning"],
    "train.py --help": [TRAIN, "--help"],
    "train.py to its first step": ["-c", FIRST_STEP, TRAIN],
}
TURNS = 7


def seconds(arguments: list[str], folder: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS + 1):  # the first fills the disk's cache
            for name, arguments in COMMANDS.items():
                spent = seconds(arguments, folder)
                taken[name] += [spent] if turn else []
    reference, shown, stepped = taken.values()
    for name, spent in taken.items():
        print(f"{name:<28} {statistics.median(spent):.2f} s  ({min(spent):.2f} to {max(spent):.2f})")
    shares = [statistics.median(a / b for a, b in zip(x, reference, strict=True)) for x in (shown, stepped)]
    print(f"--help / import: {shares[0]:.2f}  (promised: at most 0.4)")
    print(f"first step / import: {shares[1]:.2f}  (promised: at most 1.35)")
    return int(shares[0] > 0.4 or shares[1] > 1.35)


if __name__ == "__main__":
    sys.exit(main())
