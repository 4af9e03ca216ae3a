"""`alphard rehearse`: trials as the service would run them, READY or the cause; real processes, real training."""

import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alphard import artifacts
from alphard.cli import main
from tests.conftest import ROOT, copied, environment
from tests.in_process import run_here
from tests.killing import left_by, resumptions
from tests.vertex import small_jobs
from vertex_ai import verdict
from vertex_ai.engine import Engine
from vertex_ai.job import of_line
from vertex_ai.places import Container, Direct, place_for
from vertex_ai.played import Attempt, Played
from vertex_ai.rehearse_command import Rehearsal, count_of, rehearse

pytestmark = pytest.mark.more(minutes=6)  # trainings in real processes

TINY = """# @package _global_
defaults: [default]
search:
  trials: 30
  space:
    learning_rate: tag(log, interval(1e-4, 1e-1))
    batch_size: choice(32, 64)
    model.net.hidden: choice([8], [16, 8])
    optimizer: choice(adamw, sgd)
    when: {optimizer=sgd: {optimizer.momentum: "interval(0.5, 0.99)"}}
"""
FAST = ("data=synthetic", "data.rows=200", "epochs=2", "threads=1")
LINE = (*FAST, "search=tiny")
ALPHARD = "import sys; from alphard.cli import main; sys.exit(main())"  # the command, by this interpreter
JOBS = ("project=p", "region=us-central1", "base=gs://b/artifacts")


def make_project(folder: Path) -> Path:
    """A project of one's own, to change and to call alphard in."""
    copied(folder, "configs", "vertex_ai/configs", "train.py", "convert_command.sh")
    (folder / "configs/search/tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    """One rehearsal, which several tests look at: its status, its output, and the folder where it was called."""
    folder = make_project(tmp_path_factory.mktemp("rehearsed"))
    words = [*LINE, "search.trials=2", "search.parallel=2", "price_per_hour=3600"]
    done = subprocess.run(
        [sys.executable, "-c", ALPHARD, "rehearse", *words],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout, folder


def folder_of(project: Path) -> Path:
    """The one rehearsal's folder."""
    (found,) = (project / "outputs/rehearsals").glob("*/*")
    return found


def alter(project: Path, line: str) -> None:
    """Let the project's convert_command.sh do something more, first of all."""
    script = project / "convert_command.sh"
    first, rest = script.read_text().split("\n", 1)
    script.write_text(f"{first}\n{line}\n{rest}")


# ---- Ready ----


@pytest.mark.more  # two trainings
def test_a_sound_search_is_ready_and_says_what_the_whole_job_takes(rehearsed: tuple[int, str, Path]) -> None:
    status, said, _ = rehearsed
    assert status == 0, said
    assert "2 trials of the job's 30, " in said
    assert len(re.findall(r"^\[\d/2\] trial \d  validation_accuracy 0\.\d{6}  [\d.]+ s  sound$", said, re.M)) == 2
    *_, measured, whole, minutes, last = said.splitlines()
    each = float(re.search(r": ([\d.]+) s a trial", measured)[1])  # type: ignore[index]
    hours, busy, money, price = map(
        float,
        re.fullmatch(
            r"the whole job: 30 trials, 2 at a time: about ([\d.]+) hours, ([\d.]+) machine hours, ([\d.]+) at (\d+) an hour",
            whole,
        ).groups(),  # type: ignore[union-attr]
    )
    assert hours == pytest.approx(each * 15 / 3600, abs=0.006)
    assert busy == pytest.approx(each * 30 / 3600, abs=0.006)
    assert money == pytest.approx(each * 30, rel=0.02)
    assert price == 3600
    assert minutes.endswith("the minutes that its machine takes to start")
    assert last == "READY: 2 of 2 trials sound"


@pytest.mark.more  # two trainings
def test_its_trials_lie_as_the_job_s_would(rehearsed: tuple[int, str, Path]) -> None:
    folder = folder_of(rehearsed[2])
    job = json.loads((folder / "job.json").read_text())
    assert job["maxTrialCount"] == 2
    for number in ("1", "2"):
        assert (folder / number / "model/model.pt").is_file()
        assert (folder / number / "attempt-1.log").read_text().splitlines()[-1].startswith("validation_accuracy: ")
        last = json.loads((folder / number / "output.metrics").read_text().splitlines()[-1])
        kept = json.loads((folder / number / "model/metrics.json").read_text())["validation_accuracy"]
        assert (last["trial"], float(last["validation_accuracy"])) == (number, kept)


@pytest.mark.more
def test_a_custom_job_is_rehearsed_by_one_run(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a price of nothing, an image that is not here, and data on this machine alone."""
    rows = "\n".join(f"{number},{'uvw'[number % 3]},{number % 2}" for number in range(90))
    (project / "rows.csv").write_text(f"a,b,y\n{rows}\n")
    words = ["data=csv", "data.path=rows.csv", "data.target=y", "epochs=1", "image=localhost/none:1", *JOBS]
    assert main(["rehearse", *words]) == 0
    said = capsys.readouterr().out
    assert "its one run" in said
    assert "the whole job: 1 run: about 0.0" in said
    assert said.splitlines()[-1].startswith("READY, but data.path: rows.csv lies on this machine")
    assert (folder_of(project) / "model/preprocessing.skops").is_file()
    # As on the service: no trial's id.
    assert json.loads((folder_of(project) / "output.metrics").read_text().splitlines()[0])["trial"] == "0"


# ---- Before anything runs ----


def test_the_number_of_trials_is_the_rehearsal_s_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert count_of(["search.trials=7", "epochs=1"]) == (7, ["epochs=1"])
    it = Rehearsal(of_line([*LINE], needed=()))
    assert (it.trials, it.begun) == (30, 4)
    assert Rehearsal(of_line([*LINE], needed=()), 2).begun == 2
    for words, said in (
        ([*LINE, "search.trials=0"], "search.trials: 0: give the number of trials to rehearse"),
        ([*FAST, "search.trials=4"], "search.trials: 4: nothing is searched"),
        ([*LINE, "epochs=0"], "epochs: 0"),
    ):
        assert main(["rehearse", *words]) == 2
        assert said in capsys.readouterr().err
    assert not (project / "outputs").exists()


def test_a_place_that_cannot_be_written_is_told_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "outputs").write_text("a file")
    assert main(["rehearse", *LINE]) == 2
    assert "outputs/rehearsals: " in capsys.readouterr().err


# ---- What a verdict rests on ----


@pytest.fixture
def trial(
    rehearsed: tuple[int, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """What is wrong with a trial of the rehearsal, once its copied files have been changed."""
    source = folder_of(rehearsed[2]) / "1"
    shutil.copytree(source, tmp_path / "1")
    monkeypatch.chdir(rehearsed[2])
    log = tmp_path / "1/attempt-1.log"
    attempts = [Attempt({"workerpool0-0": 0}, 1.0, {"workerpool0-0": log})]
    played = Played("1", [], [], str(tmp_path / "1/model"), tmp_path / "1", attempts=attempts)

    def judged(metric: str = "validation_accuracy", sent: dict[str, Any] | None = None, **more: Any) -> list[str]:
        played.parameters = [{"parameterId": key, "value": value} for key, value in (sent or {}).items()]
        played.attempts = more.get("attempts", attempts)
        config = OmegaConf.load(source / "model/config.yaml")
        for key, value in (sent or {}).items():
            OmegaConf.update(config, key, value)
        return verdict.judge(played, metric, config).problems  # type: ignore[arg-type]

    return judged


def test_a_sound_trial_has_no_problem(trial: Callable[..., list[str]]) -> None:
    assert trial() == []


def test_a_wrong_tag_is_named(trial: Callable[..., list[str]]) -> None:
    (problem,) = trial("f1")
    assert problem.startswith("the metric came as validation_accuracy, and the job asks for f1; say objective=f1")


def test_a_missing_metric_file_is_named(trial: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "1/output.metrics").unlink()
    (problem,) = trial()
    assert problem.startswith("wrote no metric file")


def test_steps_that_repeat_are_named(trial: Callable[..., list[str]], tmp_path: Path) -> None:
    file = tmp_path / "1/output.metrics"
    file.write_text(file.read_text() * 2)
    assert "validation_accuracy: step 1 was reported after step 3; steps increase and never repeat" in trial()


def test_another_trial_s_metric_is_named(trial: Callable[..., list[str]], tmp_path: Path) -> None:
    file = tmp_path / "1/output.metrics"
    file.write_text(file.read_text().replace('"trial": "1"', '"trial": "7"'))
    assert trial() == ["the metric file speaks of trial 7, and this is trial 1"]


@pytest.mark.parametrize(
    "name", [artifacts.MODEL, artifacts.METRICS, artifacts.CONFIG, artifacts.LOG, artifacts.HISTORY]
)
def test_a_missing_artifact_is_named(trial: Callable[..., list[str]], tmp_path: Path, name: str) -> None:
    (tmp_path / "1/model" / name).unlink()
    (problem,) = trial()
    assert problem.startswith(f"{name} missing")


def test_a_value_other_than_the_artifact_s_is_named(trial: Callable[..., list[str]], tmp_path: Path) -> None:
    file = tmp_path / "1/model" / artifacts.METRICS
    file.write_text(json.dumps(json.loads(file.read_text()) | {"validation_accuracy": 0.125}))
    (problem,) = trial()
    assert problem.endswith("was reported last, and metrics.json says 0.125")


def test_a_parameter_that_did_not_arrive_is_named(trial: Callable[..., list[str]]) -> None:
    (problem,) = trial(sent={"learning_rate": 0.5})
    assert problem.startswith("learning_rate: 0.5 was sent, and the trial trained with 0.")


def test_a_failed_trial_tells_its_last_words(trial: Callable[..., list[str]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("epoch: 1\nTraceback (most recent call last):\n  File x\nValueError: no such thing\n")
    for status, said in (
        (1, "exit status 1: ValueError: no such thing"),
        (-9, "ended by signal 9, as where memory runs out: ValueError"),
    ):
        (problem,) = trial(attempts=[Attempt({"workerpool0-0": status}, 1.0, {"workerpool0-0": log})])
        assert problem.startswith(said)


def test_problems_of_several_trials_are_told_once() -> None:
    def judged(name: str, *problems: str) -> verdict.Judged:
        return verdict.Judged(Played(name, [], [], None, Path()), list(problems), None)

    found = verdict.causes([judged("1", "lost after 3 s"), judged("2", "lost after 4 s", "else"), judged("3")])
    assert found == [("lost after 3 s", ["1", "2"]), ("else", ["2"])]


# ---- Not ready, really inflicted ----


def test_a_crash_is_named_and_what_the_service_would_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(project, "exec 2>&1; echo no torch here; exit 7")
    assert main(["rehearse", *LINE, "search.max_failures=1"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"NOT READY: 0 of [23] trials sound; too many failed for the job to go on\n", said)
    assert "exit status 7: no torch here" in said
    once = "start it 5 times more, at your expense, and then count the trial as failed; more than 1 such trials end"
    assert f"Vertex AI would {once} the job" in said
    attempts = [path.name for path in folder_of(project).glob("*/attempt-*.log")]
    assert len(attempts) <= 4  # the same words twice are enough
    assert "attempt-3.log" not in attempts


@pytest.mark.more
@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (
            'set -- "$@" objective=validation_loss',
            "the metric came as validation_loss, and the job asks for validation_a",
        ),
        ("export CLOUD_ML_HP_METRIC_FILE=$PWD/elsewhere", "wrote no metric file"),
        ("export AIP_MODEL_DIR=/dev/null/model", "exit status 2: AIP_MODEL_DIR: /dev/null/model"),
        ('set -- "$@" --learning_rate=0.5', "was sent, and the trial trained with 0.5"),
        ("unset AIP_MODEL_DIR", "missing; AIP_MODEL_DIR holds none of a run's artifacts"),
        ('set -- "${@/batch_size/batchsize}"', "exit status 2: batchsize: no such key; did you mean `batch_size`?"),
        ("kill -9 $$", "ended by signal 9, as where memory runs out: it said nothing"),
    ],
)
def test_a_verdict_names_the_cause(project: Path, capsys: pytest.CaptureFixture[str], line: str, cause: str) -> None:
    alter(project, line)
    assert rehearse(Rehearsal(of_line([*LINE], needed=()), 1, project)) == 1
    said = capsys.readouterr().out
    assert cause in said.partition("NOT READY: 0 of 1 trials sound\n  trial 1: ")[2]
    crashed = "exit status" in cause or "signal" in cause
    assert ("Vertex AI would start it 5 times more" in said) == crashed
    assert len([*folder_of(project).glob("1/attempt-*.log")]) == (2 if crashed else 1)


@pytest.mark.more
def test_ctrl_c_ends_the_trials_and_says_where_the_logs_are(project: Path) -> None:
    words = ["rehearse", "data=synthetic", "search=tiny", "epochs=100000", "patience=100000"]
    process = subprocess.Popen(
        [sys.executable, "-c", ALPHARD, *words],
        cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if "in outputs/rehearsals" in line:
            break
    log = folder_of(project) / "1/attempt-1.log"
    while not (log.exists() and "epoch: 2" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)  # it writes to a file, which sends no event
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the trials are ended; what they said lies in outputs/rehearsals/tiny/" in out
    assert "stopped by SIGINT" in err
    assert "Traceback" not in err
    assert not subprocess.run(["pgrep", "-f", str(project)], capture_output=True, check=False).stdout


# ---- The built image ----


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """The container engine of tests/container, and the image built."""
    spec = importlib.util.spec_from_file_location("container_engine", ROOT / "tests/container/engine.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        found = module.find()
        found.build()
        yield found
    finally:
        del sys.modules[spec.name]


@pytest.fixture
def image(engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The image's name, where alphard finds it."""
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    if engine.own:  # our podman comes without a bridge
        settings = tmp_path / "containers.conf"
        told = Path(engine.env["CONTAINERS_CONF"]).read_text()
        settings.write_text(told.replace("[containers]", '[containers]\nnetns = "host"'))
        monkeypatch.setenv("CONTAINERS_CONF", str(settings))
    return "localhost/alphard:test"


@pytest.mark.more
@pytest.mark.timeout(1500)
def test_the_built_image_is_rehearsed(project: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own configs know no search of ours, which no trial needs; data of this machine is lent to it."""
    rows = "\n".join(f"{number},{'uvw'[number % 3]},{number % 2}" for number in range(200))
    (project / "rows.csv").write_text(f"a,b,y\n{rows}\n")
    words = ["data=csv", "data.path=rows.csv", "data.target=y", "epochs=2", "search=tiny", f"image={image}", *JOBS]
    assert main(["rehearse", *words, "search.trials=2"]) == 0
    said = capsys.readouterr().out
    assert f"as containers of {image}, by " in said
    assert said.splitlines()[-1].startswith("READY, but data.path: rows.csv")
    assert (folder_of(project) / "2/model/preprocessing.skops").is_file()


@pytest.mark.more
@pytest.mark.timeout(1500)
def test_an_image_older_than_the_configs_is_named(
    project: Path, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "configs/config.yaml"
    config.write_text(config.read_text().replace("weight_decay: 0.01", "weight_decay: 0.02"))
    assert main(["rehearse", *LINE, f"image={image}", *JOBS, "search.trials=1"]) == 1
    assert "weight_decay: 0.02 here, by configs/, and the trial trained with 0.01" in capsys.readouterr().out


@pytest.mark.more
@pytest.mark.timeout(1500)
def test_a_cancelled_container_is_gone(project: Path, engine: Any, image: str) -> None:
    words = ["data=synthetic", "search=tiny", "epochs=100000", "patience=100000", f"image={image}", *JOBS]
    this = of_line(words, needed=())
    folder = project / "rehearsal"
    place = place_for(image, project, [folder])
    assert isinstance(place, Container)
    job = Engine(this.job, str(folder), place, folder, parallel=1)
    thread = threading.Thread(target=job.run)
    thread.start()
    log = folder / "1/attempt-1.log"
    while not (log.exists() and "epoch: 2" in log.read_text()):
        assert thread.is_alive()
        time.sleep(0.05)  # it writes to a file, which sends no event
    job.cancel()
    thread.join(60)
    assert job.state == "JOB_STATE_CANCELLED"
    (attempt,) = job.played[0].attempts
    assert attempt.status == 143  # by train.py's own handler, after it has kept what it had
    assert json.loads((folder / "1/model/metrics.json").read_text())["stopped_by"] == "SIGTERM"
    assert "alphard-" not in engine("ps", "--all", "--format={{.Names}}").stdout


def test_a_trial_that_is_killed_goes_on_when_it_is_restarted(tmp_path: Path) -> None:
    """Its first attempt ends by `kill -9` once it has two checkpoints."""
    script = tmp_path / "convert_command.sh"
    script.write_text(f"""#!/bin/sh
    mkdir "{tmp_path}/first" 2>/dev/null || exec "{ROOT}/convert_command.sh" "$@"
    "{ROOT}/convert_command.sh" "$@" &
    until [ "$(ls "$AIP_CHECKPOINT_DIR" 2>/dev/null | grep -c '^step-')" = 2 ]; do sleep 0.02; done
    kill -9 $!
    exit 1
    """)
    script.chmod(0o755)
    line = ("--data=breast_cancer", "--epochs=8", "--patience=8", "--threads=1", "--checkpoint_seconds=0")
    job = small_jobs.job(small_jobs.CUSTOM, *line)
    this = Engine(job, str(tmp_path / "base"), Direct(tmp_path), tmp_path / "work", restarts=1)
    assert this.run() == "JOB_STATE_SUCCEEDED"
    assert [attempt.status for attempt in this.played[0].attempts] == [1, 0]
    run_here(tmp_path / "whole", "data=breast_cancer", "epochs=8", "patience=8")
    assert left_by(tmp_path / "base/model") == left_by(tmp_path / "whole")
    assert len(resumptions(tmp_path / "base/model")) == 1
    assert not (tmp_path / "base/checkpoints").exists()
    steps = [json.loads(line)["global_step"] for line in this.played[0].metric_file.read_text().splitlines()]
    assert steps == [str(step) for step in range(1, 10)]
