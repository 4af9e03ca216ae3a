"""A job run as the service runs it: real processes, which here do nothing but tell how they were called."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphard.errors import Interrupted
from vertex_ai import attempt
from vertex_ai.engine import Engine
from vertex_ai.places import Direct, place_for
from vertex_ai.played import Played, measurements, words
from vertex_ai.suggestions import Suggestions

Job = dict[str, Any]

# A trial that tells how it was called, and does what the job's own arguments say.
TRIAL = """
import json, os, signal, sys, time
say = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word and not word.startswith("-"))
folder = os.environ.get("AIP_MODEL_DIR", say.get("at", "."))
os.makedirs(folder, exist_ok=True)
name = os.environ.get("RANK", "0")
before = sum(one.startswith(f"called-{name}-") for one in os.listdir(folder))
with open(os.path.join(folder, f"called-{name}-{before}.tmp"), "w") as file:
    json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ), "pid": os.getpid(), "cwd": os.getcwd()}, file)
os.rename(file.name, file.name.removesuffix(".tmp") + ".json")
print("called", *sys.argv[1:], flush=True)
if say.get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if say.get("child"):
    child = os.fork()
    if not child:
        time.sleep(1000)
    with open(os.path.join(folder, "child.tmp"), "w") as file:
        file.write(str(child))
    os.rename(file.name, file.name.removesuffix(".tmp"))
if say.get("hangs") in ("yes", name, "trial" + os.environ.get("CLOUD_ML_TRIAL_ID", "")):
    print("hangs", flush=True)
    time.sleep(1000)
if name == say.get("fails", "no") or before < int(say.get("failures", 0)):
    print(f"error: for the {before + 1}. time", file=sys.stderr)
    sys.exit(3)
if garbage := os.environ.get("CLOUD_ML_TRIAL_ID") == "2" and say.get("garbage"):
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "wb") as file:
        file.write(bytes.fromhex(garbage))
    sys.exit()
with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "w") as file:
    for step, value in enumerate(json.loads(say.get("reports", "[0.25, 0.5]")), 1):
        line = {"timestamp": 1.0, "trial": os.environ.get("CLOUD_ML_TRIAL_ID", "0"), "global_step": str(step)}
        file.write(json.dumps(line | {say.get("tag", "score"): str(value)}) + "\\n")
"""

SPACE = [
    {"parameterId": "rate", "scaleType": "UNIT_LOG_SCALE", "doubleValueSpec": {"minValue": 1e-6, "maxValue": 0.1}},
    {"parameterId": "epochs", "integerValueSpec": {"minValue": "1", "maxValue": "9"}},
    {"parameterId": "size", "discreteValueSpec": {"values": [16, 64.0]}},
    {
        "parameterId": "kind",
        "categoricalValueSpec": {"values": ["plain", "[64,32]"]},
        "conditionalParameterSpecs": [
            {
                "parameterSpec": {"parameterId": "depth", "integerValueSpec": {"minValue": 1, "maxValue": 2}},
                "parentCategoricalValues": {"values": ["plain"]},
            }
        ],
    },
]


def job(*arguments: str, trials: int = 3, parallel: int = 1, failures: int = 5, pools: int = 1, **more: Any) -> Job:
    container = {"imageUri": "none", "args": [*arguments], "env": [{"name": "MINE", "value": "a b"}]}
    pool = {"machineSpec": {"machineType": "n1-standard-4"}, "replicaCount": 1, "containerSpec": container}
    spec = {"workerPoolSpecs": [pool] * min(pools, 1), "baseOutputDirectory": {"outputUriPrefix": "gs://none/at-all"}}
    if pools > 1:
        spec["workerPoolSpecs"] = [pool, pool | {"replicaCount": pools - 1}]
    spec["scheduling"] = more.pop("scheduling", {"timeout": "3600s"})
    study = {"metrics": [{"metricId": "score", "goal": "MAXIMIZE"}], "parameters": SPACE} | more
    counts = {"maxTrialCount": trials, "parallelTrialCount": parallel, "maxFailedTrialCount": failures}
    return {"displayName": "test", "studySpec": study, "trialJobSpec": spec, **counts}


def custom(*arguments: str, **more: Any) -> Job:
    return {"displayName": "test", "jobSpec": job(*arguments, **more)["trialJobSpec"]}


@pytest.fixture
def place(tmp_path: Path) -> Direct:
    script = tmp_path / "project/convert_command.sh"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable} -IS\n{TRIAL}")
    script.chmod(0o755)
    return Direct(script.parent)


@pytest.fixture
def engine(place: Direct, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    found: list[Engine] = []

    def make(this: Job, **settings: Any) -> Engine:
        found.append(Engine(this, str(tmp_path / "base"), place, tmp_path / "work", **settings))
        return found[-1]

    yield make
    for one in found:
        one.cancel()


def calls(folder: str | Path | None, rank: int = 0) -> list[dict[str, Any]]:
    assert folder is not None
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob(f"called-{rank}-*.json"))]


def gone(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def in_thread(engine: Engine) -> threading.Thread:
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for what other processes do, which sends no event."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


# ---- A job that goes well ----


def test_a_tuning_job_s_trials_end_with_their_final_measurement(engine: Callable[..., Engine]) -> None:
    this = engine(job("experiment=mine", trials=4, parallel=2))
    assert this.state == "JOB_STATE_PENDING"
    assert this.run() == this.state == "JOB_STATE_SUCCEEDED"
    assert [trial["id"] for trial in this.trials] == ["1", "2", "3", "4"]
    for trial in this.trials:
        assert trial["state"] == "SUCCEEDED"
        assert trial["finalMeasurement"] == {"stepCount": "2", "metrics": [{"metricId": "score", "value": 0.5}]}
        assert trial["startTime"] < trial["endTime"]
        assert {one["parameterId"] for one in trial["parameters"]} - {"depth"} == {"rate", "epochs", "size", "kind"}
    json.dumps(this.trials)


def test_a_trial_has_vertex_s_environment_and_no_other_s(
    engine: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = ("CLOUD_ML_JOB_ID", "AIP_DATA_FORMAT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "SM_HPS")
    for name in (*foreign, "TF_CONFIG", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("ALPHARD_SEALED", "0")
    this = engine(job(trials=1))
    this.run()
    (call,) = calls(this.played[0].folder)
    told = call["environment"]
    base = tmp_path / "base/1"
    assert told["AIP_MODEL_DIR"] == f"{base}/model/"
    assert told["AIP_CHECKPOINT_DIR"] == f"{base}/checkpoints/"
    assert told["AIP_TENSORBOARD_LOG_DIR"] == f"{base}/logs/"
    assert told["CLOUD_ML_TRIAL_ID"] == "1"
    assert told["CLOUD_ML_HP_METRIC_FILE"] == str(tmp_path / "work/1/output.metrics")
    assert told["MINE"] == "a b"
    assert told["ALPHARD_SEALED"] == "1"
    assert told["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert not {*told} & {*foreign, "TF_CONFIG", "SLURM_NTASKS"}
    cluster = json.loads(told["CLUSTER_SPEC"])
    assert cluster["task"] == {"type": "workerpool0", "index": 0, "trial": "1"}
    assert [*cluster["cluster"]] == ["workerpool0"]
    assert call["cwd"] == os.getcwd()


def test_a_custom_job_has_one_run_and_no_trial_id(engine: Callable[..., Engine], tmp_path: Path) -> None:
    this = engine(custom("experiment=mine", "learning_rate=0.01", "tag=anything"))
    assert this.run() == "JOB_STATE_SUCCEEDED"
    assert this.trials == []
    (call,) = calls(tmp_path / "base/model")
    assert call["arguments"] == ["experiment=mine", "learning_rate=0.01", "tag=anything"]
    assert "CLOUD_ML_TRIAL_ID" not in call["environment"]
    assert this.played[0].attempts[0].logs["workerpool0-0"].read_text().startswith("called experiment=mine")


def test_without_a_base_folder_none_is_told(place: Direct, tmp_path: Path) -> None:
    this = custom(f"at={tmp_path}")
    del this["jobSpec"]["baseOutputDirectory"]
    engine = Engine(this, None, place, tmp_path / "work")
    assert engine.run() == "JOB_STATE_SUCCEEDED"
    assert not [name for name in calls(tmp_path)[0]["environment"] if name.startswith("AIP_")]


def test_parameters_stand_behind_the_job_s_arguments_in_every_form(engine: Callable[..., Engine]) -> None:
    this = engine(job("experiment=mine", trials=4))
    this.run()
    for played in this.played:
        (call,) = calls(played.folder)
        assert call["arguments"] == ["experiment=mine", *played.words]
    forms = Counter()
    for played in this.played:
        first = played.words[0]
        forms["="] += first.startswith("--rate=")
        forms[" "] += first == "--rate"
        text = first.partition("=")[2] or played.words[1]
        assert float(text) == played.values()["rate"]
        forms["long"] += len(text.split("e")[0]) == 18
    assert forms == {"=": 2, " ": 2, "long": 2}


def test_the_forms_of_numbers() -> None:
    kinds = {"a": "integerValueSpec", "b": "discreteValueSpec", "c": "doubleValueSpec", "d": "categoricalValueSpec"}
    values = [{"parameterId": key, "value": value} for key, value in zip("abcd", (64.0, 0.5, 1e-05, "64"), strict=True)]
    assert words(values, kinds, 1) == ["--a=64", "--b=0.5", "--c=1e-05", "--d=64"]
    assert words(values, kinds, 2)[:2] == ["--a", "64.0"]
    assert words(values, kinds, 3) == ["--a=64.0", "--b=5.0000000000000000e-01", "--c=1.0000000000000001e-05", "--d=64"]
    assert words(values, kinds, 4) == ["--a", "64", "--b", "0.5", "--c", "1e-05", "--d", "64"]
    for number in range(1, 9):
        assert (
            float(words([{"parameterId": "c", "value": 0.1 + 0.2}], kinds, number)[-1].removeprefix("--c="))
            == 0.1 + 0.2
        )


def test_as_many_at_a_time_as_the_job_says(engine: Callable[..., Engine]) -> None:
    running, most = [0], [0]

    def began(_: Played) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])

    def ended(_: Played) -> None:
        running[0] -= 1

    engine(job(trials=7, parallel=3), began=began, ended=ended).run()
    assert most == [3]
    most[0] = 0
    engine(job(trials=3, parallel=3), began=began, ended=ended, parallel=1).run()
    assert most == [1]
    assert running == [0]


# ---- Suggestions ----


def told(study: dict[str, Any], count: int = 40, seed: int = 0, value: float = 0.0) -> list[dict[str, Any]]:
    suggestions, found = Suggestions(study, seed), []
    for number in range(count):
        parameters = suggestions.ask(str(number))
        if parameters is None:
            break
        suggestions.tell(str(number), value)
        found.append({one["parameterId"]: one["value"] for one in parameters})
    return found


@pytest.mark.parametrize("algorithm", [{}, {"algorithm": "RANDOM_SEARCH"}, {"algorithm": 3}])
def test_suggestions_lie_in_the_space_and_heed_its_conditions(algorithm: dict[str, Any]) -> None:
    study = {"metrics": [{"metricId": "score", "goal": 1}], "parameters": SPACE} | algorithm
    found = told(study)
    for values in found:
        assert 1e-6 <= values["rate"] <= 0.1
        assert values["epochs"] in range(1, 10)
        assert isinstance(values["epochs"], float)
        assert values["size"] in (16, 64)
        assert ("depth" in values) == (values["kind"] == "plain")
    assert {values["kind"] for values in found} == {"plain", "[64,32]"}
    assert min(math.log10(values["rate"]) for values in found) < -4  # a log scale
    assert found == told(study)
    assert found != told(study, seed=1)


def test_conditions_on_numbers_hold_for_either_spelling() -> None:
    def below(parent: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any]:
        child = {"parameterId": "child", "categoricalValueSpec": {"values": ["x"]}}
        return {"parameterId": "parent", **parent, "conditionalParameterSpecs": [{"parameterSpec": child, **condition}]}

    whole = below({"integerValueSpec": {"minValue": 1, "maxValue": 2}}, {"parentIntValues": {"values": ["2"]}})
    discrete = below({"discreteValueSpec": {"values": [1, 2]}}, {"parentDiscreteValues": {"values": [2.0]}})
    for parameter in (whole, discrete):
        found = told({"metrics": [{"metricId": "score", "goal": 2}], "parameters": [parameter]}, 20)
        assert {("child" in values) == (values["parent"] == 2) for values in found} == {True}
        assert len({values["parent"] for values in found}) == 2


def test_bayesian_suggestions_go_where_it_is_good() -> None:
    def away(**more: str) -> float:
        study = {"metrics": [{"metricId": "score", "goal": "MINIMIZE"}], "parameters": SPACE[:1], **more}
        suggestions, distances = Suggestions(study, 0), []
        for number in range(60):
            (one,) = suggestions.ask(str(number)) or []
            distances.append(abs(math.log10(one["value"]) + 3))
            suggestions.tell(str(number), distances[-1])
        return sum(distances[-30:])

    assert away() < 0.5 * away(algorithm="RANDOM_SEARCH")


def test_a_grid_is_tried_once_each_and_ends_the_job(engine: Callable[..., Engine]) -> None:
    parameters = [SPACE[2], SPACE[3]]
    study = {"metrics": [{"metricId": "score", "goal": "MAXIMIZE"}], "parameters": parameters, "algorithm": 2}
    found = told(study)
    assert len(found) == 2 * (2 + 1)
    assert len({json.dumps(values) for values in found}) == len(found)
    this = engine(job(trials=50, parameters=parameters[:1], algorithm="GRID_SEARCH"))
    assert this.run() == "JOB_STATE_SUCCEEDED"
    assert [played.values() for played in this.played] == [{"size": 16}, {"size": 64}]


# ---- Failures ----


def test_a_trial_that_fails_is_started_again_in_the_same_folders(engine: Callable[..., Engine]) -> None:
    this = engine(job("failures=2", trials=1))
    assert this.run() == "JOB_STATE_SUCCEEDED"
    (played,) = this.played
    assert [attempt.status for attempt in played.attempts] == [3, 3, 0]
    assert played.state == "SUCCEEDED"
    first, *others = calls(played.folder)
    for other in others:
        assert other["arguments"] == first["arguments"]
        assert other["environment"]["AIP_MODEL_DIR"] == first["environment"]["AIP_MODEL_DIR"]
    assert [attempt.last_words() for attempt in played.attempts[:2]] == [[f"error: for the {n}. time"] for n in (1, 2)]
    assert played.seconds == sum(attempt.seconds for attempt in played.attempts)


def test_after_five_restarts_it_is_infeasible(engine: Callable[..., Engine]) -> None:
    this = engine(job("failures=99", trials=1))
    assert this.run() == "JOB_STATE_SUCCEEDED"
    assert len(this.played[0].attempts) == 6
    (trial,) = this.trials
    assert trial["state"] == "INFEASIBLE"
    assert trial["infeasibleReason"] == "The replica workerpool0-0 exited with a non-zero status of 3."
    assert "finalMeasurement" not in trial


def test_no_restart_where_the_job_forbids_it_or_the_words_are_the_same(engine: Callable[..., Engine]) -> None:
    this = engine(job("failures=99", trials=1, scheduling={"timeout": "60s", "disableRetries": True}))
    this.run()
    assert len(this.played[0].attempts) == 1
    this = engine(job("failures=99", trials=3), alike=2)
    this.run()
    assert [len(played.attempts) for played in this.played] == [2, 1, 1]


def test_more_failed_trials_than_admitted_end_the_job(engine: Callable[..., Engine]) -> None:
    this = engine(job("failures=99", trials=9, failures=2), restarts=0)
    assert this.run() == "JOB_STATE_FAILED"
    assert len(this.trials) == 3
    assert this.error is not None
    assert "status of 3" in this.error["message"]
    exactly = engine(job("failures=99", trials=2, failures=2), restarts=0)
    assert exactly.run() == "JOB_STATE_SUCCEEDED"
    assert engine(custom("failures=99"), restarts=1).run() == "JOB_STATE_FAILED"


def test_too_many_failures_end_the_trials_that_run(engine: Callable[..., Engine]) -> None:
    this = engine(job("hangs=yes", trials=2, parallel=2, failures=0), restarts=0)
    thread = in_thread(this)
    until(lambda: len(this.played) == 2 and all(calls(played.folder) for played in this.played))
    pids = [calls(played.folder)[0]["pid"] for played in this.played]
    os.kill(pids[0], signal.SIGKILL)
    thread.join(60)
    assert this.state == "JOB_STATE_FAILED"
    assert [trial["state"] for trial in this.trials] == ["INFEASIBLE"] * 2
    assert all(map(gone, pids))


@pytest.mark.parametrize("arguments", [["tag=other"], ["reports=[]"]])
def test_a_trial_without_a_measurement_is_infeasible(engine: Callable[..., Engine], arguments: list[str]) -> None:
    this = engine(job(*arguments, trials=1))
    this.run()
    assert this.trials[0]["state"] == "INFEASIBLE"
    assert this.trials[0]["infeasibleReason"] == "the trial reported no measurement of score"
    assert this.played[0].attempts[0].status == 0
    assert len(this.played[0].attempts) == 1


def test_a_command_that_is_not_there_fails_the_trial(tmp_path: Path) -> None:
    this = Engine(job(trials=1), str(tmp_path), Direct(tmp_path / "nowhere"), tmp_path / "work", restarts=1)
    assert this.run() == "JOB_STATE_SUCCEEDED"
    assert [attempt.status for attempt in this.played[0].attempts] == [127, 127]
    assert "cannot be started" in this.played[0].attempts[0].last_words()[0]


def test_a_torn_metric_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "output.metrics"
    assert measurements(file, "score") == []
    file.write_text('{"score": "0.5", "global_step": "1"}\n\n[1]\n{"score": "x", "global_step": "2"}\n{"score": "0.')
    assert measurements(file, "score") == [(1, 0.5)]


NONE = "the trial reported no measurement of score"
GARBAGE = {
    "random bytes": (bytes(range(256)) * 4, NONE),
    "an endless step": (b'{"global_step": 1e999, "score": "0.5"}', NONE),
    "a step of many digits": (b'{"global_step": "%s", "score": "0.5"}' % (b"9" * 401), NONE),
    "a score of many digits": (b'{"global_step": "1", "score": %s}' % (b"9" * 401), NONE),
    "too deep": (b"[" * 20000, NONE),
    "nan": (b'{"global_step": "1", "score": "nan"}', "the trial's last measurement of score is nan, no finite number"),
    "inf": (b'{"global_step": "1", "score": 1e999}', "the trial's last measurement of score is inf, no finite number"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_trial_that_reports_garbage_is_infeasible_and_the_others_go_on(
    name: str, engine: Callable[..., Engine]
) -> None:
    garbage, reason = GARBAGE[name]
    this = engine(job(f"garbage={garbage.hex()}", trials=4, parallel=2))
    assert this.run() == "JOB_STATE_SUCCEEDED"
    assert [trial["state"] for trial in this.trials] == ["SUCCEEDED", "INFEASIBLE", "SUCCEEDED", "SUCCEEDED"]
    assert this.trials[1]["infeasibleReason"] == reason
    assert "finalMeasurement" not in this.trials[1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_suggestions_go_on_after_a_value_that_is_no_finite_number(value: float) -> None:
    study = {"metrics": [{"metricId": "score", "goal": 1}], "parameters": SPACE}
    assert len(told(study, 15, value=value)) == 15


# ---- The end before the end ----


@pytest.mark.parametrize("deaf", ["", "deaf=yes"])
def test_cancel_ends_every_process(engine: Callable[..., Engine], deaf: str) -> None:
    line = ("hangs=yes", "child=yes", *([deaf] if deaf else []))
    # Who hears it is not waited for any longer, however long that might be.
    this = engine(job(*line, trials=9, parallel=2), grace=0.5 if deaf else 600)
    thread = in_thread(this)
    until(lambda: len(this.played) == 2 and all((Path(p.folder or "") / "child").exists() for p in this.played))
    pids = [calls(played.folder)[0]["pid"] for played in this.played]
    pids += [int((Path(played.folder or "") / "child").read_text()) for played in this.played]
    this.cancel()
    assert this.state in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    thread.join(60)
    assert this.state == "JOB_STATE_CANCELLED"
    assert [trial["state"] for trial in this.trials] == ["INFEASIBLE"] * 2
    until(lambda: all(map(gone, pids)))  # whom init has to bury
    assert {attempt.status for played in this.played for attempt in played.attempts} == {-9 if deaf else -15}
    this.cancel()
    assert this.state == "JOB_STATE_CANCELLED"


def test_a_job_cancelled_before_it_runs_starts_nothing(engine: Callable[..., Engine]) -> None:
    this = engine(job())
    this.cancel()
    assert this.run() == "JOB_STATE_CANCELLED"
    assert this.played == []


@pytest.mark.more
def test_a_timeout_ends_a_trial(engine: Callable[..., Engine]) -> None:
    this = engine(job("hangs=yes", trials=1, scheduling={"timeout": "3s"}))
    this.run()
    assert this.trials[0]["infeasibleReason"] == "the trial ran longer than its timeout"
    assert gone(calls(this.played[0].folder)[0]["pid"])
    this = engine(job("hangs=yes", trials=1), timeout=3)
    this.run()
    assert len(this.played[0].attempts) == 1


def test_what_interrupts_run_ends_the_processes_first(engine: Callable[..., Engine]) -> None:
    def ended(_: Played) -> None:
        raise Interrupted(signal.SIGINT)

    this = engine(job("hangs=trial2", trials=9, parallel=2), ended=ended)
    with pytest.raises(Interrupted):
        this.run()
    assert this.state == "JOB_STATE_CANCELLED"
    assert len(this.played) == 2
    assert all(gone(call["pid"]) for played in this.played for call in calls(played.folder))


def test_a_process_that_outlives_its_trial_is_ended(engine: Callable[..., Engine]) -> None:
    this = engine(custom("child=yes"))
    assert this.run() == "JOB_STATE_SUCCEEDED"
    child = int((Path(this.played[0].folder or "") / "child").read_text())
    until(lambda: gone(child))


# ---- Several machines ----


def test_replicas_are_told_of_each_other(engine: Callable[..., Engine]) -> None:
    this = engine(job(trials=1, pools=3))
    assert this.run() == "JOB_STATE_SUCCEEDED"
    folder = this.played[0].folder
    found = [calls(folder, rank)[0]["environment"] for rank in range(3)]
    assert [told["RANK"] for told in found] == ["0", "1", "2"]
    assert {told["WORLD_SIZE"] for told in found} == {"3"}
    specs = [json.loads(told["CLUSTER_SPEC"]) for told in found]
    assert all(spec["cluster"] == specs[0]["cluster"] for spec in specs)
    assert [(spec["task"]["type"], spec["task"]["index"]) for spec in specs] == [
        ("workerpool0", 0), ("workerpool1", 0), ("workerpool1", 1),
    ]  # fmt: skip
    addresses = [address for pool in specs[0]["cluster"].values() for address in pool]
    assert len({*addresses}) == 3
    assert {f"{told['MASTER_ADDR']}:{told['MASTER_PORT']}" for told in found} == {addresses[0]}
    assert sorted(path.name for path in this.played[0].files.glob("*.log")) == [
        "attempt-1.log", "attempt-1.workerpool1-0.log", "attempt-1.workerpool1-1.log",
    ]  # fmt: skip


def test_a_replica_s_port_is_none_that_whoever_connects_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    found = attempt._free_ports(64)
    assert len({*found}) == 64
    assert max(found) < 32768  # from where on Linux gives them
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", found[0]))
        monkeypatch.setattr(attempt, "PORTS", found[:2])
        assert attempt._free_ports(1) == [found[1]]


def test_a_replica_that_fails_ends_the_others(engine: Callable[..., Engine]) -> None:
    this = engine(job("fails=1", "hangs=0", trials=1, pools=2), restarts=1)
    this.run()
    (played,) = this.played
    assert [attempt.statuses for attempt in played.attempts] == [{"workerpool1-0": 3}] * 2
    assert played.reason == "The replica workerpool1-0 exited with a non-zero status of 3."
    assert played.attempts[1].last_words() == ["error: for the 2. time"]
    assert all(gone(call["pid"]) for call in calls(played.folder, 0))


# ---- Where ----


def test_without_the_image_the_project_runs_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    assert "neither docker nor podman is here" in place_for("mine:1", tmp_path).says
    for name in ("docker", "podman"):  # engines without any image
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    assert "docker and podman here have no image mine:1" in place_for("mine:1", tmp_path).says
    assert place_for(None, tmp_path).says == "as processes of this machine, by ./convert_command.sh"


def test_the_engine_imports_neither_torch_nor_the_client() -> None:
    code = "import sys, vertex_ai.engine; sys.exit(bool({'torch', 'google.cloud.aiplatform'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
