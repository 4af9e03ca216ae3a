"""A tuning job's results as a study: by its name or by its folder, while it runs and afterwards."""

import json
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from omegaconf import OmegaConf

from alphard.cli import main
from alphard.search import results
from alphard.storage import Folder
from tests.conftest import ROOT, copied, run_train
from tests.in_process import run_here
from tests.spent import ROOM
from tests.vertex.bucket import Bucket
from tests.vertex.service import Resource, Service
from vertex_ai import job as jobs
from vertex_ai.places import Direct

pytestmark = pytest.mark.more(minutes=4)  # 200 trials, several times

LINE = ["search=mlp", "data=breast_cancer", "epochs=2", "search.trials=200", "search.parallel=8"]
GIVEN = ["project=p", "region=europe-west4", "image=i"]
ARTIFACTS = ("config.yaml", "metrics.json", "eval_history.csv", "training.log", "model.pt", "learning_curves.png")
BEST = 77
LeftBy = tuple[dict[str, Any], float, dict[str, bytes]]  # a trial's values, its objective, its artifacts


@dataclass
class Told:
    """What the service tells of a job that it ran."""

    known: list[dict[str, Any]] = field(default_factory=list)
    state: str = "JOB_STATE_SUCCEEDED"
    error: None = None

    @property
    def trials(self) -> list[dict[str, Any]]:
        """A list that the service may shuffle."""
        return list(self.known)

    def cancel(self) -> None:
        """Nothing of it runs."""


@dataclass
class Searched:
    """A job of 200 trials, in a bucket and known to the service.

    values: each trial's objective, by its number here; chosen: its values of the space.
    """

    name: str
    base: str
    bucket: Bucket
    told: Told
    endpoint: str
    values: list[float]
    chosen: list[dict[str, Any]]

    def at(self, id: int) -> Folder:
        """Where trial `id` of Vertex AI's left its files."""
        return Folder(f"{self.base}/{id}/model")

    def begun(self, count: int) -> None:
        """Only so many trials have begun."""
        del self.told.known[count:]
        objects = self.bucket.server._storage.objects[self.bucket.name]
        for path in list(objects):
            if (match := re.search(r"/(\d+)/model/", path)) and int(match[1]) > count:
                del objects[path]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> list[LeftBy]:
    """200 trials' values, objectives and artifacts: those of a real run with each optimizer, with other numbers."""
    trained: dict[str, dict[str, bytes]] = {}
    for optimizer in ("adamw", "sgd"):
        folder = tmp_path_factory.mktemp(optimizer)
        run_here(folder, *LINE[1:3], f"optimizer={optimizer}", f"output_dir={folder}")
        trained[optimizer] = {name: (folder / name).read_bytes() for name in ARTIFACTS}
    draw, found = random.Random(0), []
    for number in range(200):
        chosen = {
            "learning_rate": 10 ** draw.uniform(-4, -1),
            "model.net.hidden": draw.choice([[64], [128, 64], [256, 128]]),
            "model.net.dropout": draw.uniform(0, 0.5),
            "optimizer": draw.choice(["adamw", "sgd"]),
        }
        chosen |= {"optimizer.momentum": draw.uniform(0.5, 0.99)} if chosen["optimizer"] == "sgd" else {}
        value = 0.99 if number == BEST else 0.9 + number / 10000
        files = dict(trained[chosen["optimizer"]])
        config = yaml.load(files["config.yaml"], yaml.CSafeLoader)
        config["learning_rate"], config["model"]["net"]["hidden"] = chosen["learning_rate"], chosen["model.net.hidden"]
        config["model"]["net"]["dropout"] = chosen["model.net.dropout"]
        config["optimizer"] |= {"momentum": chosen["optimizer.momentum"]} if chosen["optimizer"] == "sgd" else {}
        files["config.yaml"] = yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False).encode()
        files["metrics.json"] = json.dumps(json.loads(files["metrics.json"]) | {"validation_accuracy": value}).encode()
        found.append((chosen, value, files))
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, to call alphard in."""
    monkeypatch.chdir(copied(tmp_path, "configs", "vertex_ai/configs"))
    for name in ("AIP_MODEL_DIR", "VERTEX_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "service", Direct(ROOT), base="") as running:
        yield running


@pytest.fixture
def searched(project: Path, bucket: Bucket, stand_in: Service, left: list[LeftBy]) -> Searched:
    this = jobs.of_line([*LINE, *GIVEN, f"base={bucket.uri('alphard')}"])
    inside = this.base.removeprefix(f"gs://{bucket.name}/")
    bucket.fill({f"{inside}/job.json": json.dumps(this.job).encode()})
    told = Told()
    for id, (chosen, value, files) in enumerate(left, 1):
        bucket.fill({f"{inside}/{id}/model/{name}": content for name, content in files.items()})
        texts = {key: str(one).replace(" ", "") if isinstance(one, list) else one for key, one in chosen.items()}
        told.known.append(
            {
                "id": str(id),
                "state": "SUCCEEDED",
                "parameters": [{"parameterId": key, "value": one} for key, one in texts.items()],
                "finalMeasurement": {
                    "stepCount": "3",
                    "metrics": [{"metricId": "validation_accuracy", "value": value}],
                },
            }
        )
    name = "projects/p/locations/europe-west4/hyperparameterTuningJobs/123"
    began, ended = "2026-11-21T15:00:00Z", "2026-11-21T16:00:00Z"
    known = Resource(this.job, "hyperparameterTuningJobs", name, told, began, ended=ended)  # type: ignore[arg-type]
    known.over.set()
    stand_in.jobs["123"] = known
    values = [value for _, value, _ in left]
    return Searched(name, this.base, bucket, told, f"endpoint={stand_in.address}", values, [one for one, *_ in left])


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def alphard(capsys: pytest.CaptureFixture[str]) -> Call:
    """`alphard …`: its status, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return (main(words), *capsys.readouterr())

    return call


def must_hold(study: Path, searched: Searched) -> None:
    """The study has every trial, with its values, its objective and its files."""
    table = results.table(study)
    assert len(table) == 200
    assert table["trial"][0] == BEST
    for _, row in table.iterrows():
        number, known = row["trial"], searched.chosen[row["trial"]]
        assert (row["state"], row["validation_accuracy"]) == ("complete", searched.values[number])
        assert row["learning_rate"] == pytest.approx(known["learning_rate"], rel=1e-12)
        assert row["model.net.hidden"] == known["model.net.hidden"]
        assert row["optimizer"] == known["optimizer"]
        if known["optimizer"] == "sgd":
            assert row["optimizer.momentum"] == pytest.approx(known["optimizer.momentum"], rel=1e-12)
        home = study / "trials" / str(number)
        assert json.loads((home / "metrics.json").read_text())["validation_accuracy"] == searched.values[number]
        names = {path.name for path in home.iterdir()}
        assert names == {*ARTIFACTS} if number == BEST else {*ARTIFACTS[:4]} <= names


@pytest.mark.parametrize("by", ["name", "folder"])
def test_200_trials_are_gathered(searched: Searched, alphard: Call, by: str) -> None:
    began = time.process_time()
    word = searched.name if by == "name" else f"{searched.base}/"
    study = Path("studies/123" if by == "name" else f"studies/mlp-{searched.base.rpartition('/')[2]}")
    status, out, err = alphard("results", word, searched.endpoint)
    took = time.process_time() - began
    assert (status, err) == (0, "")
    assert took < ROOM * 10, f"200 trials by their {by}, in seconds"
    assert "200 of 200 trials" in out
    assert "trial n here is trial n + 1 there" in out
    assert out.splitlines()[-1] == "validation_accuracy: 0.990000"
    must_hold(study, searched)
    assert [path.parent.name for path in study.glob("trials/*/model.pt")] == [str(BEST)], "a model is large"
    status, again, err = alphard("results", str(study))
    assert (status, err) == (0, "")
    assert again == out[out.index(again[:20]) :], "as of a local study"


@pytest.mark.more
def test_everything_later_works_on_it(searched: Searched, alphard: Call, project: Path) -> None:
    assert alphard("results", searched.name, searched.endpoint)[0] == 0
    done = run_train(project, "--config-dir", "studies/123", "experiment=123_best", "epochs=3", "output_dir=again")
    assert done.status == 0, done.err
    config = OmegaConf.load(project / "again/config.yaml")
    assert config.learning_rate == pytest.approx(searched.chosen[BEST]["learning_rate"])
    assert config.model.net.hidden == searched.chosen[BEST]["model.net.hidden"]
    assert ("momentum" in config.optimizer) == (searched.chosen[BEST]["optimizer"] == "sgd")
    status, out, err = alphard("retrain", "studies/123", "seeds=2")
    assert (status, err) == (0, ""), out
    assert "in the search, 0.990000" in out
    warm = [
        "search=mlp",
        "search.warm_start=studies/123",
        "search.trials=1",
        "search.pruner.kind=none",
        "output_dir=warm",
    ]
    done = run_train(project, *warm, *LINE[1:3])
    assert done.status == 0, done.err
    assert "warm start: 200 trials of studies/123 are known; 0 lie outside this space" in done.out


def test_search_here_does_not_go_on_with_it(searched: Searched, alphard: Call, project: Path) -> None:
    assert alphard("results", searched.name, searched.endpoint)[0] == 0
    done = run_train(project, *LINE[:3], "output_dir=studies/123")
    assert done.status == 2
    assert "holds another study (" in done.err
    assert len(results.table("studies/123")) == 200


def test_job_is_gathered_while_it_runs_and_again(searched: Searched, alphard: Call, left: list[LeftBy]) -> None:
    searched.told.state = "JOB_STATE_RUNNING"
    objects = searched.bucket.server._storage.objects[searched.bucket.name]
    known, lying = list(searched.told.known), dict(objects)
    searched.begun(4)
    searched.told.known[2] = {key: value for key, value in known[2].items() if key != "finalMeasurement"}
    searched.told.known[2]["state"], searched.told.known[3] = "ACTIVE", known[3] | {"state": "REQUESTED"}
    searched.at(3).remove("metrics.json")
    status, out, err = alphard("results", searched.name, searched.endpoint)
    assert (status, err) == (0, "")
    assert "running, 4 of 200 trials" in out
    assert [(row["trial"], row["state"]) for _, row in results.table("studies/123").iterrows()] == [
        (1, "complete"),
        (0, "complete"),
        (2, "running"),
    ]
    searched.told.known, searched.told.state = known, "JOB_STATE_SUCCEEDED"
    objects |= lying
    searched.at(3).write("metrics.json", left[2][2]["metrics.json"])
    assert alphard("results", searched.name, searched.endpoint)[0] == 0
    must_hold(Path("studies/123"), searched)
    before = {path: path.stat().st_mtime_ns for path in Path("studies/123/trials").rglob("*")}
    assert alphard("results", searched.name, searched.endpoint)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in Path("studies/123/trials").rglob("*")} == before


def test_trials_without_a_result_say_why(searched: Searched, alphard: Call) -> None:
    searched.begun(7)
    told = searched.told
    told.state = "JOB_STATE_CANCELLED"
    for id, names in ((1, ARTIFACTS), (2, ARTIFACTS), (3, ARTIFACTS[4:]), (4, ("metrics.json",))):
        for name in names:
            searched.at(id).remove(name)
    told.known[1] |= {"state": "INFEASIBLE", "infeasibleReason": "no measurement"}
    told.known[2] |= {"state": "INFEASIBLE"}
    searched.at(3).write("training.log", b"epoch: 1\nerror: validation_loss: nan in epoch 1; training diverged\n")
    told.known[4]["state"] = "ACTIVE"
    told.known[5] |= {"finalMeasurement": {"metrics": [{"metricId": "other", "value": 1.0}]}}
    searched.at(6).write("metrics.json", b"{}")
    status, out, err = alphard("results", searched.name, searched.endpoint)
    assert (status, err) == (0, ""), out
    table = results.table("studies/123").set_index("trial")
    accuracy = searched.values[0]
    assert dict(table["error"][table["state"] == "failed"]) == {
        0: f"left nothing in {searched.base}/1/model; Vertex AI has validation_accuracy {accuracy:.6f} of it",
        1: f"infeasible: no measurement: left nothing in {searched.base}/2/model",
        2: "infeasible: validation_loss: nan in epoch 1; training diverged",
        4: "active when the job ended, cancelled",
        5: "no final measurement of validation_accuracy",
    }
    assert table["state"][3] == "complete"
    assert table["validation_accuracy"][3] == searched.values[3], "as the service measured it"
    assert "2 left nothing" in out
    assert "trials: 7 (2 complete, 5 failed)" in out


def test_folder_alone_tells_of_failures_and_gaps(searched: Searched, alphard: Call) -> None:
    searched.begun(5)
    for name in ARTIFACTS:
        searched.at(2).remove(name)
    for id, log in ((3, b"epoch: 1\n"), (4, b"epoch: 1\nerror: CUDA out of memory\n")):
        searched.at(id).remove("metrics.json")
        searched.at(id).write("training.log", log)
    searched.at(5).write("metrics.json", json.dumps({"validation_accuracy": 0.5, "stopped_by": "SIGTERM"}).encode())
    assert alphard("results", searched.base)[0] == 0
    table = results.table(next(Path("studies").iterdir())).set_index("trial")
    assert dict(table["state"]) == {0: "complete", 1: "failed", 2: "running", 3: "failed", 4: "failed"}
    assert dict(table["error"].dropna()) == {
        1: f"left nothing in {searched.base}/2/model",
        3: "CUDA out of memory",
        4: "stopped by SIGTERM",
    }
    assert table["optimizer"][2] == searched.chosen[2]["optimizer"]


def test_what_the_bucket_has_forgotten_stays(searched: Searched, alphard: Call) -> None:
    searched.begun(3)
    assert alphard("results", searched.name, searched.endpoint)[0] == 0
    searched.bucket.server._storage.objects[searched.bucket.name].clear()
    assert alphard("results", searched.name, searched.endpoint)[0] == 0
    table = results.table("studies/123")
    assert list(table["state"]) == ["complete"] * 3
    assert list(table["validation_accuracy"]) == searched.values[2::-1]


def test_what_is_no_tuning_job_is_one_clear_error(
    searched: Searched, alphard: Call, bucket: Bucket, stand_in: Service, project: Path
) -> None:
    name, endpoint = searched.name, searched.endpoint

    def refused(*words: str) -> str:
        status, out, err = alphard("results", *words)
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert not Path("studies").exists()
        return err

    assert "are the project p, the region europe-west4" in refused(name.replace("123", "124"), endpoint)
    assert "is no job's name" in refused("projects/p/locations/europe-west4/123", endpoint)
    assert "baset=x: is no setting of a job" in refused(name, "baset=x")
    assert "give one job's name or folder" in refused(name, searched.base)
    assert f"{bucket.uri('nothing/job.json')} is not there, so this is no job's folder" in refused(
        bucket.uri("nothing")
    )
    assert "gs://no-such-bucket/x/job.json is not there" in refused("gs://no-such-bucket/x")
    bucket.folder("torn").write("job.json", b'{"studySpec')
    assert "torn/job.json is no job's" in refused(bucket.uri("torn"))
    custom = jobs.of_line([*LINE[1:3], *GIVEN, f"base={bucket.uri('c')}"]).job
    bucket.folder("custom").write("job.json", json.dumps(custom).encode())
    assert f"custom: has left nothing in {bucket.uri('custom/model')} yet" in refused(bucket.uri("custom"))
    job = stand_in.jobs["123"].job
    del job["trialJobSpec"]["baseOutputDirectory"]
    assert "has no baseOutputDirectory, so that it left nothing" in refused(name, endpoint)
    job["trialJobSpec"]["baseOutputDirectory"] = {"outputUriPrefix": bucket.uri("empty")}
    searched.told.known = []
    assert "no trial has left anything yet" in refused(name, endpoint)
    job["trialJobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"] = ["experiment=lost"]
    assert "the job's arguments do not fit configs/ here: " in refused(name, endpoint)
    assert "nothing is known that opens nosuch://" in refused("nosuch://b/x")


def test_another_studys_folder_is_left_alone(searched: Searched, alphard: Call) -> None:
    Path("studies/123").mkdir(parents=True)
    about = "configs: {folder: ., name: config, extra: [], overrides: [], choices: {}, groups: []}\noverrides: []\n"
    about += "search: {objective: x, direction: maximize, space: {}}\n"
    Path("studies/123/study.yaml").write_text(about)
    status, out, err = alphard("results", searched.name, searched.endpoint)
    assert (status, out) == (2, "")
    assert "studies/123: holds another study" in err
    assert Path("studies/123/study.yaml").read_text() == about
    assert os.listdir("studies/123") == ["study.yaml"]


SHORT = ["search=mlp", "data=breast_cancer", "search.trials=3"]
PLAIN = ["search.algorithm=random", "search.space={learning_rate:'interval(0.001,0.1)'}"]
METRICS = b'{"validation_accuracy": 0.9, "best_epoch": 2, "val_rows": 100}'


@dataclass
class Hostile:
    """A job's folder that others may write to.  job: as it was posted; config: a trial's, as it was trained."""

    job: dict[str, Any]
    config: dict[str, Any]
    base: Folder

    def put(self, *trials: int) -> None:
        """job.json, and what each of these trials leaves."""
        self.base.write("job.json", json.dumps(self.job).encode())
        for id in trials:
            self.leave(id)

    def leave(self, id: int, **config: Any) -> None:
        """What a trial leaves, with other values in its config."""
        self.base.write(f"{id}/model/config.yaml", yaml.safe_dump(self.config | config).encode())
        self.base.write(f"{id}/model/metrics.json", METRICS)
        self.base.write(f"{id}/model/eval_history.csv", b"epoch,seconds\n1,2.5\n")


@pytest.fixture
def hostile(project: Path) -> Iterator[Hostile]:
    this = jobs.of_line([*SHORT, *PLAIN, *GIVEN, "base=gs://b"])
    config = OmegaConf.to_container(this.config)
    assert isinstance(config, dict)
    base = Folder(f"memory://{project.name}/mlp/now")
    yield Hostile(json.loads(json.dumps(this.job)), {**config, "learning_rate": 0.01}, base)  # type: ignore[dict-item]
    base.fs.store.clear()


@pytest.mark.parametrize("said", ["hydra.searchpath=[pkg://evilpkg]", "+model@hydra.callbacks=mlp", "model=../../evil"])
def test_foreign_jobs_arguments_import_nothing(
    hostile: Hostile, alphard: Call, project: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "evilpkg").mkdir()
    (project / "evilpkg/__init__.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    (project / "evilpkg/evil").mkdir()
    (project / "evilpkg/evil/x.yaml").write_text("a: 1\n")
    monkeypatch.syspath_prepend(project)
    hostile.job["trialJobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"] = [said, "+evil=x"]
    hostile.put(1)
    status, out, err = alphard("results", hostile.base.path)
    assert (status, out) == (2, "")
    assert said in err
    assert not Path("ran").exists()
    assert not Path("studies").exists()


def test_trials_config_reads_nothing_of_this_machine(
    hostile: Hostile, alphard: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRETX", "0.0770077")
    hostile.put()
    hostile.leave(1, learning_rate="${oc.env:SECRETX}")
    hostile.leave(2, patience="${epochs}")
    status, out, err = alphard("results", hostile.base.path)
    assert (status, err) == (0, "")
    assert "0770077" not in out
    assert b"0770077" not in b"".join(path.read_bytes() for path in Path("studies").rglob("*") if path.is_file())
    table = results.table(next(Path("studies").iterdir())).set_index("trial")
    assert dict(table["state"]) == {0: "failed", 1: "complete"}
    assert table["error"][0].startswith("config.yaml: learning_rate: is a reference; ")
    assert table["learning_rate"][1] == 0.01


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)
BAD = {
    "metrics.json": [b'{"validation_accuracy": 1' + b"0" * 400 + b"}", b"[" * 100_000],
    "eval_history.csv": [b"epoch,seconds\n1," + b"9" * 200_000 + b"\n", b"epoch,seconds\n1,inf\n"],
    "config.yaml": [ALIASES.encode(), b"[" * 100_000, b"a: " + b"x" * 2_000_000],
}


def test_bad_file_is_its_own_trials_alone(hostile: Hostile, alphard: Call) -> None:
    bad = [(name, content) for name, contents in BAD.items() for content in contents]
    hostile.job["maxTrialCount"] = len(bad) + 1
    hostile.put(*range(1, len(bad) + 2))
    for id, (name, content) in enumerate(bad, 2):
        hostile.base.write(f"{id}/model/{name}", content)
    hostile.base.write("3000000/model/metrics.json", METRICS)
    began = time.process_time()
    status, out, err = alphard("results", hostile.base.path)
    assert (status, err) == (0, ""), out
    assert time.process_time() - began < ROOM * 10
    table = results.table(next(Path("studies").iterdir())).set_index("trial").sort_index()
    states = {"metrics.json": "running", "eval_history.csv": "complete", "config.yaml": "failed"}
    assert list(table["state"]) == ["complete", *(states[name] for name, _ in bad)], "as without that file"
    assert table["seconds"][0] == 2.5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trialJobSpec": "x"}, "is no job of ours"),
        ({"trialJobSpec": {"workerPoolSpecs": None}}, "is no job of ours"),
        ({"studySpec": [1]}, "is no job of ours"),
        ({"maxTrialCount": "abc"}, "is no job of ours: its maxTrialCount is no count"),
        ({"maxTrialCount": 999_999_999}, "2999999 trials before it have left nothing"),
        (None, "job.json is no job's"),
    ],
)
def test_job_that_is_misshapen_is_one_error(hostile: Hostile, alphard: Call, change: Any, why: str) -> None:
    hostile.job |= change or {}
    hostile.put()
    hostile.leave(3_000_000)
    if change is None:
        hostile.base.write("job.json", b"[" * 100_000)
    status, out, err = alphard("results", hostile.base.path)
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1
    assert not Path("studies").exists()


@pytest.mark.more
def test_job_that_really_ran_is_a_study(project: Path, bucket: Bucket, stand_in: Service, alphard: Call) -> None:
    line = ["search=mlp", "data=breast_cancer", "search.algorithm=random", "search.trials=3"]
    line += ["epochs=int(interval(2,4))", *GIVEN, f"base={bucket.uri('alphard')}", f"endpoint={stand_in.address}"]
    status, out, err = alphard("submit", *line, "wait=true")
    assert status == 0, out + err
    name = next(line for line in out.splitlines() if line.startswith("projects/"))
    status, out, err = alphard("results", name, f"endpoint={stand_in.address}")
    assert (status, err) == (0, "")
    table = results.table(f"studies/{name.rpartition('/')[2]}")
    assert list(table["state"]) == ["complete"] * 3
    base = next(iter(stand_in.jobs.values())).job["trialJobSpec"]["baseOutputDirectory"]["outputUriPrefix"]
    assert alphard("results", base)[0] == 0
    mine, time = base.rstrip("/").split("/")[-2:]
    by_folder = results.table(f"studies/{mine}-{time}")
    pandas.testing.assert_frame_equal(by_folder, table, obj="what the folder alone tells")
    for _, row in table.iterrows():
        config = OmegaConf.load(f"studies/{mine}-{time}/trials/{row['trial']}/config.yaml")
        assert (config.epochs, config.learning_rate) == (row["epochs"], row["learning_rate"])


@pytest.mark.more
def test_bucket_that_cannot_be_reached_is_one_clear_error(
    project: Path, alphard: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    status, out, err = alphard("results", "gs://mine/mlp/2026-11-21T15-00-00Z")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert re.search(r"gs://mine/mlp/2026-11-21T15-00-00Z\S* cannot be read: .*[Cc]onnect", err)
    assert err.count("\n") == 1
