"""A search whose folder is in a bucket, as that of a custom job is: carried there, gone on with, brought home."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from alphard.cli import main
from alphard.errors import TrainingError, UserError
from alphard.search import brought
from alphard.search import carried as module
from alphard.search.carried import Carried, carried
from alphard.storage import Folder
from tests.conftest import copied, run_train
from tests.killing import training, wait_for
from tests.test_packed import FIXED, PACKED, rows_of
from tests.vertex.bucket import Bucket
from tests.vertex.faulty import Faulty

LINE = (*FIXED, PACKED, "search.trials=8", "search.pack.keep=3", "model.net.hidden=[8]", "optimizer=adamw", "threads=1")
LINE += ("data=breast_cancer", "epochs=2", "search.initial=[]")
LONG = (*LINE, "search.trials=4000", "search.pack.size=40", "epochs=6", "checkpoint_seconds=1")
NAMES = ["experiment/mlp_best.yaml", "journal.log", "study.yaml", "trials.csv"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, where `alphard` is called."""
    folder = copied(tmp_path / "project", "configs", "vertex_ai/configs")
    monkeypatch.chdir(folder)
    return folder


def without_times(study: Path) -> dict[int, dict[str, str]]:
    return {number: {k: v for k, v in row.items() if k != "seconds"} for number, row in rows_of(study).items()}


def complete(there: Folder) -> int:
    """How many trials the journal there tells to be complete."""
    return (there.read("journal.log") or b"").count(b'"state":1,')


@pytest.mark.more(minutes=2)
def test_it_is_the_study_of_a_local_folder_and_comes_home(
    bucket: Bucket, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here := tmp_path / "here").mkdir()
    assert run_train(here, *LINE).status == 0
    base = bucket.uri("jobs/mlp/now")
    done = run_train(tmp_path, *LINE, AIP_MODEL_DIR=f"{base}/model/")  # as a custom job is told
    assert done.status == 0, done.err
    there = Folder(f"{base}/model")
    assert f"alphard results {there.path}    brings the study here" in done.out
    assert "/tmp" not in done.out
    names = there.names()
    assert [name for name in names if not name.startswith("trials/")] == NAMES
    assert len({name.split("/")[1] for name in names if name.startswith("trials/")}) == 3
    assert not (tmp_path / "studies").exists()
    assert not [name for name, content in there.read_all(names).items() if b"/tmp/" in content]

    Folder(base).write("job.json", b'{"jobSpec": {}}')
    for url, home in ((base, "studies/mlp-now"), (there.path, "studies/model")):
        assert main(["results", url]) == 0, capsys.readouterr()
        said = capsys.readouterr().out
        assert f"-> {home}" in said
        assert f"python train.py --config-dir {home} experiment={Path(home).name}_best" in said
        assert without_times(project / home) == without_times(here / "studies/mlp")
    best = min(rows_of(project / home).items(), key=lambda row: float(row[1]["validation_loss"]))[0]
    assert main(["retrain", "studies/mlp-now", "seeds=1", "baselines=false"]) == 0, capsys.readouterr()
    kept = (here / f"studies/mlp/trials/{best}/model.pt").read_bytes()
    assert (project / f"studies/mlp-now/trials/{best}/model.pt").read_bytes() == kept
    assert main(["results", base]) == 0
    assert (project / "studies/mlp-now/winner/model.pt").is_file()  # what was made here stays
    on = run_train(project, *LINE, "search.trials=9", "output_dir=studies/model")  # here, and not there
    assert on.status == 0, on.err
    assert main(["results", there.path]) == 0
    assert sorted(rows_of(project / "studies/model")) == [*range(9)]
    more = run_train(tmp_path, *LINE, "search.trials=10", f"output_dir={there.path}")
    assert more.status == 0, more.err
    capsys.readouterr()
    assert main(["results", there.path]) == 2
    assert "studies/model: has gone on here, and gs://" in capsys.readouterr().err
    assert main(["results", base]) == 0
    assert sorted(rows_of(project / "studies/mlp-now")) == [*range(10)]
    capsys.readouterr()
    assert main(["retrain", there.path]) == 2
    assert f"`alphard results {there.path}` brings the study" in capsys.readouterr().err

    again = run_train(tmp_path, *LINE, "search.trials=10", f"output_dir={there.path}")
    assert again.status == 0, again.err
    assert again.out.splitlines()[-1] == more.out.splitlines()[-1]
    warm = run_train(tmp_path, *LINE, f"search.warm_start={there.path}", "search.trials=2", "output_dir=warm")
    assert "warm start: 10 trials of gs://" in warm.out, warm.err
    none = run_train(tmp_path, *LINE, f"search.warm_start={bucket.uri('none')}", "output_dir=warm2")
    assert f"search.warm_start: {bucket.uri('none')}: holds no study" in none.err
    other = run_train(tmp_path, *LINE, "epochs=3", f"output_dir={there.path}")
    assert other.status == 2
    assert f"search: {there.path} holds another study (epochs: 2 there, 3 here)" in other.err


@pytest.mark.more(minutes=2)
def test_a_machine_that_is_lost_costs_seconds_and_the_next_one_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    there = bucket.folder("lost")
    line = (*LONG, f"output_dir={there.path}")
    with training(tmp_path, *line) as process:
        wait_for(lambda: complete(there) > 20, process)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    told = complete(there)
    done = run_train(tmp_path, *line, "search.time_budget=0.2")
    assert done.status == 0, done.err
    finished = int(re.search(r"(\d+) of 4000 trials are finished; the same line goes on", done.out)[1])
    assert finished > told
    assert complete(there) == finished


@pytest.mark.more
def test_ctrl_c_leaves_all_that_was_found(bucket: Bucket, tmp_path: Path) -> None:
    there = bucket.folder("stopped")
    with training(tmp_path, *LONG, f"output_dir={there.path}") as process:
        wait_for(lambda: complete(there) > 20, process)
        told = complete(there)
        time.sleep(2)
        os.kill(process.pid, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 130
    assert complete(there) > told  # what came after the last copy
    assert any(name.startswith("packs/") for name in there.names())  # from which those that were cut off go on


@pytest.mark.more
def test_what_cannot_be_written_at_the_end_stays_on_this_machine(
    unwell: Faulty, bucket: Bucket, tmp_path: Path
) -> None:
    unwell("status", method="POST|PUT", path=r"upload.*model\.pt|.*", body=b"trials/", status=403)
    done = run_train(tmp_path, *LINE, f"output_dir={bucket.uri('full')}")
    assert done.status == 1
    where = next(line for line in done.err.splitlines() if "the study lies in " in line).partition(" lies in ")[2]
    where = where.partition("; when it can be written: gcloud storage cp")[0]
    assert f"output_dir: {bucket.uri('full')}/trials/" in done.err
    assert len(rows_of(Path(where))) == 8
    shutil.rmtree(Path(where).parent)


def study_of(folder: Path) -> None:
    """What a search leaves, as far as carrying it goes."""
    study = folder / "mlp"
    (study / "trials/0").mkdir(parents=True)
    (study / "trials/0/model.pt").write_bytes(b"0")
    (study / "journal.log").write_bytes(b"1\n")
    (study / "study.yaml").write_bytes(b"{}\n")
    (study / ".lock").write_bytes(b"")


def begun(bucket: Bucket, folder: Path) -> Carried:
    """A study that is to lie in the bucket, before its first copy."""
    this = Carried(bucket.folder("s"), folder / "mlp")
    this.fetch()
    study_of(folder)
    return this


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr(module, "SHARE", 0.0)


def turn(this: Carried) -> None:
    """One copy, to its end."""
    this.carry()
    assert this.thread is not None
    this.thread.join()


@pytest.mark.usefixtures("at_once")
def test_folders_come_before_the_journal_that_tells_of_them_and_go_after_it(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    write, remove = Folder.write, Folder.remove

    def written(self: Folder, name: str, content: bytes) -> str:
        done.append(name)
        return write(self, name, content)

    def removed(self: Folder, name: str) -> None:
        done.append(f"-{name}")
        remove(self, name)

    this = begun(bucket, tmp_path)
    study = this.folder
    monkeypatch.setattr(Folder, "write", written)
    monkeypatch.setattr(Folder, "remove", removed)
    turn(this)
    assert done == [".search", "trials/0/model.pt", "journal.log", "study.yaml"]
    done.clear()
    shutil.rmtree(study / "trials/0")
    (study / "trials/1").mkdir()
    (study / "trials/1/model.pt").write_bytes(b"1")
    with (study / "journal.log").open("ab") as file:
        file.write(b"2\n")
    turn(this)
    assert done == ["trials/1/model.pt", "journal.log", "-trials/0/model.pt"]
    done.clear()
    turn(this)
    assert done == []
    this.end()
    assert this.there.names() == ["journal.log", "study.yaml", "trials/1/model.pt"]


@pytest.mark.usefixtures("at_once")
def test_what_is_carried_is_of_one_moment(bucket: Bucket, tmp_path: Path) -> None:
    """A trial that loses its folder, and a line that is told, while copying has begun, come with the next copy."""
    this = begun(bucket, tmp_path)
    study = this.folder
    (scratch := tmp_path / "scratch").mkdir()
    moment = this._now(scratch)
    shutil.rmtree(study / "trials/0")
    with (study / "journal.log").open("ab") as file:
        file.write(b"2\n")
    this.there.write(".search", this.claim)
    this._copy(moment, scratch)
    assert this.there.read_all([name for name in this.there.names() if name != ".search"]) == {
        "journal.log": b"1\n", "study.yaml": b"{}\n", "trials/0/model.pt": b"0",
    }  # fmt: skip


@pytest.mark.usefixtures("at_once")
def test_of_two_the_one_that_began_later_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    there = bucket.folder("s")
    first = begun(bucket, tmp_path / "a")
    turn(first)
    second = Carried(there, tmp_path / "b/mlp")
    second.fetch()
    for each, line in ((second, b"second\n"), (first, b"first\n")):
        with (each.folder / "journal.log").open("ab") as file:
            file.write(line)
        (each.folder / "trials/0/model.pt").write_bytes(line)
        turn(each)
    with pytest.raises(UserError, match="another search goes on with this study now; this one ends"):
        first.carry()
    with pytest.raises(UserError, match="another search"):
        first.end()
    second.end()
    assert there.read("journal.log") == b"1\nsecond\n"
    assert there.read("trials/0/model.pt") == b"second\n"


@pytest.mark.usefixtures("at_once")
def test_what_is_taken_away_there_is_carried_there_again(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    this = begun(bucket, tmp_path)
    turn(this)
    for name in this.there.names():
        this.there.remove(name)
    turn(this)
    turn(this)
    assert "s: what lay there has been taken away; tried again" in capsys.readouterr().out
    assert this.there.names() == [".search", "journal.log", "study.yaml", "trials/0/model.pt"]
    for name in this.there.names():
        this.there.remove(name)
    this.end()
    assert this.there.names() == ["journal.log", "study.yaml", "trials/0/model.pt"]


@pytest.mark.usefixtures("at_once")
def test_what_says_where_it_lies_says_where_it_lies_there(bucket: Bucket, tmp_path: Path) -> None:
    this = begun(bucket, tmp_path)
    (this.folder / "trials/0/metrics.json").write_text(f'{{"model_uri": "{this.folder}/trials/0/model.pt"}}')
    turn(this)
    assert (
        this.there.read("trials/0/metrics.json") == f'{{"model_uri": "{this.there.path}/trials/0/model.pt"}}'.encode()
    )


@pytest.mark.usefixtures("at_once")
def test_a_store_that_fails_is_asked_again_and_what_was_raised_before_stands(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(self: Folder, name: str, content: bytes) -> str:
        raise TrainingError(f"output_dir: {self.uri(name)} cannot be written: no")

    write = Folder.write
    this = begun(bucket, tmp_path)
    turn(this)
    (this.folder / "trials/0/model.pt").write_bytes(b"more")
    monkeypatch.setattr(Folder, "write", fails)
    turn(this)
    turn(this)
    assert "cannot be written: no; tried again" in capsys.readouterr().out
    monkeypatch.setattr(Folder, "write", write)
    this.end()
    assert len(this.there.names()) == 3

    there = bucket.folder("other")
    with pytest.raises(UserError) as caught, carried(there, "mlp") as this:  # noqa: PT012  what a search does inside
        study_of(this.folder.parent)
        turn(this)
        (this.folder / "trials/0/model.pt").write_bytes(b"more")
        monkeypatch.setattr(Folder, "write", fails)
        raise UserError(f"search: {this.folder} holds another study")
    assert caught.value.problems == (f"search: {there.path} holds another study",)
    assert f"the study lies in {this.folder}; when it can be written: gcloud storage cp -r" in capsys.readouterr().out
    assert (this.folder / "journal.log").is_file()
    shutil.rmtree(this.folder.parent)


@pytest.mark.parametrize("name", ["trials/../../out", "/etc/out", "trials//out", ".lock", "trials/0/.model.pt.x1"])
def test_what_leads_out_of_a_study_or_is_half_written_is_no_part_of_it(name: str) -> None:
    assert not brought.is_ours(name)


def test_what_is_no_study_is_not_brought(bucket: Bucket, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(url: str) -> str:
        assert main(["results", url]) == 2
        return capsys.readouterr().err

    about: dict[str, object] = {"configs": {"folder": ".", "name": "config", "extra": [], "overrides": []}}
    about = about | {"overrides": [], "search": {"objective": "x", "direction": "maximize", "space": {}}}
    content = json.dumps(about).encode()
    bucket.fill({"s/study.yaml": content})
    assert "study.yaml: is not what a search writes: configs.choices" in refused(bucket.uri("s"))
    assert not (project / "studies/s/study.yaml").exists()
    Path("studies/s").mkdir(parents=True, exist_ok=True)
    Path("studies/s/study.yaml").write_text(
        "configs: {folder: ., name: config, extra: [], overrides: [], choices: {}, groups: []}\noverrides: []\n"
        "search: {objective: x, direction: maximize, space: {}}\n"
    )
    bucket.fill({"s/study.yaml": Path("studies/s/study.yaml").read_bytes()})
    assert "s: its storage knows no study" in refused(bucket.uri("s"))
    bucket.fill({"j/job.json": b'{"jobSpec": {}}'})
    assert f"j: has left nothing in {bucket.uri('j/model')} yet; say it again later" in refused(bucket.uri("j"))
