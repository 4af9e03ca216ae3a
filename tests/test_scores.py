"""The scores that the configs promise, means over five seeds."""

from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from tests.conftest import SHARED
from tests.in_process import run_here
from tests.passengers import passengers

PASSENGERS = SHARED / "data/titanic_train.csv"


def scores(folder: Path, seed: str, *overrides: str) -> list[float]:
    return [
        run_here(folder / str(n), *overrides, f"{seed}={n}", lean=True).metrics["final_val_accuracy"] for n in range(5)
    ]  # fmt: skip


def test_digits_reaches_97_percent(tmp_path: Path) -> None:
    assert mean(scores(tmp_path, "seed")) >= 0.97


def test_made_passengers_are_learnt_through_the_experiment(tmp_path: Path) -> None:
    """A file with the columns, types and gaps of the real one, whose survivors follow a rule that is 90% certain."""
    (tmp_path / "rows.csv").write_text(passengers(700))
    done = run_here(tmp_path / "run", "experiment=titanic", f"data.path={tmp_path}/rows.csv")
    assert done.metrics["final_val_accuracy"] >= 0.85


@pytest.mark.more
@pytest.mark.skipif(not PASSENGERS.exists(), reason="the passengers' file does not come with the project")
def test_titanic_reaches_79_percent(tmp_path: Path) -> None:
    overrides = ("experiment=titanic", f"data.path={PASSENGERS}")
    assert mean(scores(tmp_path, "data.split_seed", *overrides)) >= 0.79


@pytest.mark.skipif(not PASSENGERS.exists(), reason="the passengers' file does not come with the project")
@pytest.mark.more
def test_the_lessons_line_reaches_the_lessons_score(tmp_path: Path) -> None:
    """Its script gives 0.797 after 200 epochs on these arrays, which it makes as here."""
    import pandas as pd
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelEncoder, StandardScaler

    frame = pd.read_csv(PASSENGERS)
    y = frame["Survived"].to_numpy()
    frame = frame[["Pclass", "Sex", "Age", "SibSp", "Parch", "Fare", "Embarked"]]
    frame["Embarked"] = frame["Embarked"].fillna(frame["Embarked"].mode()[0])
    for name in ("Sex", "Embarked"):
        frame[name] = LabelEncoder().fit_transform(frame[name])
    X = StandardScaler().fit_transform(frame.fillna(frame.median()))
    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.2, random_state=42)
    assert (len(y_train), len(y_val)) == (569, 143)
    np.savez(tmp_path / "T.npz", X_train=X_train, y_train=y_train)
    np.savez(tmp_path / "V.npz", X_val=X_val, y_val=y_val)
    line = f"experiment=titanic_lesson train={tmp_path}/T.npz val={tmp_path}/V.npz epochs=200 learning_rate=0.001 "
    line += "patience=10 min_delta=0.0 restore_best=true"
    assert abs(mean(scores(tmp_path, "seed", *line.split())) - 0.797) <= 0.02
