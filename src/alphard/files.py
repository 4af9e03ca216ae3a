"""What a run's files are called, and how its history reads, for those who look at runs and import no torch."""

import csv
import io

CONFIG, METRICS, MODEL, HISTORY, LOG = "config.yaml", "metrics.json", "model.pt", "eval_history.csv", "training.log"
PREPROCESSING = "preprocessing.skops"


def epochs(text: str) -> list[dict[str, float]]:
    """eval_history.csv's rows, a gap where a number is missing; ValueError for another file."""
    rows = csv.DictReader(io.StringIO(text))
    if "epoch" not in (rows.fieldnames or ()):
        raise ValueError("it has no column epoch")
    return [{name: float(value or "nan") for name, value in row.items() if name} for row in rows]
