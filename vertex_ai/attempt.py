"""One start of a trial's replicas, in the environment that Vertex AI gives them, to the end of the last process."""

import errno
import json
import queue
import random
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertex_ai.places import Place, Running
from vertex_ai.played import CANCELLED, TIMEOUT, Attempt, Played

PORTS = range(10_000, 32_768)  # a replica listens seconds later: until then nobody should be given its port
LAST = 30.0  # seconds that the other replicas have when the first is done
NOT_FOUND = 127  # a shell's status for a command that cannot be started


@dataclass(frozen=True)
class Replica:
    """One machine's process: its name, as workerpool1-0, its arguments and environment."""

    name: str
    arguments: list[str]
    environment: dict[str, str]


class Start:
    """An attempt: `run` starts every replica and ends them all; `cancel` ends it from another thread.

    A replica that ends with an error ends the attempt, and so does the first one's success, which leaves the others
    LAST seconds.
    """

    def __init__(self, place: Place, replicas: Sequence[Replica], files: Path, number: int, grace: float) -> None:
        self.place, self.replicas, self.grace = place, replicas, grace
        first = replicas[0].name
        self.logs = {
            one.name: files / (f"attempt-{number}.log" if one.name == first else f"attempt-{number}.{one.name}.log")
            for one in replicas
        }
        self.statuses: dict[str, int] = {}
        self._said: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()

    def cancel(self) -> None:
        """End it soon."""
        self._said.put(None)

    def run(self, until: float | None) -> Attempt:
        """Run to the end, or to the moment `until` of time.monotonic()."""
        began, running, why, threads = time.monotonic(), dict[str, Running](), "", []
        with ExitStack() as stack:
            try:
                for replica in self.replicas:
                    log = stack.enter_context(self.logs[replica.name].open("wb"))
                    try:
                        process = self.place.start(replica.arguments, replica.environment, log)
                    except OSError as error:
                        log.write(f"error: {error.filename}: cannot be started: {error.strerror}\n".encode())
                        self._said.put((replica.name, NOT_FOUND))
                        continue
                    running[replica.name] = process
                    threads.append(threading.Thread(target=self._wait, args=(replica.name, process)))
                    threads[-1].start()
                why = self._until_decided(until)
            finally:
                self._end(running, bool(why))
                for thread in threads:
                    thread.join()
        return Attempt(dict(self.statuses), time.monotonic() - began, self.logs, why)

    def _wait(self, name: str, process: Running) -> None:
        self._said.put((name, process.wait()))

    def _until_decided(self, until: float | None) -> str:
        """Hear who ends until it is known how the attempt ends; returns why it is to be ended, if so."""
        first, last = self.replicas[0].name, until
        while len(self.statuses) < len(self.replicas):
            try:
                said = self._said.get(timeout=None if last is None else max(0.0, last - time.monotonic()))
            except queue.Empty:
                return "" if first in self.statuses else TIMEOUT
            if said is None:
                return CANCELLED
            name, self.statuses[name] = said[0], said[1]
            if self.statuses[name]:
                return ""
            if name == first:
                last = min(time.monotonic() + LAST, until or float("inf"))
        return ""

    def _end(self, running: Mapping[str, Running], noted: bool) -> None:
        """SIGTERM to those that still run, SIGKILL to what is left of all; `noted`: how they took it is of interest."""
        left = {*running} - {*self.statuses}
        for name in left:
            running[name].terminate()
        until = time.monotonic() + self.grace
        while left:
            try:
                said = self._said.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if said:
                left.discard(said[0])
                self.statuses |= {said[0]: said[1]} if noted else {}
        for name, process in running.items():
            process.kill()
            self.statuses |= {name: -signal.SIGKILL} if noted and name in left else {}


def replicas(spec: Mapping[str, Any], played: Played, base: str | None) -> list[Replica]:
    """Every machine of a job spec, on free ports of 127.0.0.1, with what Vertex AI sets for this trial.

    A custom job's run is told a metric file too, or it would write to /tmp as on the service.
    """
    pools = [pool for pool in spec["workerPoolSpecs"] if int(pool.get("replicaCount") or 1) and "containerSpec" in pool]
    counts = [int(pool.get("replicaCount") or 1) for pool in pools]
    ports = iter(_free_ports(sum(counts)))
    cluster = {f"workerpool{at}": [f"127.0.0.1:{next(ports)}" for _ in range(n)] for at, n in enumerate(counts)}
    found: list[Replica] = []
    for pool, (kind, addresses) in zip(pools, cluster.items(), strict=True):
        container = pool["containerSpec"]
        for index in range(len(addresses)):
            task = {"type": kind, "index": index, "trial": played.id}
            told = {"cluster": cluster, "environment": "cloud", "task": task}
            environment = {str(one["name"]): str(one.get("value", "")) for one in container.get("env", ())}
            environment |= _of_trial(played, base) | {"CLUSTER_SPEC": json.dumps(told)}
            if sum(counts) > 1:
                host, _, port = cluster["workerpool0"][0].partition(":")
                environment |= {"MASTER_ADDR": host, "MASTER_PORT": port}
                environment |= {"RANK": str(len(found)), "WORLD_SIZE": str(sum(counts))}
            found.append(Replica(f"{kind}-{index}", [*container.get("args", ()), *played.words], environment))
    return found


def _of_trial(played: Played, base: str | None) -> dict[str, str]:
    told = {"CLOUD_ML_HP_METRIC_FILE": str(played.metric_file)}
    told |= {"CLOUD_ML_TRIAL_ID": played.id} if played.id else {}
    if base is not None:
        own = f"{base}/{played.id}" if played.id else base
        names = {"MODEL_DIR": "model", "CHECKPOINT_DIR": "checkpoints", "TENSORBOARD_LOG_DIR": "logs"}
        told |= {f"AIP_{name}": f"{own}/{folder}/" for name, folder in names.items()}
    return told


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has, from outside those that systems give to whoever connects."""
    chance, found = random.SystemRandom(), set[int]()  # a seed would be another process's, too
    while len(found) < count:
        port = chance.choice(PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                found.add(port)
    return [*found]
