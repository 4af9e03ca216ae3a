"""From the command line to a study, all of it real but for Google: submit, follow, results, retrain, in a bucket."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from alphard.cli import main
from tests.conftest import ROOT, copied
from tests.vertex.bucket import Bucket
from tests.vertex.service import Service
from vertex_ai.places import Direct

pytestmark = pytest.mark.more  # four trainings, two of them through the entry point


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(copied(tmp_path, "configs", "vertex_ai/configs"))
    return tmp_path


def fill(bucket: Bucket, folder: Path) -> list[str]:
    """The lesson's files in the bucket, with rows of another table; the words that name them."""
    X, y = load_breast_cancer(return_X_y=True)
    for name, rows in (("train", slice(0, 400)), ("val", slice(400, None))):
        np.savez(folder / f"{name}.npz", **{f"X_{name}": X[rows].astype(np.float32), f"y_{name}": y[rows]})
        bucket.folder("data").write(f"{name}.npz", (folder / f"{name}.npz").read_bytes())
        (folder / f"{name}.npz").unlink()
    return [f"train={bucket.uri('data/train.npz')}", f"val={bucket.uri('data/val.npz')}"]


def test_a_tuning_job_from_submit_to_retrain(
    project: Path, tmp_path_factory: pytest.TempPathFactory, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    data = fill(bucket, project)
    words = [
        "experiment=titanic_lesson",
        "search=titanic_lesson",
        *data,
        "epochs=int(interval(2,3))",
        "search.trials=2",
    ]
    with Service(tmp_path_factory.mktemp("service"), Direct(ROOT, threads=1), base="") as service:
        job = [
            "project=p",
            "region=europe-west4",
            "image=i",
            f"base={bucket.uri('runs')}",
            f"endpoint={service.address}",
        ]
        assert main(["submit", *words, *job, "wait=true"]) == 0
        said = capsys.readouterr().out
        name = re.search(r"projects/\S+/hyperparameterTuningJobs/\d+", said)
        assert name
        assert "trial 2 succeeded" in said
        assert main(["results", name[0], f"endpoint={service.address}"]) == 0
    base = re.search(r"gs://\S+/titanic_lesson-titanic_lesson/\S+", said)
    assert base
    kept = json.loads(bucket.folder(base[0].removeprefix(f"gs://{bucket.name}/")).read("job.json") or b"")
    assert kept["displayName"].startswith("titanic_lesson-titanic_lesson-20")
    study = Path("studies", name[0].rpartition("/")[2])
    assert (study / "trials/0/metrics.json").is_file()
    assert main(["retrain", str(study), "seeds=1"]) == 0
    assert "validation_accuracy: mean" in capsys.readouterr().out
    # The folder alone tells the same.
    assert main(["results", base[0]]) == 0
    assert "2 complete" in capsys.readouterr().out


def test_a_custom_job_leaves_its_artifacts_in_its_folder(
    project: Path, tmp_path_factory: pytest.TempPathFactory, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    with Service(tmp_path_factory.mktemp("service"), Direct(ROOT, threads=1), base="") as service:
        job = [
            "project=p",
            "region=europe-west4",
            "image=i",
            f"staging=gs://{bucket.name}",
            f"endpoint={service.address}",
        ]
        assert main(["submit", "data=breast_cancer", "epochs=2", *job]) == 0
        said = capsys.readouterr().out
        name = re.search(r"projects/\S+/customJobs/\d+", said)
        assert name
        assert f"alphard wait {name[0]} endpoint={service.address}" in said
        assert main(["wait", name[0], f"endpoint={service.address}"]) == 0
    folder = re.search(r"gs://\S+/alphard/train/\S+", said)
    assert folder
    model = bucket.folder(f"{folder[0].removeprefix(f'gs://{bucket.name}/')}/model")
    assert json.loads(model.read("metrics.json") or b"{}")["validation_accuracy"] > 0.8
    assert main(["results", folder[0]]) == 0
    assert f"report: {model.path}/report.html" in capsys.readouterr().out


def test_a_packed_search_is_one_custom_job_from_submit_to_retrain(
    project: Path, tmp_path_factory: pytest.TempPathFactory, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """The search trains whole in its container, into a bucket, and is here as if it had been searched here."""
    words = ["search=mlp", "search.engine=packed", "data=breast_cancer", "epochs=2", "search.trials=20"]
    words += ["search.parallel=1", "search.pack.keep=3", "learning_rate=interval(1e-3,1e-2)"]
    with Service(tmp_path_factory.mktemp("service"), Direct(ROOT, threads=1), base="") as service:
        at = f"endpoint={service.address}"
        job = ["project=p", "region=europe-west4", "image=i", f"base={bucket.uri('runs')}", at]
        assert main(["submit", *words, *job, "wait=true"]) == 0, capsys.readouterr()
        said = capsys.readouterr()
        assert "1 run of 20 trials in packs, at most 6 hours: at most 6 machine hours" in said.err
        name = re.search(r"projects/\S+/customJobs/\d+", said.out)
        assert name
        assert f"next: alphard results {name[0]} {at}" in said.out
        assert main(["results", name[0], at]) == 0, capsys.readouterr()
    study = Path("studies", name[0].rpartition("/")[2])
    assert len((study / "trials.csv").read_text().splitlines()) == 21
    assert len([*(study / "trials").glob("*/model.pt")]) == 3
    assert main(["retrain", str(study), "seeds=1", "baselines=false"]) == 0, capsys.readouterr()
    assert (study / "winner/model.pt").is_file()


def test_a_folder_that_is_not_empty_is_refused(
    project: Path, tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    from vertex_ai import body

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "datetime":
            return datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

    monkeypatch.setattr(body, "datetime", Stopped)
    bucket.folder("runs/train/2026-11-21T12-00-00-000000Z").write("anything", b"x")
    given = ["project=p", "region=europe-west4", "image=i", f"base={bucket.uri('runs')}", "endpoint=http://127.0.0.1:9"]
    assert main(["submit", *given]) == 2
    assert f"base: {bucket.uri('runs/train/2026-11-21T12-00-00-000000Z')} is not empty" in capsys.readouterr().err
