"""A store on a bad day: what passes is asked again and what does not is said, in one error; nothing made is lost."""

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from alphard import faults
from alphard.checkpoint import NAME
from alphard.errors import TrainingError, UserError
from alphard.storage import Folder, reading
from tests.conftest import ROOT, Done, run_alphard, run_train
from tests.killing import left_by
from tests.vertex.bucket import Bucket
from tests.vertex.faulty import Faulty

LINE = ["data=digits", "epochs=3", "threads=1"]
ARTIFACTS = {"config.yaml", "eval_history.csv", "metrics.json", "model.pt", "training.log"}
REFUSED = b"x" * 100_000


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is silent for a second is given up: the same limit, shorter."""
    monkeypatch.setitem(faults.LIMITS, "sock_read", 1.0)


def upload_of(name: str) -> dict[str, Any]:
    """The requests that bring a file of this name, by a pattern."""
    return {"method": "POST", "body": rf'"name": "[^"]*{name}"'.encode()}


def through(path: str) -> bytes:
    with reading(path, "data.path") as file:
        return file.read()


def operations(folder: Folder, name: str) -> dict[str, Callable[[], Any]]:
    """Each that a folder knows, on a file that is there."""
    return {
        "write": lambda: folder.write(name, REFUSED),
        "read": lambda: folder.read(name),
        "reading": lambda: through(folder.uri(name)),
        "read_all": lambda: folder.read_all([name]),
        "names": folder.names,
        "holds": lambda: folder.holds(name),
        "must_be_writable": folder.must_be_writable,
    }


@pytest.mark.usefixtures("impatient")
def test_what_passes_is_asked_again(bucket: Bucket, unwell: Faulty) -> None:
    kinds: list[dict[str, Any]] = [{"kind": "status", "status": status} for status in (429, 500, 502, 503, 504)]
    kinds += [{"kind": kind, "seconds": 30.0} for kind in ("reset", "lost", "silent", "truncated")]
    folder = bucket.folder("x")

    def written_and_read(number: int) -> None:
        name, fault = f"n{number}", kinds[number]
        unwell(**fault, method="POST", body=f'"x/{name}"'.encode(), times=1)
        unwell(**fault, method="GET", path=f"x%2F{name}", times=1)
        content = f"{number}".encode() * 50_000
        folder.write(name, content)
        assert folder.read(name) == content, fault

    with ThreadPoolExecutor(len(kinds)) as pool:
        list(pool.map(written_and_read, range(len(kinds))))
    assert unwell.done == 2 * len(kinds)


@pytest.mark.parametrize(("status", "remedy"), [(400, "URL"), (401, "log in"), (403, "grant"), (404, "bucket")])
def test_what_does_not_pass_is_asked_once_and_said_with_its_remedy(
    bucket: Bucket, unwell: Faulty, status: int, remedy: str
) -> None:
    folder = bucket.folder("x")
    folder.write("a", b"a")
    said = json.dumps({"error": {"code": status, "message": "I would rather not"}})
    unwell("status", status=status, said=said)
    before = len(unwell.asked)
    with pytest.raises(TrainingError) as error:
        folder.write("a", b"b")
    assert len(unwell.asked) == before + 1
    told = "Not Found" if status == 404 else "I would rather not"
    pattern = rf"error: output_dir: {folder.path}/a cannot be written: {told}, {status}; .*{remedy}"
    assert re.match(pattern, error.value.paragraph()), error.value.paragraph()
    if status == 404:
        assert folder.read("a") is None
        return
    with pytest.raises(UserError, match=rf"^output_dir: {folder.path}/a cannot be read: {told}, {status}; .*{remedy}"):
        folder.read("a")


def test_store_that_fails_in_the_middle_of_a_file_is_not_called_a_torn_file(
    bucket: Bucket, unwell: Faulty, tmp_path: Path
) -> None:
    rows = "a,b,label\n" + "".join(f"{n},{n % 7},{n % 2}\n" for n in range(300_000))
    bucket.fill({"x/rows.csv": rows.encode()})
    path = bucket.uri("x/rows.csv")
    unwell("status", status=403, said="gone bad", path=r"download/.*rows\.csv", skip=1)
    done = run_train(tmp_path, "data=csv", f"data.path={path}", "data.target=label", "epochs=1")
    assert done.status == 2, done.out
    assert re.fullmatch(rf"error: data\.path: {path} cannot be read: gone bad, 403; grant .*\n", done.err), done.err


def rescued(done: Done) -> Path:
    """The folder that the error names, after a look at the error itself."""
    found = re.search(r"^  all artifacts of the run are kept in (\S+); when it can be written: (.*)$", done.err, re.M)
    assert found, done.err
    assert done.err.count("error: ") == 1, done.err
    assert "Traceback" not in done.err, done.err
    return Path(found[1])


def test_run_whose_upload_is_refused_keeps_its_artifacts(bucket: Bucket, unwell: Faulty, tmp_path: Path) -> None:
    unwell("status", status=403, said="quota exceeded", **upload_of(r"model\.pt"))
    out = bucket.uri("out")
    done = run_train(tmp_path, *LINE, f"output_dir={out}", "logger=csv")
    assert done.status == 1, done.err
    assert f"output_dir: {out}/model.pt cannot be written: quota exceeded, 403; grant this account" in done.err
    kept = rescued(done)
    assert f"gcloud storage cp -r {kept}/* {out}/" in done.err
    assert kept.is_relative_to(tmp_path)
    assert {path.name for path in kept.iterdir()} > ARTIFACTS
    assert list(kept.glob("logs/**/metrics.csv"))
    assert "cannot be written: quota exceeded" in (kept / "training.log").read_text()
    unwell.well()
    for path in kept.rglob("*"):  # as gcloud would
        if path.is_file():
            bucket.folder("out").write(path.relative_to(kept).as_posix(), path.read_bytes())
    again = run_train(tmp_path, *LINE, f"output_dir={out}", "logger=csv")
    assert again.status == 0, again.err
    assert f"{out} holds this config's finished run" in again.out


# The whole


@pytest.mark.more(minutes=3)
def test_store_that_stays_unwell_is_given_up_after_six_tries_and_within_a_minute(
    bucket: Bucket, unwell: Faulty
) -> None:
    folder = bucket.folder("x")
    folder.write("a", REFUSED)
    before, began = len(unwell.asked), time.monotonic()
    unwell("status", said="the store is on fire")

    def error_of(what: Callable[[], Any]) -> tuple[str, float]:
        with pytest.raises(UserError) as error:
            what()
        return error.value.paragraph(), time.monotonic() - began

    todo = operations(folder, "a")
    with ThreadPoolExecutor(len(todo)) as pool:
        told = dict(zip(todo, pool.map(error_of, todo.values()), strict=True))
    for what, (said, seconds) in told.items():
        assert re.match(rf"error: (output_dir|data\.path): {folder.path}", said), (what, said)
        assert "the store is on fire, 503; it was tried for a while; say the same line again" in said, (what, said)
        assert 25 < seconds < 60, (what, seconds)
    assert len(unwell.asked) - before <= 6 * (len(todo) + 2)  # whether a name is there is two questions, or three


@pytest.mark.more
@pytest.mark.parametrize("seed", [0, 1])
def test_training_over_a_store_that_fails_by_chance_ends_as_over_a_sound_one(
    bucket: Bucket, unwell: Faulty, tmp_path: Path, seed: int
) -> None:
    folder = bucket.folder("data")
    rows = "a,b,label\n" + "".join(f"{n * 37 % 101},{n * 17 % 29},{n * 37 % 101 > 50}\n" for n in range(3000))
    path = folder.write("rows.csv", rows.encode())
    line = ["data=csv", f"data.path={path}", "data.target=label", "epochs=5", "threads=1", "checkpoint_seconds=0.2"]
    whole = run_train(tmp_path, *line, "output_dir=whole")
    assert whole.status == 0, whole.err
    unwell.chaos(seed, 0.35)
    done = run_train(tmp_path, *line, f"output_dir={bucket.uri('out')}")
    unwell.well()
    assert done.status == 0, done.err
    assert unwell.done > 3
    out = bucket.folder("out")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("model.pt", "eval_history.csv", "metrics.json", "training.log"):
        (here / name).write_bytes(out.read(name) or b"")
    assert left_by(here) == left_by(tmp_path / "whole")
    assert not [name for name in out.names() if "ckpt" in name]


@pytest.mark.more
def test_checkpoints_that_cannot_be_uploaded_do_not_stop_the_training(
    bucket: Bucket, unwell: Faulty, tmp_path: Path
) -> None:
    unwell("status", **upload_of(r"\.ckpt"))
    began = time.monotonic()
    line = ["data=digits", "epochs=10", "patience=10", "threads=1", "checkpoint_seconds=0"]
    done = run_train(tmp_path, *line, f"output_dir={bucket.uri('out')}")
    assert done.status == 0, done.err
    assert time.monotonic() - began < 100, "one checkpoint was tried, and the next is far away"
    assert done.out.count("tried again with the next checkpoint") == 1
    assert "metrics.json" in bucket.folder("out").names()


@pytest.mark.more
def test_run_goes_on_from_a_checkpoint_when_the_store_is_well_again(
    bucket: Bucket, unwell: Faulty, tmp_path: Path
) -> None:
    line = ["data=digits", "epochs=40", "patience=40", "threads=1", "checkpoint_seconds=0.1"]
    whole = run_train(tmp_path, *line, "output_dir=whole")
    assert whole.status == 0, whole.err
    unwell("status", **upload_of(r"model\.pt"))
    out = bucket.folder("out")
    done = run_train(tmp_path, *line, f"output_dir={out.path}")
    assert done.status == 1, done.err
    assert "backend is unwell, 503; it was tried for a while" in done.err
    kept = rescued(done)
    assert left_by(kept) == left_by(tmp_path / "whole")
    assert any(NAME.search(name) for name in out.names())
    unwell.well()
    done = run_train(tmp_path, *line, f"output_dir={out.path}")
    assert done.status == 0, done.err
    assert "resumed at epoch" in done.out
    assert out.read("model.pt") == (tmp_path / "whole/model.pt").read_bytes()


@pytest.mark.more
def test_commands_before_and_after_a_training_say_what_the_store_says(
    bucket: Bucket, unwell: Faulty, tmp_path: Path
) -> None:
    rows = "a,b,label\n" + "".join(f"{n * 37 % 101},{n * 17 % 29},{n * 37 % 101 > 50}\n" for n in range(500))
    path = bucket.folder("data").write("rows.csv", rows.encode())
    (tmp_path / "rows.csv").write_text(rows)
    line = ["data=csv", f"data.path={path}", "data.target=label"]
    out = bucket.uri("out")
    assert run_train(tmp_path, *line, "epochs=1", f"output_dir={out}").status == 0

    def refused(status: int, said: str, *arguments: str) -> None:
        done = run_alphard(ROOT, *arguments)
        assert done.status == status, (arguments, done.out, done.err)
        assert re.fullmatch(f"error: {said}.*\n", done.err), done.err
        unwell.well()

    unwell("status", status=403, said="no", **upload_of(r"train\.npz"))
    prepared = bucket.uri("prepared")
    refused(1, rf"out: {prepared}/train.npz cannot be written: no, 403; grant", "prepare", *line, f"out={prepared}")
    assert "prepared.json" not in bucket.folder("prepared").names()
    unwell("status", status=403, said="no", method="GET", path=r"model\.pt")
    to = f"out={bucket.uri('told.csv')}"
    refused(2, rf"run: {out}/model.pt cannot be read: no, 403; grant", "predict", out, str(tmp_path / "rows.csv"), to)
    unwell("status", status=403, said="no", **upload_of(r"told\.csv"))
    refused(1, rf"out: {to[4:]} cannot be written: no, 403; grant", "predict", out, path, to)
    unwell("status", status=403, said="no", method="GET", path=r"told\.csv")
    refused(2, rf"out: {to[4:]} cannot be read: no, 403; grant", "predict", out, path, to)
    unwell("status", status=403, said="no", method="GET")
    refused(2, rf"folder: {out}\S* cannot be read: no, 403; grant", "results", out)
    unwell.chaos(3, 0.15)
    done = run_alphard(ROOT, "predict", out, path, to)
    assert done.status == 0, done.err
    done = run_alphard(ROOT, "prepare", *line, f"out={prepared}", "overwrite=true")
    assert done.status == 0, done.err
