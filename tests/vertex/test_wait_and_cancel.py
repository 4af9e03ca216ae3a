"""`alphard wait` and `alphard cancel`, as commands: real processes, real signals, in the middle of a job."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from alphard.cli import main
from tests.conftest import ROOT, environment
from tests.vertex.service import Fault, Service
from tests.vertex.small_jobs import CUSTOM, TUNING, job, service
from vertex_ai.client import Client
from vertex_ai.names import Name

pytestmark = pytest.mark.more  # real processes and signals

ALPHARD = [sys.executable, "-c", "import sys; from alphard.cli import main; sys.exit(main())"]
Start = Callable[..., "subprocess.Popen[str]"]
NAME = f"projects/p/locations/europe-west4/{TUNING}/123"


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, without the local.yaml of whoever runs the tests."""
    folder = tmp_path / "project"
    configs = folder / "vertex_ai" / "configs"
    configs.mkdir(parents=True)
    (configs / "job.yaml").write_text((ROOT / "vertex_ai/configs/job.yaml").read_text())
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VERTEX_ENDPOINT", raising=False)
    return folder


def created(stand_in: Service, kind: str, *arguments: str) -> str:
    with Client("my-project", "europe-west4", stand_in.address) as client:
        return str(client.create(job(kind, *arguments), kind)["name"])


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Start `alphard WORDS` in the project's folder; no process outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def call(*words: str, **more: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen([*ALPHARD, *words], cwd=project, env=environment(**more), text=True, **pipes))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("kind", "number", "status"),
    [(TUNING, signal.SIGINT, 130), pytest.param(CUSTOM, signal.SIGTERM, 143, marks=pytest.mark.more)],
)
def test_a_signal_leaves_the_job_running_and_says_how_to_come_back(
    kind: str, number: int, status: int, stand_in: Service, start: Start
) -> None:
    name = created(stand_in, kind, "wait")
    process = start("wait", name, f"endpoint={stand_in.address}")
    stand_in.wait_for("get", 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert out.startswith(f"{name}\nconsole: https://")
    for subcommand in ("wait", "results", "cancel"):
        assert f"alphard {subcommand} {name} endpoint={stand_in.address} " in err
    assert "Traceback" not in err
    assert stand_in.jobs[Name.of(name).number].engine.state == "JOB_STATE_RUNNING"
    assert not stand_in.requests["cancel"]


def test_a_signal_while_the_service_does_not_answer(stand_in: Service, start: Start) -> None:
    name = created(stand_in, TUNING, "wait")
    stand_in.inject("get", Fault(), Fault(seconds=600))
    process = start("wait", name, VERTEX_ENDPOINT=stand_in.address)
    stand_in.wait_for("get", 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert f"alphard wait {name} " in err
    assert "Traceback" not in err


def test_one_comes_back_and_cancels(stand_in: Service, capsys: pytest.CaptureFixture[str]) -> None:
    name, endpoint = created(stand_in, TUNING, "wait"), f"endpoint={stand_in.address}"
    assert main(["cancel", name, endpoint]) == 0
    assert f"next: alphard wait {name} {endpoint}" in capsys.readouterr().out
    assert main(["wait", name, endpoint]) == 1
    assert "error: the job ended: cancelled" in capsys.readouterr().err
    assert main(["cancel", name, endpoint]) == 0
    assert "the job is over already: cancelled" in capsys.readouterr().out
    assert stand_in.requests["cancel"] == 1


def test_waiting_for_a_job_that_is_over_shows_it_whole(stand_in: Service, capsys: pytest.CaptureFixture[str]) -> None:
    name = created(stand_in, TUNING)
    assert stand_in.jobs[Name.of(name).number].over.wait(60)
    assert main(["wait", name, f"endpoint={stand_in.address}"]) == 0
    said = capsys.readouterr().out
    assert said.count("] trial ") == 4
    assert said.splitlines()[-1] == "succeeded"


def test_a_job_that_is_not_there(stand_in: Service, capsys: pytest.CaptureFixture[str]) -> None:
    for subcommand in ("wait", "cancel"):
        assert main([subcommand, NAME, f"endpoint={stand_in.address}"]) == 2
        said = capsys.readouterr().err
        assert "404 The hyperparameterTuningJobs 123 does not exist" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("subcommand", ["wait", "cancel"])
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "wants one job's name"),
        (["123"], "123: is no job's name; give projects/PROJECT/locations/REGION"),
        ([NAME, NAME], "wants one job's name"),
        ([NAME, "learning_rate=0.1"], "learning_rate=0.1: no setting of a job"),
        ([NAME, "endpoint=nowhere"], "endpoint: nowhere"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_contacted(
    subcommand: str, words: Sequence[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([subcommand, *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert problem in said


def test_a_malformed_name_costs_no_import_of_googles_client(project: Path) -> None:
    code = "import sys; from alphard.cli import main; main(['wait', 'x']); sys.exit(any(m.startswith(('google.cloud.aiplatform', 'google.api_core', 'torch')) for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, check=False).returncode == 0


def test_the_stand_in_is_run_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vertex.service", "0", str(tmp_path / "by hand")]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    address = process.stdout.readline().strip()
    with Client("p", "us-central1", address) as client:
        assert client.list(TUNING) == []
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
