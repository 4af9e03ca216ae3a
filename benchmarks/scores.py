"""What the configs score: mean and spread over five seeds, beside scikit-learn's plain models on the same split.

    python benchmarks/scores.py titanic_train.csv        about 1 minute; without the file, without Titanic

Each seed is a whole run of train.py's config.  The split is one (data.split_seed=0), so the binomial standard error of
its validation rows tells how far another split's accuracy would lie, which the spread over seeds does not.
"""

import contextlib
import io
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from alphard import tables
from alphard.compose import compose, must_be_sound
from alphard.noise import binomial_error
from alphard.run import run, settings_of

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SEEDS = 5
LINES = {"digits": ("data=digits",), "breast_cancer": ("data=breast_cancer",)}


def metrics_of(folder: Path, *overrides: str) -> dict[str, Any]:
    """A run's metrics, its words thrown away."""
    config = compose(CONFIGS, overrides)
    must_be_sound(config)
    with contextlib.redirect_stdout(io.StringIO()):
        return run(config, str(folder), **settings_of(config)).metrics


def main() -> None:
    lines = dict(LINES)
    if len(sys.argv) > 1:
        lines["titanic"] = ("experiment=titanic", f"data.path={sys.argv[1]}")
    table = Table(
        "data",
        f"validation_accuracy, {SEEDS} seeds",
        "validation rows",
        "binomial error",
        "majority",
        "logistic",
        "trees",
    )
    for name, overrides in lines.items():
        with tempfile.TemporaryDirectory() as scratch:
            found = [
                metrics_of(Path(scratch, str(n)), *overrides, f"seed={n}", f"baselines={str(n == 0).lower()}")
                for n in range(SEEDS)
            ]
        values = [each["validation_accuracy"] for each in found]
        mean, rows = statistics.mean(values), found[0]["val_rows"]
        beside = [f"{each['validation_accuracy']:.4f}" for each in found[0]["baselines"].values()]
        noise = binomial_error(mean, rows, "validation_accuracy")
        table.add_row(name, f"{mean:.4f} ± {statistics.stdev(values):.4f}", str(rows), f"{noise:.4f}", *beside)
    tables.show(table)


if __name__ == "__main__":
    main()
