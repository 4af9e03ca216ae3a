"""Which of several processes this is, on which of several machines.  Imported before Lightning, which reads RANK then.

Vertex AI describes a job's machines in CLUSTER_SPEC.  The RANK and WORLD_SIZE that it may give besides count machines,
where Lightning and torch count processes: they are taken out of sight.
"""

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from alphard.errors import UserError

NAMES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
SPEC = "CLUSTER_SPEC"
POOL = re.compile(r"workerpool(0|[1-9][0-9]{0,8})")
HOST = re.compile(r"(.+):([0-9]+)")
PORT = re.compile(r"[0-9]{1,5}")
# torchrun counts processes itself, wherever it runs.
TORCHRUN = "TORCHELASTIC_RUN_ID"


@dataclass(frozen=True)
class Cluster:
    """The machines that train one job together.

    hosts:   of all machines, as `name:port`, in the order that makes them 0, 1, …
    machine: the number of this one.
    port:    where the first machine listens.
    """

    hosts: tuple[str, ...]
    machine: int
    port: int

    @property
    def machines(self) -> int:
        """How many there are, this one among them."""
        return len(self.hosts)

    @property
    def address(self) -> str:
        """Where this machine finds the first."""
        if self.machine == 0:  # whose own name need not be known inside its container
            return "127.0.0.1"
        return self.hosts[0].rpartition(":")[0].strip("[]")


def cluster() -> Cluster | None:
    """The machines that CLUSTER_SPEC names, all pools after each other; None where nobody set it.

    Raises UserError where it is no such description.
    """
    text = os.environ.get(SPEC, "").strip()
    if not text or TORCHRUN in os.environ:
        return None
    try:
        return _read(json.loads(text, object_pairs_hook=_once))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        said = f"{error} is missing" if isinstance(error, LookupError) else str(error)
        form = '{"cluster": {"workerpool0": ["HOST:PORT"], …}, "task": {"type": "workerpool0", "index": 0}}'
        raise UserError(f"{SPEC}: {text[:200]}: {said}; Vertex AI sets it as {form}; elsewhere unset it") from None


def several() -> Cluster | None:
    """The machines of this job, where there is more than one."""
    there = cluster()
    return there if there and there.machines > 1 else None


def first() -> bool:
    """Whether this process is the first of all on all machines, which alone writes, reports and speaks."""
    if TORCHRUN in os.environ:
        return not _number("RANK")
    there = cluster()
    return not local() and (there is None or there.machine == 0)


def local() -> int:
    """This process's place among those that Lightning started on this machine; 0 where it started none."""
    return _number("LOCAL_RANK") or 0


def must_be_alone(what: str) -> None:
    """Raise UserError where `what`, which one machine does, is asked of several."""
    if there := several():
        said = f"this job has {there.machines} machines, as {SPEC} says, and each would do it all"
        raise UserError(f"{what}: {said}; submit it with replicas=1")


def must_be_numbers() -> None:
    """Raise UserError where one is set to what is no number; one that is set to nothing is unset."""
    for name in NAMES:
        if _number(name) is None:
            os.environ.pop(name, None)


def _read(spec: Any) -> Cluster:
    pools = {_pool(name): [_host(host) for host in hosts or []] for name, hosts in spec["cluster"].items()}
    kind, index = spec["task"]["type"], int(spec["task"]["index"])
    number = _pool(kind)
    if not 0 <= index < len(pools[number]):
        raise ValueError(f"task: {kind} has no machine {index}")
    hosts = tuple(host for _, pool in sorted(pools.items()) for host in pool)
    before = sum(len(pool) for other, pool in pools.items() if other < number)
    # A job's own environment may name another port, as where this one is taken.
    port = os.environ.get("MASTER_PORT", "").strip()
    if port and not _is_port(port):
        raise UserError(f"MASTER_PORT: {port[:200]!r}: is no port; give one from 1 to 65535, or unset it")
    return Cluster(hosts, before + index, int(port or hosts[0].rpartition(":")[2]))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The JSON object of these; without this, the last of two that have one name would replace the first."""
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} stands there twice")
    return dict(pairs)


def _pool(name: str) -> int:
    numbered = POOL.fullmatch(name)
    if not numbered:
        raise ValueError(f"{name} is no workerpool0, workerpool1, …")
    return int(numbered[1])


def _host(text: Any) -> str:
    found = HOST.fullmatch(text) if isinstance(text, str) else None
    if not found or not _is_port(found[2]):
        raise ValueError(f"{text!r} is no HOST:PORT, with a port from 1 to 65535")
    return found[0]


def _is_port(text: str) -> bool:
    return PORT.fullmatch(text) is not None and 1 <= int(text) <= 65535


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if text and not (text.isascii() and text.isdigit()):
        raise UserError(f"{name}: {text!r}: is no whole number; unset it, Lightning sets it for its own processes")
    return int(text) if text else None


def _count_processes() -> None:
    """Take away what counts machines."""
    there = cluster()
    if there is None:
        return
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    if there.machine:
        from lightning_utilities.core.rank_zero import rank_zero_only

        rank_zero_only.rank = there.machine  # type: ignore[attr-defined]  # not 0, until a trainer knows it exactly


_count_processes()
must_be_numbers()
