"""The README, typed from top to bottom: what it says works, block by block, in a copy of the project."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import SHARED
from tests.passengers import passengers
from tests.readme import TEXT, blocks, copy_of_the_project, lines, typed

pytestmark = pytest.mark.more(minutes=5)

WALK, HERE = "From your table to predictions", ("Your data", "Change it", "Search")
# Lines that another test types, with what they need: an engine, a cloud, a bucket, a machine without .venv, a shell.
ELSEWHERE = {
    r"git clone|make |\. \.venv|python train\.py learning_rate=0\.01": "CI itself, tests/test_train.py",
    r"docker ": "tests/container/test_image.py",
    r"\./convert_command\.sh": "tests/test_arguments.py",
    r"alphard (image|rehearse|submit)|alphard results projects/": "tests/vertex",
    r".*gs://": "tests/vertex/test_storage.py",
    r"python train\.py model=(wide|bare)": "tests/test_own_code.py",
    r"eval ": "tests/test_completion.py",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of_the_project(tmp_path_factory.mktemp("project"))
    real = SHARED / "data/titanic_train.csv"
    if real.exists():
        shutil.copy(real, folder)
    else:
        (folder / "titanic_train.csv").write_text(passengers(700))
    frame = pd.read_csv(folder / "titanic_train.csv")
    named = frame.rename(columns={"Survived": "label", "PassengerId": "id", "Name": "name"})
    named.drop(columns=["Ticket", "Cabin"]).to_csv(folder / "rows.csv", index=False)
    return folder


def must_work(project: Path, line: str) -> str:
    """Type a line; returns what it printed."""
    done = typed(project, line)
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr}"
    assert "warning" not in done.stderr.lower(), f"{line}\n{done.stderr}"
    return done.stdout


def test_every_line_of_the_readme_is_typed_by_a_test() -> None:
    every = re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)
    ours = lines(WALK, *HERE)
    assert len(lines(WALK)) >= 8
    left = [line for line in every if line not in ours and not any(re.match(rule, line) for rule in ELSEWHERE)]
    assert not left


def test_the_walk_from_a_table_to_predictions(project: Path) -> None:
    said = {line.split("  ")[0]: must_work(project, line) for line in lines(WALK)}
    trained = said["python train.py experiment=mine"]
    score = re.search(r"validation_accuracy: (0\.\d+)$", trained.strip())
    assert score
    assert float(score[1]) > 0.78
    study = project / "studies/mine-mlp"
    assert {"trials.csv", "report.html", "winner"} <= {path.name for path in study.iterdir()}
    assert len(pd.read_csv(study / "trials.csv")) == 50
    assert "gradient-boosted trees" in said["alphard retrain studies/mine-mlp seeds=5"]
    rows, found = pd.read_csv(project / "titanic_train.csv"), pd.read_csv(project / "predictions.csv")
    assert list(found) == ["PassengerId", "prediction", "probability_0", "probability_1"]
    assert (found.PassengerId == rows.PassengerId).all()
    assert (found.prediction == rows.Survived).mean() > 0.78
    printed = next(
        line for line in said["alphard prepare experiment=mine out=prepared/mine"].splitlines() if "train.py" in line
    )
    again = must_work(project, f"{printed.strip()} output_dir=again")
    assert again.strip().splitlines()[-1] == trained.strip().splitlines()[-1]


@pytest.mark.parametrize("section", HERE)
def test_a_section(section: str, project: Path) -> None:
    for block in blocks(section):
        typings = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        for line, _, answer in (each.partition("\n") for each in typings):
            if any(re.match(rule, line) for rule in ELSEWHERE):
                continue
            if answer.startswith("error"):
                done = typed(project, line)
                assert (done.returncode, done.stderr) == (2, answer.rstrip() + "\n")
                continue
            few = " search.trials=3 epochs='int(interval(2,4))'" if "train.py" in line and "search=" in line else ""
            must_work(project, re.sub(r"(\s+#.*)?$", few, line, count=1))
