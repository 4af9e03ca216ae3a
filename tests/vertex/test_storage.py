"""A trial on Vertex AI as its own process sees it: data from gs://, artifacts and TensorBoard's events to gs://."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alphard.checkpoint import NAME
from alphard.errors import UserError
from alphard.storage import Folder
from tests.conftest import ROOT, environment, run_train
from tests.killing import left_by, training, wait_for
from tests.vertex.bucket import Bucket

pytestmark = pytest.mark.more  # trainings in real processes, and a bucket

SCALARS = {"train_loss", "validation_loss", "validation_accuracy", "validation_balanced_accuracy"}


def npz(bucket: Bucket, name: str, split: str, rows: int) -> str:
    """A file of rows in the bucket, in two classes that can be told apart."""
    X = np.random.default_rng(rows).normal(size=(rows, 6)).astype(np.float32)
    content = io.BytesIO()
    np.savez(content, **{f"X_{split}": X, f"y_{split}": (X[:, 0] > 0).astype(np.int64)})
    return bucket.folder("data").write(name, content.getvalue())


def told(bucket: Bucket, folder: Path, id: str = "3") -> dict[str, str]:
    """What Vertex AI tells trial `id` of a tuning job."""
    base = bucket.uri(f"job/{id}")
    return {
        "AIP_MODEL_DIR": f"{base}/model/",
        "AIP_CHECKPOINT_DIR": f"{base}/checkpoints/",
        "AIP_TENSORBOARD_LOG_DIR": f"{base}/logs/",
        "CLOUD_ML_TRIAL_ID": id,
        "CLOUD_ML_HP_METRIC_FILE": str(folder / "output.metrics"),
    }


def data(bucket: Bucket) -> list[str]:
    """The overrides for rows that lie in the bucket."""
    train, val = npz(bucket, "train.npz", "train", 400), npz(bucket, "val.npz", "val", 200)
    return ["data=npz", f"data.train={train}", f"data.validation={val}"]


def trial(bucket: Bucket, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`./convert_command.sh ARGUMENTS`, as a process that still runs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [str(ROOT / "convert_command.sh"), *data(bucket), *arguments],
        env=environment(**told(bucket, folder), PATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def events(folder: Folder, place: Path) -> dict[str, list[float]]:
    """Every scalar that TensorBoard's own reader finds below a folder of a bucket, by name, in its order."""
    for name, content in folder.read_all(folder.names()).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    found = EventAccumulator(str(place / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [event.value for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def history(folder: Folder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder.read("eval_history.csv") or b"").decode().splitlines()))


def test_trial_reads_and_writes_the_bucket_and_its_events_are_complete(bucket: Bucket, tmp_path: Path) -> None:
    process = trial(bucket, tmp_path, "logger=tensorboard", "--epochs=7.0", "--learning_rate", "0.01")
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    model = bucket.folder("job/3/model")
    assert set(model.names()) == {
        "config.yaml", "confusion_matrix.png", "curves.json", "eval_history.csv", "learning_curves.png", "metrics.json", "model.pt",
        "training.log",
    }  # fmt: skip
    metrics, rows = json.loads(model.read("metrics.json") or b""), history(model)
    assert metrics["stopped_epoch"] == len(rows) == 7
    assert said.endswith(f"validation_accuracy: {metrics['validation_accuracy']:.6f}\n")
    assert (model.read("training.log") or b"").decode() in said
    scalars = events(bucket.folder("job/3/logs"), tmp_path / "events")
    for name in SCALARS:
        assert scalars[name] == pytest.approx([float(row[name]) for row in rows]), name


def test_without_a_folder_of_their_own_the_events_lie_beside_the_artifacts(bucket: Bucket, tmp_path: Path) -> None:
    known = told(bucket, tmp_path) | {"AIP_TENSORBOARD_LOG_DIR": ""}
    done = run_train(tmp_path, *data(bucket), "logger=tensorboard", "epochs=2", **known)
    assert done.status == 0, done.err
    scalars = events(bucket.folder("job/3/model/logs"), tmp_path / "events")
    assert {name: len(values) for name, values in scalars.items() if name in SCALARS} == dict.fromkeys(SCALARS, 2)


def test_jobs_of_a_multirun_keep_their_events_apart(bucket: Bucket, tmp_path: Path) -> None:
    line = ["seed=0,1", "logger=tensorboard", "epochs=2", "-m"]
    done = run_train(tmp_path, *data(bucket), *line, **told(bucket, tmp_path))
    assert done.status == 0, done.err
    for job in ("0", "1"):
        assert "metrics.json" in bucket.folder(f"job/3/model/trials/{job}").names()
        scalars = events(bucket.folder(f"job/3/logs/trials/{job}"), tmp_path / job)
        assert len(scalars["validation_loss"]) == 2


def test_logger_with_a_folder_of_its_own_writes_there(bucket: Bucket, tmp_path: Path) -> None:
    line = ["logger=tensorboard", "logger.tensorboard.save_dir=mine", "epochs=2"]
    done = run_train(tmp_path, *data(bucket), *line, **told(bucket, tmp_path))
    assert done.status == 0, done.err
    assert list((tmp_path / "mine/tensorboard").glob("events.out.*"))
    assert bucket.folder("job/3/logs").names() == []


@pytest.mark.more
def test_killed_trial_has_its_finished_epochs_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    process = trial(bucket, tmp_path, "logger=tensorboard", "epochs=100000", "patience=100000")
    assert process.stdout is not None
    logs, told_of = bucket.folder("job/3/logs"), 0
    for line in process.stdout:
        if line.startswith("epoch: "):
            told_of = int(line.split()[1])
            # The second copy has replaced the first, which held few epochs.
            if told_of % 20 == 0 and sum((logs.read(name) or b"").count(b"train_loss") for name in logs.names()) > 20:
                break
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    last = max([told_of, *(int(line.split()[1]) for line in rest.splitlines() if line.startswith("epoch: "))])
    scalars = events(logs, tmp_path / "events")
    counts = {len(scalars[name]) for name in SCALARS}
    assert len(counts) == 1, "an epoch lacks one of its scalars"
    assert 20 < counts.pop() <= last
    assert "epoch: 20\n" in (bucket.folder("job/3/model").read("training.log") or b"").decode()


def test_killed_trial_goes_on_from_its_checkpoint_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    line = ["epochs=40", "patience=40", "batch_size=20", "threads=1"]
    whole = run_train(tmp_path, *data(bucket), *line, "output_dir=whole")
    assert whole.status == 0, whole.err
    kept, model = bucket.folder("job/3/checkpoints"), bucket.folder("job/3/model")

    def newest() -> str:
        return max(filter(NAME.fullmatch, kept.names()), default="")

    for said in (b"", b"resumed at"):
        before = newest()
        with training(tmp_path, *data(bucket), *line, "checkpoint_seconds=0.1", **told(bucket, tmp_path)) as process:
            assert wait_for(lambda last=before: newest() > last, process)
            # The log is copied there once a second; what was said later a kill takes away.
            assert wait_for(lambda word=said: word in (model.read("training.log") or b""), process)
            process.kill()
    assert "checkpoints" not in " ".join(model.names())
    (tmp_path / "output.metrics").unlink(missing_ok=True)  # the machine is another
    done = run_train(tmp_path, *data(bucket), *line, **told(bucket, tmp_path))
    assert done.status == 0, done.err
    assert f"from {kept.path}/step-" in done.out
    assert kept.names() == []
    assert model.read("model.pt") == (tmp_path / "whole/model.pt").read_bytes()
    log = (model.read("training.log") or b"").decode()
    assert log.count("resumed at epoch") == 2
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in history(model)]
    assert timeless == left_by(tmp_path / "whole")[1]


def test_trial_that_fails_leaves_its_log_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    line = ["optimizer=sgd", "learning_rate=1e30"]
    done = run_train(tmp_path, *data(bucket), *line, **told(bucket, tmp_path))
    assert done.status == 1, done.err
    model = bucket.folder("job/3/model")
    assert model.names() == ["config.yaml", "training.log"]
    assert "training diverged" in (model.read("training.log") or b"").decode()


def test_trial_that_is_refused_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    line = ["logger=tensorboard", "objective=validation_f1"]
    done = run_train(tmp_path, *data(bucket), *line, **told(bucket, tmp_path))
    assert done.status == 2
    assert "the model logs no validation_f1" in done.err
    assert bucket.folder("job").names() == []


def test_files_of_a_folder_are_listed_and_read_at_once(bucket: Bucket, tmp_path: Path) -> None:
    for folder in (bucket.folder("a"), Folder(str(tmp_path / "a"))):
        assert folder.names() == []
        assert folder.read_all([]) == {}
        for name in ("x", "deep/y"):
            folder.write(name, name.encode())
        beside = Folder(f"{folder.path}b")
        beside.write("z", b"z")
        assert folder.names() == ["deep/y", "x"]
        assert folder.read_all(["x", "deep/y", "lost"]) == {"x": b"x", "deep/y": b"deep/y"}
    shutil.rmtree(tmp_path / "a")


def test_bucket_that_is_not_there_is_one_clear_error(bucket: Bucket) -> None:
    with pytest.raises(UserError, match=r"^output_dir: gs://no-such-bucket/x cannot be written: "):
        Folder("gs://no-such-bucket/x").must_be_writable()
