"""Several machines of Vertex AI, played by processes on this one: one job, one result.  Real processes, real sockets."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from alphard import build, cluster, ranks
from alphard.errors import TrainingError, UserError
from tests.conftest import ROOT, environment, run_train
from tests.in_process import config_of, run_here
from tests.ports import free_port

DDP = ("trainer=ddp", "--trainer.accelerator=cpu", "--threads=1")
# Without dropout the sum over all rows is the same, however many processes share them; 1000 rows divide evenly.
EVEN = ("data=synthetic", "data.rows=1250", "model.net.dropout=0", "optimizer=sgd", "epochs=3", "learning_rate=0.02")
ENDLESS = ("data=synthetic", "data.rows=3000", "epochs=100000", "patience=100000")


def spec(pools: dict[str, int], kind: str, index: int, port: int = 2222) -> str:
    """CLUSTER_SPEC as a replica finds it."""
    hosts = {name: [f"127.0.0.1:{port}"] * count for name, count in pools.items()}
    task = {"type": kind, "index": index, "trial": "3"}
    return json.dumps({"cluster": hosts, "environment": "cloud", "task": task, "job": "{}"})


Machine = subprocess.Popen[str]


@contextlib.contextmanager
def job(folder: Path, pools: list[int], *arguments: str, only: tuple[str, ...] = ()) -> Iterator[list[Machine]]:
    """The container's command on each machine, with what Vertex AI sets there; ends what is left of them.

    only: further arguments of the last machine.
    """
    names = {f"workerpool{n}": count for n, count in enumerate(pools)}
    places = [(name, index) for name, count in names.items() for index in range(count)]
    port, machines = free_port(), []
    try:
        for number, (name, index) in enumerate(places):
            vertex = {"CLUSTER_SPEC": spec(names, name, index, port), "AIP_MODEL_DIR": f"{folder}/3/model/"}
            vertex |= {"CLOUD_ML_TRIAL_ID": "3", "CLOUD_ML_HP_METRIC_FILE": f"{folder}/metrics"}
            if len(places) > 1:  # which count machines
                vertex |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                vertex |= {"RANK": str(number), "WORLD_SIZE": str(len(places))}
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            last = only if number == len(places) - 1 else ()
            machines.append(
                subprocess.Popen(
                    ["bash", str(ROOT / "convert_command.sh"), *arguments, *last],
                    cwd=folder,
                    env=environment(PATH=path, **vertex),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        yield machines
    finally:
        for machine in machines:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)
            machine.communicate()


def ended(machines: list[Machine], seconds: float = 120) -> list[tuple[int, str, str]]:
    """Each machine's status, output and errors."""
    said = [machine.communicate(timeout=seconds) for machine in machines]
    return [(machine.returncode, *words) for machine, words in zip(machines, said, strict=True)]


def trained(folder: Path, pools: list[int], *arguments: str) -> dict[str, Any]:
    """What a job on these machines found."""
    folder.mkdir()
    with job(folder, pools, *arguments) as machines:
        assert {status for status, _, _ in ended(machines, 240)} == {0}
    found: dict[str, Any] = json.loads((folder / "3/model/metrics.json").read_text())
    return found


def left(folder: Path) -> str:
    """The processes that still name the folder, in their arguments or as the one they run in."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cwd").readlink() == folder:
                found.append((place / "cmdline").read_text())
    return "\n".join(found)


@pytest.mark.more(minutes=3)  # two cold starts
def test_two_machines_train_as_one_job_and_only_the_first_speaks(tmp_path: Path) -> None:
    arguments = (*DDP, "--trainer.devices=auto", "--data=breast_cancer", "--epochs=3")
    with job(tmp_path, [1, 1], *arguments) as machines:
        first, second = ended(machines)
    assert (first[0], first[2]) == (0, "")
    assert second == (0, "", "")
    assert first[1].count("artifacts: ") == 1
    steps = [json.loads(line)["global_step"] for line in (tmp_path / "metrics").read_text().splitlines()]
    assert steps == ["1", "2", "3", "4"]
    run_here(tmp_path / "more", "data=breast_cancer", "epochs=1")  # what a run on one machine leaves
    assert {p.name for p in (tmp_path / "3/model").iterdir()} == {p.name for p in (tmp_path / "more").iterdir()}


@pytest.mark.more
def test_two_by_two_processes_are_four_on_one_machine_and_one_with_four_times_the_batch(tmp_path: Path) -> None:
    together = trained(tmp_path / "2x2", [1, 1], *DDP, "--trainer.devices=2", *EVEN, "batch_size=25")
    alone = trained(tmp_path / "1x4", [1], *DDP, "--trainer.devices=4", *EVEN, "batch_size=25")
    for name in ("model.pt", "preprocessing.skops"):
        assert (tmp_path / "2x2/3/model" / name).exists() == (tmp_path / "1x4/3/model" / name).exists()
    weights = [torch.load(tmp_path / each / "3/model/model.pt", weights_only=True) for each in ("2x2", "1x4")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert {**together, "model_uri": ""} == {**alone, "model_uri": ""}
    run_train(tmp_path, "threads=1", *EVEN, "batch_size=100", "output_dir=large")
    large = json.loads((tmp_path / "large/metrics.json").read_text())
    # Only if each row is in one share, and once: the gradients' mean is then that of the large batch.
    assert together["final_val_loss"] == pytest.approx(large["final_val_loss"], rel=1e-4)
    assert together["final_val_accuracy"] == pytest.approx(large["final_val_accuracy"], abs=0.005)


@pytest.mark.more
def test_three_machines_in_three_pools_without_ddp_being_asked_for(tmp_path: Path) -> None:
    found = trained(tmp_path / "job", [1, 1, 1], "trainer=cpu", "--threads=1", *EVEN, "batch_size=30")
    assert found["stopped_epoch"] == 3


@pytest.mark.more
def test_jobs_of_a_multirun_follow_each_other_on_all_machines(tmp_path: Path) -> None:
    arguments = (*DDP, "--trainer.devices=1", "--data=breast_cancer", "--epochs=1")
    with job(tmp_path, [1, 1], "-m", *arguments, "seed=0,1") as machines:
        first, second = ended(machines)
    assert (first[0], first[1].count("artifacts: ")) == (0, 3)  # each job's, and the table's
    assert second == (0, "", "")
    assert all((tmp_path / f"3/model/trials/{number}/metrics.json").exists() for number in (0, 1))


@pytest.mark.more
def test_a_finished_job_is_finished_for_all_machines(tmp_path: Path) -> None:
    arguments = (*DDP, "--trainer.devices=1", "--data=breast_cancer", "--epochs=1")
    with job(tmp_path, [1, 1], *arguments) as machines:
        assert [status for status, _, _ in ended(machines)] == [0, 0]
    with job(tmp_path, [1, 1], *arguments) as machines:
        first, second = ended(machines, 60)
    assert first[0] == 0
    assert "holds this config's finished run" in first[1]
    assert second == (0, "", "")


@pytest.mark.more
def test_what_cannot_be_trained_ends_every_machine_at_once(tmp_path: Path) -> None:
    with job(tmp_path, [1, 1], *DDP, "data=csv", "--data.path=/no/rows.csv", "--data.target=label") as machines:
        for status, out, err in ended(machines, 60):
            assert (status, out) == (2, "")
            assert err == "error: data.path: /no/rows.csv does not exist\n"
    assert not (tmp_path / "3").exists()


@pytest.mark.more
def test_machines_that_were_given_different_arguments_say_so(tmp_path: Path) -> None:
    arguments = (*DDP, "--trainer.devices=1", "--data=breast_cancer")
    with job(tmp_path, [1, 1], *arguments, only=("--epochs=7",)) as machines:
        for status, out, err in ended(machines, 60):
            assert (status, out) == (1, "")
            assert "machine 1 and machine 0 differ in config or number of devices; give all worker pools" in err
    assert not (tmp_path / "3").exists()


def until_validated(machine: Machine, times: int = 2) -> None:
    assert machine.stdout
    while times:
        line = machine.stdout.readline()
        assert line, "ended by itself"
        times -= line.startswith("validation_accuracy")


@pytest.mark.more
@pytest.mark.parametrize(("devices", "at_once"), [(1, False), (2, True)])
def test_a_stopped_job_keeps_the_best_weights_and_leaves_no_process(
    devices: int, at_once: bool, tmp_path: Path
) -> None:
    with job(tmp_path, [1, 1], *DDP, f"--trainer.devices={devices}", *ENDLESS) as machines:
        until_validated(machines[0])
        assert left(tmp_path)
        machines[1].send_signal(signal.SIGTERM)
        if not at_once:
            machines[1].wait(30)  # and with it the connection
        machines[0].send_signal(signal.SIGTERM)
        assert [status for status, _, _ in ended(machines, 30)] == [143, 143]
        wait_until(lambda: not left(tmp_path))
    metrics = json.loads((tmp_path / "3/model/metrics.json").read_text())
    assert metrics["stopped_by"] == "SIGTERM"


@pytest.mark.more
@pytest.mark.parametrize(("lost", "devices"), [(0, 1), (1, 2)])
def test_a_lost_machine_ends_the_other_with_an_error_that_says_so(lost: int, devices: int, tmp_path: Path) -> None:
    with job(tmp_path, [1, 1], *DDP, f"--trainer.devices={devices}", *ENDLESS) as machines:
        until_validated(machines[0])
        os.killpg(machines[lost].pid, signal.SIGKILL)
        status, _, err = ended(machines, 60)[1 - lost]
        wait_until(lambda: not left(tmp_path))
    assert status == 1
    assert err.count("error: ") == 1
    assert f"CLUSTER_SPEC: machine {1 - lost} of 2 (127.0.0.1:" in err
    assert "lost another one, whose log says why" in err
    assert not (tmp_path / "3/model/metrics.json").exists()


def wait_until(there: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# In this process


@pytest.fixture
def on_vertex(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make this process one of a job's replicas."""
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # undone at the end: a trainer made here sets it

    def put(pools: dict[str, int], kind: str, index: int, port: int = 2222) -> None:
        for name in ("LOCAL_RANK", "RANK", "MASTER_PORT", ranks.TORCHRUN):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CLUSTER_SPEC", spec(pools, kind, index, port))

    return put


def test_machines_are_counted_through_all_pools(on_vertex: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = {"workerpool1": 2, "workerpool0": 1, "workerpool2": 0, "workerpool3": 1}
    places = [("workerpool0", 0), ("workerpool1", 0), ("workerpool1", 1), ("workerpool3", 0)]
    for number, (kind, index) in enumerate(places):
        on_vertex(pools, kind, index)
        there = ranks.cluster()
        assert there
        assert (there.machine, there.machines, there.port) == (number, 4, 2222)
        assert ranks.first() == (number == 0)
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert not ranks.first()
    on_vertex(pools, "workerpool0", 0)
    monkeypatch.setenv("MASTER_PORT", "29500")
    there = ranks.cluster()
    assert there
    assert there.port == 29500


def test_torchrun_counts_for_itself(on_vertex: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_vertex({"workerpool0": 1, "workerpool1": 1}, "workerpool1", 0)
    monkeypatch.setenv(ranks.TORCHRUN, "none")
    for rank, first in (("0", True), ("3", False)):
        monkeypatch.setenv("RANK", rank)
        assert ranks.cluster() is None
        assert ranks.first() == first


MALFORMED = {
    "no JSON": ("{", "CLUSTER_SPEC: {: "),
    "no object": ("[1]", "CLUSTER_SPEC: [1]: "),
    "no task": ('{"cluster": {"workerpool0": ["a:1"]}}', "'task' is missing"),
    "no cluster": ('{"task": {"type": "workerpool0", "index": 0}}', "'cluster' is missing"),
    "another pool": ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}', "worker is no workerpool0"),
    "no port": ('{"cluster": {"workerpool0": ["a"]}, "task": {"type": "workerpool0", "index": 0}}', "'a' is no HOST:PORT"),
    "no such machine": ('{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool0", "index": 1}}', "no machine 1"),
    "no such port": ('{"cluster": {"workerpool0": ["h:99999"]}, "task": {"type": "workerpool0", "index": 0}}', "'h:99999' is no HOST:PORT, with a port from 1 to 65535"),
    "port 0": ('{"cluster": {"workerpool0": ["h:0"]}, "task": {"type": "workerpool0", "index": 0}}', "'h:0' is no HOST:PORT"),
    "a pool under two names": ('{"cluster": {"workerpool0": ["a:1"], "workerpool00": ["b:1"]}, "task": {"type": "workerpool0", "index": 0}}', "workerpool00 is no workerpool0"),
    "a pool twice": ('{"cluster": {"workerpool0": ["a:1"], "workerpool0": ["b:1"]}, "task": {"type": "workerpool0", "index": 0}}', "workerpool0 stands there twice"),
    "a task of another pool's name": ('{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool00", "index": 0}}', "workerpool00 is no workerpool0"),
    "endless": ('{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool0", "index": 1e999}}', "cannot convert float infinity"),
    "too deep": ("[" * 100000, "recursion"),
    "no such pool": ('{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool1", "index": 0}}', "1 is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_description_is_one_clear_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, said = MALFORMED[name]
    monkeypatch.delenv(ranks.TORCHRUN, raising=False)
    monkeypatch.setenv("CLUSTER_SPEC", text)
    with pytest.raises(UserError) as caught:
        ranks.cluster()
    assert said in str(caught.value)
    assert str(caught.value).endswith("elsewhere unset it")


@pytest.mark.parametrize("port", ["99999", "0", "-1", "http", "٣", "9" * 5000])
def test_a_port_that_no_machine_has_is_refused(port: str, on_vertex: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_vertex(TWO, "workerpool0", 0)
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(UserError, match=r"^MASTER_PORT: '.*': is no port; give one from 1 to 65535, or unset it$"):
        ranks.cluster()


@pytest.mark.more
def test_train_py_says_it_before_anything_is_loaded(tmp_path: Path) -> None:
    done = run_train(tmp_path, "epochs=1", "output_dir=out", cold=True, CLUSTER_SPEC="{")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: CLUSTER_SPEC: {: ")
    assert list(tmp_path.iterdir()) == []


def test_a_search_is_for_one_machine(tmp_path: Path) -> None:
    two = spec({"workerpool0": 1, "workerpool1": 1}, "workerpool1", 0)
    done = run_train(tmp_path, "search=mlp", "search.trials=1", CLUSTER_SPEC=two)
    assert done.status == 2
    assert done.err.startswith("error: search: this job has 2 machines, as CLUSTER_SPEC says")
    assert list(tmp_path.iterdir()) == []


TWO = {"workerpool0": 1, "workerpool1": 1}


def test_what_contradicts_the_machines_is_refused(on_vertex: Any) -> None:
    for pools, asked, said in (
        (TWO, "+trainer.num_nodes=3", r"^trainer.num_nodes: 3: CLUSTER_SPEC says 2; leave it out"),
        (TWO, "+trainer.num_nodes=1", r"^trainer.num_nodes: 1: CLUSTER_SPEC says 2; leave it out"),
        ({"workerpool0": 1}, "+trainer.num_nodes=2", r"^trainer.num_nodes: 2: CLUSTER_SPEC says 1; leave it out"),
        (TWO, "+trainer.strategy=ddp_spawn", r"^trainer.strategy: ddp_spawn: would train on each .*; trainer=ddp"),
    ):
        on_vertex(pools, "workerpool0", 0)
        with pytest.raises(UserError, match=said):
            build.trainer_of(config_of("trainer=cpu", asked), [], Path("logs"))


def test_one_machine_is_no_cluster(on_vertex: Any, tmp_path: Path) -> None:
    on_vertex({"workerpool0": 1}, "workerpool0", 0)
    assert not cluster.VertexAI.detect()
    assert run_here(tmp_path, "data=breast_cancer", "epochs=1", "trainer=cpu").metrics["stopped_epoch"] == 1


def test_a_machine_that_does_not_come_is_named(on_vertex: Any) -> None:
    config = config_of("trainer=cpu")
    for machine, said in (
        (0, r"machine 1 \(127.0.0.1:\d+\) did not come"),
        (1, r"machine 0 \(127.0.0.1:\d+\) did not come"),
    ):
        on_vertex(TWO, f"workerpool{machine}", 0, free_port())
        trainer = build.trainer_of(config, [], Path("logs"))
        assert (trainer.world_size, trainer.global_rank, trainer.num_nodes) == (2, machine, 2)
        with pytest.raises(TrainingError, match=said), cluster.assembled(config, trainer, patience=0.3):
            pytest.fail("trains")


def test_a_port_that_is_taken_is_named(on_vertex: Any) -> None:
    config = config_of("trainer=cpu")
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        on_vertex(TWO, "workerpool0", 0, listener.getsockname()[1])
        trainer = build.trainer_of(config, [], Path("logs"))
        said = r"cannot listen on port \d+.*; MASTER_PORT names another"
        with pytest.raises(TrainingError, match=said), cluster.assembled(config, trainer):
            pytest.fail("trains")


def test_an_error_of_the_model_is_not_taken_for_a_lost_machine(on_vertex: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_vertex(TWO, "workerpool0", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")  # which meets nobody
    trainer = build.trainer_of(config_of("trainer=cpu"), [], Path("logs"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), cluster.assembled(config_of(), trainer):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_a_further_process_that_loses_a_machine_lets_the_first_speak(
    on_vertex: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning kills a first process whose further one ends with a status other than 0."""
    on_vertex(TWO, "workerpool0", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(cluster, "SIGNALLED", 0.0)
    trainer = build.trainer_of(config_of("trainer=cpu"), [], Path("logs"))
    with pytest.raises(SystemExit) as ended, cluster.assembled(config_of(), trainer):
        raise RuntimeError("[transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242")
    assert ended.value.code == 0


def test_a_run_of_one_process_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its own code says of a connection is its own."""
    monkeypatch.delenv("CLUSTER_SPEC", raising=False)
    trainer = build.trainer_of(config_of("trainer=cpu"), [], Path("logs"))
    with pytest.raises(RuntimeError, match=r"^Connection reset by peer"), cluster.assembled(config_of(), trainer):
        raise RuntimeError("Connection reset by peer: the rows' own server")
