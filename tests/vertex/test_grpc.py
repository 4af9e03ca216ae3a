"""The way to the service itself: gRPC, TLS and an account's token, from a real process to a real gRPC server here."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import environment
from tests.vertex.grpc_door import Door
from tests.vertex.service import Fault, Service
from tests.vertex.small_jobs import TUNING, job, service

pytestmark = pytest.mark.more  # certificates, a server and a retrying client each time
Start = Callable[..., "subprocess.Popen[str]"]
SUBMIT = """
import json, sys
from alphard.errors import Interrupted, UserError
from alphard import signals
from vertex_ai.client import Client
from vertex_ai.follow import follow

signals.listen()
job, endpoint, patience = json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])
try:
    with Client("my-project", "europe-west4", endpoint, pause=0.01, patience=patience) as client:
        name = client.create(job, "hyperparameterTuningJobs")["name"]
        assert [name] == [one["name"] for one in client.list("hyperparameterTuningJobs")]
        if "cancel" in sys.argv:
            client.cancel(name)
        sys.exit(follow(client, name, pause=0.01, longest=0.05))
except UserError as error:
    sys.exit(error.paragraph())
except Interrupted as stop:
    sys.exit(stop.status)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path) as running:
        yield running


@pytest.fixture
def door(stand_in: Service, tmp_path: Path) -> Iterator[Door]:
    with Door(stand_in, tmp_path / "door") as door:
        yield door


@pytest.fixture
def start(door: Door) -> Iterator[Start]:
    """Start a process that submits a job and follows it; none outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str, cancel: bool = False) -> subprocess.Popen[str]:
        started.append(_start(door, *arguments, cancel=cancel))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def _start(door: Door, *arguments: str, cancel: bool = False) -> subprocess.Popen[str]:
    kept = {key: value for key, value in environment().items() if not key.startswith(("GOOGLE_", "CLOUDSDK_"))}
    words = [json.dumps(job(TUNING, *arguments)), door.address, "20", *(["cancel"] if cancel else [])]
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT, *words],
        env=kept | door.environment | {"HOME": os.devnull},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_job_is_created_and_followed_through_faults(start: Start, stand_in: Service) -> None:
    stand_in.inject("create", Fault(503), Fault(429))
    stand_in.inject("get", Fault(503))
    process = start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.count("] trial ") == 4
    assert "best: trial 4  score 0.400000" in out
    assert err.count("trying again") == 2
    assert len(stand_in.jobs) == 1


@pytest.mark.parametrize("state", [77, "JOB_STATE_EXPIRED"])
def test_a_final_state_that_is_not_known_ends_the_wait(state: int | str, start: Start, stand_in: Service) -> None:
    process = start("wait")
    stand_in.wait_for("get", 1)
    (resource,) = stand_in.jobs.values()
    resource.state = state
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: the job ended: " in err
    assert "Traceback" not in err


def test_a_signal_in_the_middle_of_a_call(start: Start, stand_in: Service) -> None:
    stand_in.inject("get", Fault(), Fault(seconds=600))
    process = start("wait")
    stand_in.wait_for("get", 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "alphard cancel projects/" in err


def test_a_cancelled_job(start: Start) -> None:
    process = start("wait", cancel=True)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: the job ended: cancelled" in err


@pytest.mark.parametrize(("code", "remedy"), [(400, "dry_run=true"), (403, "roles/aiplatform.user")])
def test_a_refusal_is_one_error(code: int, remedy: str, start: Start, stand_in: Service) -> None:
    stand_in.inject("create", Fault(code))
    process = start()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith(f"error: could not create the job: {code} ")
    assert remedy in err
    assert stand_in.requests["create"] == 1


def test_an_account_that_is_refused_is_one_error_with_the_remedy(start: Start, door: Door, stand_in: Service) -> None:
    door.refuse = True
    process = start()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "invalid_grant" in err
    assert "`gcloud auth application-default login`" in err
    assert door.asked
    assert not stand_in.requests
