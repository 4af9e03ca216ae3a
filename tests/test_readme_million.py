"""The README's walk on a million rows: mixed types, missing values, the same lines but for names and lengths."""

import re
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.readme import copy_of_the_project, lines, typed

pytestmark = pytest.mark.more(minutes=4)

ROWS = 1_000_000
# What the walk trains for minutes is shortened; the lines are the README's.
SHORTER = {
    "search=mlp": "search=mlp search.trials=2 epochs=1 data.fraction=0.1",
    "-m experiment=mine": "-m experiment=mine epochs=1 data.fraction=0.1",
    "seeds=5": "seeds=1 epochs=1 baselines=false",
}
WORDS = ("new", "-m", "search", "results", "retrain", "predict", "prepare", "train.py")  # which tell the lines apart


def rows(path: Path) -> None:
    """A file whose label follows three of its columns, with a tenth of the values missing."""
    random = np.random.default_rng(0)
    age, city = random.gamma(4, 10, ROWS).round(1), random.choice(["Bonn", "Cork", "Lyon", "Oslo"], ROWS)
    plan = random.integers(1, 4, ROWS)
    score = (age - 40) / 15 + (city == "Oslo") * 1.5 - (plan == 1) + random.standard_normal(ROWS)
    frame = pd.DataFrame({"id": np.arange(ROWS), "age": age, "city": city, "plan": plan})
    frame["member"] = random.random(ROWS) < 0.3
    frame["code"] = [f"c{n:03}" for n in random.integers(0, 300, ROWS)]
    for n in range(6):
        frame[f"x{n}"] = random.standard_normal(ROWS).round(3)
    frame["empty"], frame["one"] = np.nan, "same"
    for name in ("age", "city", "x0", "code"):
        frame.loc[random.random(ROWS) < 0.1, name] = None
    frame["bought"] = np.where(score > 0.5, "yes", "no")
    frame.to_csv(path, index=False)


def test_the_walk_on_a_million_rows(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path)
    rows(project / "million.csv")
    seconds, said = {}, {}
    for line in lines("From your table to predictions"):
        short = re.sub(r"\s+#.*", "", line).replace("titanic_train.csv", "million.csv")
        short = short.replace("Survived", "bought").replace("PassengerId", "id")
        for text, shorter in SHORTER.items():
            short = short.replace(text, shorter)
        began = time.monotonic()
        done = typed(project, short)
        words = short.split()
        word = next(each for each in WORDS if each in words or any(one.startswith(f"{each}=") for one in words))
        seconds[word], said[word] = round(time.monotonic() - began, 1), done.stdout
        assert done.returncode == 0, f"{short}\n{done.stdout[-2000:]}\n{done.stderr}"
        assert "warning" not in done.stderr, f"{short}\n{done.stderr}"
    print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    written = (project / "configs/experiment/mine.yaml").read_text()
    dropped = written.partition("drop:")[2].partition("\n  numeric")[0]
    assert all(re.search(rf"\b{name}\b", dropped) for name in ("id", "empty", "one"))
    score = re.search(r"validation_accuracy: (0\.\d+)$", said["train.py"].strip())
    assert score
    assert float(score[1]) > 0.75  # the noise of the labels leaves about 0.79
    count = 0
    for part in pd.read_csv(project / "predictions.csv", chunksize=200_000):
        assert list(part) == ["id", "prediction", "probability_no", "probability_yes"]
        assert (part.id == np.arange(count, count + len(part))).all()
        assert np.allclose(part.probability_no + part.probability_yes, 1, atol=1e-5)
        count += len(part)
    assert count == ROWS
    assert {"train.npz", "val.npz", "preprocessing.skops"} <= {
        path.name for path in (project / "prepared/mine").iterdir()
    }
