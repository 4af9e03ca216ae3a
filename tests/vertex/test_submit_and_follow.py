"""The real client against the service's stand-in: a job is created once, followed, cancelled, whatever the network does."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphard.errors import TrainingError, UserError
from tests.conftest import ROOT
from tests.vertex.service import Fault, Service
from tests.vertex.small_jobs import CUSTOM, TUNING, job, service
from vertex_ai.client import Client, as_message
from vertex_ai.follow import follow
from vertex_ai.names import Name, console_url, logs_url
from vertex_ai.places import Direct

pytestmark = pytest.mark.more  # a service, a client and its pauses each time

REGION = "europe-west4"
FAULTS = {
    "503": [Fault(503)],
    "503 three times": [Fault(503)] * 3,
    "429 three times": [Fault(429)] * 3,
    "500": [Fault(500)],
    "dropped before it is handled": [Fault(dropped="before")],
    "dropped after it is handled": [Fault(dropped="after")],
    "dropped in turns": [Fault(503), Fault(dropped="before"), Fault(429), Fault(dropped="after")],
    "answered too late": [Fault(seconds=60)],
}


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path) as running:
        yield running


@pytest.fixture
def client(stand_in: Service) -> Iterator[Client]:
    with Client("my-project", REGION, stand_in.address, pause=0.01, patience=60.0, timeout=5.0) as client:
        yield client


@pytest.fixture
def followed(client: Client, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str, str]]:
    def call(name: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = follow(client, name, pause=0.01, longest=0.05)
        return (status, *capsys.readouterr())

    return call


def the_only(stand_in: Service, name: str) -> None:
    assert [resource.name for resource in stand_in.jobs.values()] == [name]


# ---- what goes there and comes back


@pytest.mark.parametrize("kind", [TUNING, CUSTOM])
def test_a_job_arrives_as_it_was_sent_and_comes_back(kind: str, client: Client, stand_in: Service) -> None:
    sent = job(kind, "experiment=mine", "model.net.hidden=[64,32]", labels={"team": "mine"})
    made = client.create(sent, kind)
    assert re.fullmatch(rf"projects/\d+/locations/{REGION}/{kind}/\d+", made["name"])
    (resource,) = stand_in.jobs.values()
    assert as_message(resource.job, kind) == as_message(sent, kind)
    back = client.get(made["name"])
    assert {**back, **sent} | {"updateTime": ""} == {**sent, **{k: back[k] for k in back.keys() - sent.keys()}} | {
        "updateTime": ""
    }
    assert back["state"].startswith("JOB_STATE_")


def test_a_tuning_job_is_followed_to_its_end(client: Client, followed: Any) -> None:
    status, said, complaints = followed(client.create(job(TUNING), TUNING)["name"])
    assert status == 0
    assert complaints == ""
    trials = re.findall(
        r"\[(\d)/4\] trial (\d) succeeded  score (0\.\d)0+  best \S+ \(trial \d\)  learning_rate=\S+  epochs=\d+  hidden=\[\S+\]",
        said,
    )
    assert [place for place, _, _ in trials] == ["1", "2", "3", "4"]
    assert {(number, value) for _, number, value in trials} == {(str(n), f"0.{n}") for n in range(1, 5)}
    assert "best: trial 4  score 0.400000" in said
    assert said.splitlines()[-1] == "succeeded"


def test_the_lowest_is_best_where_the_goal_says_so(client: Client, followed: Any) -> None:
    lowest = job(TUNING)
    lowest["studySpec"]["metrics"][0]["goal"] = "MINIMIZE"
    assert "best: trial 1  score 0.100000" in followed(client.create(lowest, TUNING)["name"])[1]


def test_a_custom_job_is_followed_to_its_end(client: Client, followed: Any) -> None:
    status, said, _ = followed(client.create(job(CUSTOM), CUSTOM)["name"])
    assert status == 0
    assert "artifacts: gs://b/alphard/mine-2026-11-21/model/" in said
    status, _, complaints = followed(client.create(job(CUSTOM, "fail=0"), CUSTOM)["name"])
    assert status == 1
    assert "failed: The replica workerpool0-0 exited with a non-zero status of 3" in complaints


def test_a_list_has_every_page_and_only_what_is_asked_for(tmp_path: Path) -> None:
    with service(tmp_path, page=2) as stand_in, Client("p", REGION, stand_in.address) as client:
        names = {client.create(job(CUSTOM, name=f"job-{number}"), CUSTOM)["name"] for number in range(5)}
        client.create(job(TUNING), TUNING)
        assert {one["name"] for one in client.list(CUSTOM)} == names
        assert [one["displayName"] for one in client.list(CUSTOM, 'display_name="job-3"')] == ["job-3"]
        with Client("p", "us-central1", stand_in.address) as elsewhere:
            assert elsewhere.list(CUSTOM) == []


def test_a_cancelled_job_ends_without_success(client: Client, stand_in: Service, followed: Any) -> None:
    name = client.create(job(TUNING, "wait"), TUNING)["name"]
    client.cancel(name)
    status, said, complaints = followed(name)
    assert status == 1
    assert "error: the job ended: cancelled: " in complaints
    assert "succeeded" not in said
    with pytest.raises(UserError, match="is over"):
        client.cancel(name)


# ---- the network


@pytest.mark.parametrize("kind", [TUNING, CUSTOM])
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_job_is_created_exactly_once(
    faults: list[Fault], kind: str, client: Client, stand_in: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.inject("create", *faults)
    the_only(stand_in, client.create(job(kind), kind)["name"])
    complaints = capsys.readouterr().err
    assert len(complaints.splitlines()) == 1
    assert complaints.startswith("could not create the job: ")
    assert "trying again" in complaints


def test_looking_for_a_job_meets_faults_too(client: Client, stand_in: Service) -> None:
    stand_in.inject("create", Fault(dropped="after"))
    stand_in.inject("list", Fault(503), Fault(dropped="before"), Fault(429))
    the_only(stand_in, client.create(job(TUNING), TUNING)["name"])


def test_a_job_of_the_same_name_is_not_taken_for_one_that_got_lost(client: Client, stand_in: Service) -> None:
    earlier = job(TUNING)
    earlier["trialJobSpec"]["baseOutputDirectory"]["outputUriPrefix"] = "gs://b/alphard/earlier"
    first = client.create(earlier, TUNING)["name"]
    stand_in.inject("create", Fault(dropped="before"))
    assert client.create(job(TUNING), TUNING)["name"] != first
    assert len(stand_in.jobs) == 2


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_following_goes_on_after_a_fault(faults: list[Fault], client: Client, stand_in: Service, followed: Any) -> None:
    name = client.create(job(TUNING), TUNING)["name"]
    stand_in.inject("get", *faults)
    status, said, complaints = followed(name)
    assert status == 0
    assert len(re.findall(r"\] trial \d succeeded", said)) == 4
    assert "trying again" in complaints


def test_cancelling_goes_on_after_a_fault(client: Client, stand_in: Service, followed: Any) -> None:
    name = client.create(job(TUNING, "wait"), TUNING)["name"]
    stand_in.inject("cancel", Fault(503), Fault(dropped="before"))
    client.cancel(name)
    assert followed(name)[0] == 1


def test_a_lasting_fault_ends_in_one_error_that_says_the_job_runs_on(
    stand_in: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client("p", REGION, stand_in.address, pause=0.01, patience=0.1) as client:
        name = client.create(job(TUNING, "wait"), TUNING)["name"]
        stand_in.inject("get", *[Fault(503)] * 1000)
        with pytest.raises(TrainingError, match=r"could not get projects/.*: 503 unavailable"):
            follow(client, name)
        complaints = capsys.readouterr().err
        assert f"alphard wait {name} endpoint={stand_in.address}" in complaints
        assert f"alphard cancel {name}" in complaints
        stand_in.inject("create", *[Fault(429)] * 1000)
        with pytest.raises(TrainingError, match="quota"):
            client.create(job(TUNING, name="another"), TUNING)
        assert "the job may be there nevertheless; see: gcloud ai hp-tuning-jobs list" in capsys.readouterr().err


def test_nobody_at_the_endpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with service(tmp_path) as gone:
        pass
    client = Client("p", REGION, gone.address, pause=0.01, patience=0.05)
    with client, pytest.raises(TrainingError, match="Connection refused"):
        client.list(TUNING)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (400, "dry_run=true"),
        (403, "roles/aiplatform.user"),
        (404, "region europe-west4"),
    ],
)
def test_a_refusal_is_told_once_with_a_remedy(code: int, remedy: str, client: Client, stand_in: Service) -> None:
    stand_in.inject("create", *[Fault(code)] * 2)
    with pytest.raises(
        UserError, match=f"could not create the job: .*{code} .*as this test wants it.*{re.escape(remedy)}"
    ):
        client.create(job(TUNING), TUNING)
    assert stand_in.requests["create"] == 1
    assert not stand_in.jobs


def test_credentials_that_are_refused_are_told_with_the_remedy(client: Client, stand_in: Service) -> None:
    stand_in.inject("list", Fault(401))
    with pytest.raises(
        UserError, match=r"could not list customJobs: no credentials .*`gcloud auth application-default"
    ):
        client.list(CUSTOM)


def test_what_the_service_finds_wrong_is_told_by_its_fields(client: Client) -> None:
    grid = job(TUNING)
    grid["studySpec"]["algorithm"] = "GRID_SEARCH"
    with pytest.raises(UserError, match=r"400 .*study_spec.algorithm: is missing or out of its range"):
        client.create(grid, TUNING)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"displayNam": "x"}, 'no field named "displayNam"'),
        ({"studySpec": {"algorithm": "RANDM_SEARCH"}}, "RANDM_SEARCH"),
        ({"studySpec": {"parameters": [{"scaleType": "LOG"}]}}, "LOG"),
        ({"maxTrialCount": 1.5}, "1.5"),
        ({"trialJobSpec": {"scheduling": {"timeout": "6h"}}}, "6h"),
    ],
)
def test_what_the_api_does_not_know_is_refused_before_it_is_sent(
    change: dict[str, Any], problem: str, client: Client, stand_in: Service
) -> None:
    with pytest.raises(UserError, match=re.escape(problem)):
        client.create(job(TUNING) | change, TUNING)
    assert not stand_in.requests


# ---- ends


@pytest.mark.parametrize(
    ("state", "status", "word"),
    [
        ("JOB_STATE_EXPIRED", 1, "error: the job ended: expired"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", 0, "partially succeeded: some results may be missing"),
        (77, 1, "error: the job ended: 77, a state that is not known here"),
    ],
)
@pytest.mark.parametrize("kind", [TUNING, CUSTOM])
def test_a_state_that_is_not_one_of_the_unfinished_ends_the_wait(
    kind: str, state: str | int, status: int, word: str, client: Client, stand_in: Service, followed: Any
) -> None:
    name = client.create(job(kind, "wait"), kind)["name"]
    stand_in.jobs[Name.of(name).number].state = state
    returned, said, complaints = followed(name)
    assert returned == status
    assert word in said + complaints


@pytest.mark.parametrize("odd", [{}, [], {"displayName": "mine"}])
@pytest.mark.parametrize("kind", [TUNING, CUSTOM])
def test_an_answer_without_a_state_is_asked_for_again(
    kind: str, odd: Any, client: Client, stand_in: Service, followed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = client.create(job(kind), kind)["name"]
    told, odds = stand_in.answer, [odd, odd, None, odd]

    def answer(verb: str, *request: Any) -> Any:
        now = odds.pop(0) if odds and verb == "get" else None
        return told(verb, *request) if now is None else now

    monkeypatch.setattr(stand_in, "answer", answer)
    status, said, complaints = followed(name)
    assert (status, complaints) == (0, "")
    assert said.splitlines()[-1] == "succeeded"
    assert said.count(" succeeded  score 0.") == (4 if kind == TUNING else 0)
    odds += [odd] * 1000
    before = stand_in.requests["get"]
    with pytest.raises(TrainingError, match=r"^could not get projects/.*: the service's answers have no state; "):
        followed(name)
    assert stand_in.requests["get"] - before == 5


def test_a_job_whose_state_is_unspecified_is_not_taken_for_one_that_is_over(client: Client, stand_in: Service) -> None:
    name = client.create(job(TUNING, "wait"), TUNING)["name"]
    stand_in.jobs[Name.of(name).number].state = 0
    with pytest.raises(TrainingError, match="have no state"):
        follow(client, name, pause=0.01)


def test_trials_that_may_fail_leave_the_job_a_success(client: Client, followed: Any) -> None:
    status, said, _ = followed(client.create(job(TUNING, "fail=4"), TUNING)["name"])
    assert status == 0
    assert re.search(r"trial 4 infeasible  best 0\.\d+ .*non-zero status of 3", said)
    assert "best: trial 3  score 0.300000" in said


def test_one_failed_trial_too_many_ends_the_job(client: Client, followed: Any) -> None:
    status, _, complaints = followed(client.create(job(TUNING, "fail=1,2"), TUNING)["name"])
    assert status == 1
    assert "error: the job ended: failed: 2 trials failed" in complaints
    assert "logs: https://console.cloud.google.com/logs/" in complaints


def test_trials_that_come_late_from_an_old_copy_are_told_once(client: Client, stand_in: Service, followed: Any) -> None:
    name = client.create(job(TUNING), TUNING)["name"]
    stand_in.jobs[Name.of(name).number].stale = 2
    status, said, _ = followed(name)
    assert status == 0
    assert sorted(re.findall(r"\] trial (\d) ", said)) == ["1", "2", "3", "4"]
    stand_in.jobs[Name.of(name).number].stale = 1000
    status, said, _ = followed(name)
    assert status == 0
    assert "without an end when the job was over: trial 4" in said


# ---- names, and what has to be there


@pytest.mark.parametrize(
    "name", ["123", "projects/p/locations/l/models/1", "projects/p/hyperparameterTuningJobs/1", "gs://b/x", ""]
)
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no job's name; give projects/PROJECT"):
        Name.of(name)


def test_the_links_name_the_job() -> None:
    name = f"projects/p-1/locations/{REGION}/{TUNING}/123"
    assert console_url(name).endswith(f"/locations/{REGION}/training/123?project=p-1")
    assert "job_id%3D%22123%22" in logs_url(name)


@pytest.mark.more  # three seconds of imports
@pytest.mark.parametrize(("kind", "cls"), [(TUNING, "HyperparameterTuningJob"), (CUSTOM, "CustomJob")])
def test_the_link_is_the_one_that_googles_own_client_gives(kind: str, cls: str) -> None:
    name = f"projects/p-1/locations/{REGION}/{kind}/123"
    code = (
        f"from google.cloud.aiplatform import {cls} as J; import types; one = J.__new__(J); "
        f"one._gca_resource = types.SimpleNamespace(name={name!r}); print(one._dashboard_uri())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == console_url(name)


def run_without(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GOOGLE_", "CLOUDSDK_"))}
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=False, cwd=ROOT
    )


CALL = """
import sys
{before}
import alphard.errors
from vertex_ai.client import Client
try:
    Client("p", "europe-west4", patience=0.2, pause=0.01).list("customJobs")
except alphard.errors.UserError as error:
    sys.exit(error.paragraph())
"""


def test_the_extra_that_is_missing_is_named() -> None:
    before = "sys.modules['google.cloud.aiplatform_v1'] = None"  # what Python itself puts for what it must not import
    done = run_without(CALL.format(before=before))
    assert done.returncode == 1
    assert "pip install 'alphard[vertex]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_credentials_that_are_missing_are_one_error_with_the_remedy(tmp_path: Path) -> None:
    done = run_without(CALL.format(before=""), HOME=str(tmp_path), CLOUDSDK_CONFIG=str(tmp_path), NO_GCE_CHECK="true")
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert "`gcloud auth application-default login`" in done.stderr
    assert "Traceback" not in done.stderr


# ---- a training of our own


@pytest.mark.more  # two trainings
def test_a_search_of_our_own_container_runs_to_its_end(
    tmp_path: Path, followed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    real = job(TUNING, "data=breast_cancer", "epochs=2", "threads=1", trials=2)
    real["studySpec"]["metrics"][0]["metricId"] = "validation_accuracy"
    real["studySpec"]["parameters"] = [
        real["studySpec"]["parameters"][0],
        {"parameterId": "model.net.hidden", "categoricalValueSpec": {"values": ["[8]", "[16,8]"]}},
    ]
    began = time.monotonic()
    with (
        Service(tmp_path / "real", Direct(ROOT, threads=1)) as real_service,
        Client("p", REGION, real_service.address) as client,
    ):
        name = client.create(real, TUNING)["name"]
        assert follow(client, name, pause=0.1, longest=0.5) == 0
        trials = client.get(name)["trials"]
    assert time.monotonic() - began < 120
    assert {one["state"] for one in trials} == {"SUCCEEDED"}
    for one in trials:
        assert one["finalMeasurement"]["metrics"][0]["value"] > 0.5
        assert (tmp_path / "real" / Name.of(name).number / "output" / one["id"] / "model" / "metrics.json").is_file()
    assert "trial 2 succeeded  validation_accuracy" in capsys.readouterr().out
