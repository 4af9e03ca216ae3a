"""Peak memory of loading an npz of 1 GB of float32 and training one epoch on it, against the arrays' own bytes.

    python benchmarks/memory.py       about 1 minute; 1 GB of disk, 3 GB of memory

Each in a process of its own, by its peak resident size.  Promised: at most 1.6 times the arrays, above the imports.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ROWS, FEATURES = 2_000_000, 128


def peak(arguments: list[str], folder: str) -> int:
    """Peak resident bytes of `python ARGUMENTS`."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"{arguments} ended with {status}"
    return used.ru_maxrss * 1024


def main() -> int:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        # First, while this process is small: a child's peak begins with its parent's size.
        imports = peak(["-c", "import alphard.run, alphard.plots, skops.io, sklearn.preprocessing"], folder)
        bytes_ = 0
        for file, suffix, rows in (("t", "train", ROWS), ("v", "val", 10_000)):
            arrays = {
                f"X_{suffix}": random.standard_normal((rows, FEATURES), dtype=np.float32),
                f"y_{suffix}": random.integers(2, size=rows),
            }
            bytes_ += sum(array.nbytes for array in arrays.values())
            np.savez(Path(folder, f"{file}.npz"), **arrays)
            del arrays
        line = ["data=npz", "data.train=t.npz", "data.validation=v.npz", "epochs=1", "batch_size=4096"]
        trained = peak([str(ROOT / "train.py"), *line, "output_dir=out"], folder)
    share = (trained - imports) / bytes_
    print(f"arrays {bytes_ / 1e9:.2f} GB, imports {imports / 1e9:.2f} GB, training {trained / 1e9:.2f} GB")
    print(f"(training - imports) / arrays: {share:.2f}  (promised: at most 1.6)")
    return int(share > 1.6)


if __name__ == "__main__":
    sys.exit(main())
