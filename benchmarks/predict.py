"""Rows a second of `alphard predict` on a CSV of a million mixed rows, against the same by hand, and its memory.

    python benchmarks/predict.py      about 2 minutes; 300 MB of disk, 3 GB of memory

By hand: pandas reads the whole file, the run's own ColumnTransformer makes X, torch's forward the probabilities, pandas
writes them.  Whole processes in turns, imports included; medians.  Promised: at most 1.5 times the time by hand, under
60 s, and at most 1.25 times the memory that a tenth of the rows takes.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
ALPHARD = [str(Path(sys.executable).with_name("alphard")), "predict", "run"]
ROWS, TURNS = 1_000_000, 3

BY_HAND = """
import sys, pandas as pd, skops.io, torch
transformer = skops.io.load("run/preprocessing.skops", trusted=["numpy.dtype"])
weights = torch.load("run/model.pt", weights_only=True)
layers = [torch.nn.Linear(*weights[f"net.layers.{i}.weight"].shape[::-1]) for i in (0, 3, 6)]
net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
for layer, i in zip(layers, (0, 3, 6)):
    layer.load_state_dict({name: weights[f"net.layers.{i}.{name}"] for name in ("weight", "bias")})
rows = pd.read_csv("rows.csv")
categorical = transformer.transformers[1][2]
rows[categorical] = rows[categorical].astype(str).astype(object)
with torch.inference_mode():
    p = net(torch.from_numpy(transformer.transform(rows).astype("float32"))).softmax(1).numpy()
out = pd.DataFrame({"id": rows["id"], "prediction": p.argmax(1), "probability_no": p[:, 0], "probability_yes": p[:, 1]})
out.to_csv("by_hand.csv", index=False)
"""


def rows(count: int) -> pd.DataFrame:
    """9 columns of numbers, one with gaps, 5 of categories, an id, and two classes."""
    random = np.random.default_rng(0)
    numbers = {f"n{i}": random.normal(size=count).round(5) for i in range(6)}
    numbers |= {f"i{i}": random.integers(0, 1000, count) for i in range(2)}
    gap = {"gap": np.where(random.random(count) < 0.1, np.nan, random.normal(size=count))}
    texts = {f"c{k}": random.choice([f"category {i}" for i in range(k)], count) for k in (2, 10, 40)}
    codes = {"code": random.integers(0, 30, count), "flag": random.random(count) < 0.5}
    label = np.where(numbers["n0"] + random.normal(size=count) > 0, "yes", "no")
    return pd.DataFrame({"id": np.arange(count)} | numbers | gap | texts | codes | {"label": label})


def call(folder: str, *command: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"{command} ended with {status}"
    return time.perf_counter() - began, used.ru_maxrss * 1024


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        make = (
            "import sys; sys.path.insert(0, sys.argv[1]); from predict import rows; rows({}).to_csv({!r}, index=False)"
        )
        for count, name in ((ROWS, "rows.csv"), (ROWS // 10, "tenth.csv"), (20_000, "few.csv")):
            # In another process: a child's peak begins with its parent's size.
            call(folder, sys.executable, "-c", make.format(count, name), str(ROOT / "benchmarks"))
        line = ["data=csv", "data.path=few.csv", "data.target=label", "data.drop=[id]", "epochs=1", "output_dir=run"]
        line += ["data.categorical=[c2,c10,c40,code,flag]"]
        call(folder, sys.executable, str(ROOT / "train.py"), *line)
        _, small = call(folder, *ALPHARD, "tenth.csv", "out=tenth_out.csv", "keep=[id]")
        ours, theirs, peaks = [], [], []
        for _ in range(TURNS):
            seconds, peak = call(folder, *ALPHARD, "rows.csv", "out=ours.csv", "keep=[id]", "overwrite=true")
            ours, peaks = [*ours, seconds], [*peaks, peak]
            theirs.append(call(folder, sys.executable, "-c", BY_HAND)[0])
        same = np.abs(_probabilities(folder, "ours.csv") - _probabilities(folder, "by_hand.csv")).max()
    assert same < 1e-5, f"the two differ by {same}"
    spent, share = statistics.median(ours), statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    growth = max(peaks) / small
    print(
        f"alphard predict {ROWS / spent:,.0f} rows a second, {spent:.1f} s; by hand {statistics.median(theirs):.1f} s"
    )
    print(f"alphard predict / by hand: {share:.2f}  (promised: at most 1.5)")
    print(f"peak memory {max(peaks) / 1e6:.0f} MB / {small / 1e6:.0f} MB: {growth:.2f}  (promised: at most 1.25)")
    return int(share > 1.5 or spent > 60 or growth > 1.25)


def _probabilities(folder: str, name: str) -> np.ndarray:
    return pd.read_csv(Path(folder, name), usecols=["probability_no", "probability_yes"]).to_numpy()


if __name__ == "__main__":
    sys.exit(main())
