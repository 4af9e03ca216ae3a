"""A job on several machines of Vertex AI, made one for Lightning, whose ranks count processes.

Vertex AI starts the same command on each machine, and Lightning its further processes there.
"""

import hashlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]  # re-exported without a word
from torch.distributed import DistError, DistNetworkError, TCPStore  # type: ignore[attr-defined]  # made in C++

from alphard import ranks
from alphard.errors import Interrupted, TrainingError, UserError
from alphard.fingerprint import fingerprint
from alphard.ranks import Cluster

PATIENCE = 600.0  # seconds: one machine may fetch the image long after another
SIGNALLED = 5.0  # seconds: who stops a job stops one machine after another
TASK, START = "alphard/task", "alphard/start"
# What gloo says of a connection whose other end is gone; nccl raises a DistError.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "connectFullMesh failed")


class VertexAI(LightningEnvironment):
    """The machines of CLUSTER_SPEC, to Lightning."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster

    @staticmethod
    def detect() -> bool:
        return ranks.several() is not None

    @property
    def main_address(self) -> str:
        return self.cluster.address

    @property
    def main_port(self) -> int:
        return self.cluster.port

    def node_rank(self) -> int:
        return self.cluster.machine


def arguments(node: DictConfig, plugins: list[Any]) -> dict[str, Any]:
    """What Lightning's Trainer is to be told of the machines; nothing where this is the only one.

    plugins: those that the config has.

    Raises UserError where the config says another number of them, or a strategy that does not reach beyond one.
    """
    there, asked, strategy = ranks.cluster(), node.get("num_nodes"), str(node.get("strategy") or "auto")
    if there is None:
        return {}
    if asked not in (None, there.machines):
        said = f"{ranks.SPEC} says {there.machines}; leave it out: replicas=… of alphard submit says how many machines"
        raise UserError(f"trainer.num_nodes: {asked}: {said}")
    if there.machines == 1:
        return {}
    if any(word in strategy for word in ("single", "spawn", "fork", "notebook")):
        alone = f"would train on each of the {there.machines} machines alone"
        raise UserError(f"trainer.strategy: {strategy}: {alone}; trainer=ddp trains on all of them together")
    return {"num_nodes": there.machines, "plugins": [*plugins, VertexAI(there)]}


@contextmanager
def assembled(config: DictConfig, trainer: pl.Trainer, patience: float = PATIENCE) -> Iterator[None]:
    """Enter when every machine is about to train the same; at once where there is one.

    patience: seconds to wait for the others.

    Raises TrainingError where one of them does not come, trains something else, or is lost inside.
    """
    there = ranks.several()
    try:
        # Kept open: torch's own meeting point is the same server.
        store = None
        if there and not ranks.local():
            store = _met(there, _digest(config, trainer), time.monotonic() + patience)
        yield
        del store
    except RuntimeError as error:
        lost = isinstance(error, DistError) or any(words in str(error) for words in LOST)
        if not lost or trainer.world_size == 1:
            raise
        if ranks.local():
            # Each machine's first process speaks for it; at another status Lightning kills that one, within 5 seconds.
            raise SystemExit(0) from None
        said = re.sub(r"^\[\S*\] ", "", str(error).strip()).partition(". ")[0]
        if not there:
            why = "what it printed says why, or nothing where the system killed it, as for want of memory"
            which = f"{trainer.num_devices}: another of this run's processes is gone"
            raise TrainingError(f"trainer.devices: {which}; {why} ({said})") from error
        time.sleep(SIGNALLED)
        which = f"machine {there.machine} of {there.machines} ({there.hosts[there.machine]})"
        raise TrainingError(f"{ranks.SPEC}: {which} lost another one, whose log says why: {said}") from error


def _met(there: Cluster, mine: str, deadline: float) -> TCPStore:
    """The meeting point of the machines' first processes, when all have come there."""
    if there.machine:
        store = _found(there, deadline)
        same = _until(lambda: store.check([TASK]), deadline) and store.get(TASK).decode() == mine
        store.set(_key(there.machine), mine)  # now, for the first machine ends where it reads another task
        if not same:
            raise _different(there.machine)
        if not _until(lambda: store.check([START]), deadline):
            raise TrainingError(f"{ranks.SPEC}: machine 0 came, but not all others in time; their logs say why")
        return store
    store = _opened(there)
    store.set(TASK, mine)
    others = range(1, there.machines)
    if not _until(lambda: store.check([_key(n) for n in others]), deadline):
        late = ", ".join(f"{n} ({there.hosts[n]})" for n in others if not store.check([_key(n)]))
        raise TrainingError(f"{ranks.SPEC}: machine {late} did not come in time; its log says why")
    if different := [n for n in others if store.get(_key(n)).decode() != mine]:
        raise _different(*different)
    store.set(START, "")
    return store


def _opened(there: Cluster) -> TCPStore:
    try:
        return TCPStore(there.address, there.port, is_master=True, wait_for_workers=False, multi_tenant=True)
    except DistNetworkError as error:
        said = f"machine 0 cannot listen on port {there.port}: {str(error).splitlines()[0]}"
        raise TrainingError(f"{ranks.SPEC}: {said}; MASTER_PORT names another, the same for all machines") from error


def _found(there: Cluster, deadline: float) -> TCPStore:
    where = (there.address, there.port)
    if not _until(lambda: _listens(*where), deadline):  # TCPStore's own attempts fill pages, and hear no signal
        raise TrainingError(f"{ranks.SPEC}: machine 0 ({there.hosts[0]}) did not come in time; its log says why")
    return TCPStore(*where, is_master=False, wait_for_workers=False)


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def _until(there: Callable[[], bool], deadline: float) -> bool:
    """Whether it is there before the deadline."""
    while not there():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _key(machine: int) -> str:
    return f"alphard/machine/{machine}"


def _digest(config: DictConfig, trainer: pl.Trainer) -> str:
    """What has to be the same everywhere: what is trained, and on how many devices."""
    trained = {name: value for name, value in fingerprint(config).items() if name != "threads"}
    text = json.dumps([trained, trainer.num_devices], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _different(*machines: int) -> TrainingError:
    which = ", ".join(map(str, machines))
    remedy = "give all worker pools the same arguments and machine type"
    return TrainingError(f"{ranks.SPEC}: machine {which} and machine 0 differ in config or number of devices; {remedy}")


def leave_process_group(trainer: pl.Trainer, stopped: Interrupted | None) -> None:
    """After this, rank zero works alone: nothing that it computes waits for the others, which a stop ends."""
    others = _taken_from(trainer) if stopped else []
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if not stopped:
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    for process in others:
        try:
            process.wait(SIGNALLED)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _taken_from(trainer: pl.Trainer) -> "list[subprocess.Popen[bytes]]":
    """The processes that Lightning started, no longer its to watch: where one ends badly, it kills this one too."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    taken = [process for process in started if isinstance(process, subprocess.Popen)]
    started.clear()
    return taken
