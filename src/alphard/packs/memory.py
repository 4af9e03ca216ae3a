"""How many trials a pack takes: by the memory that a step needs, and by whether more are still faster together."""

import copy
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from alphard.data import Batches, TableData
from alphard.packs.graphs import Launcher
from alphard.packs.member import Member
from alphard.packs.pack import Pack

OUT_OF_MEMORY: tuple[type[BaseException], ...] = (MemoryError, RuntimeError)  # what may be one; is_out_of_memory knows
WORDS = ("not enough memory", "out of memory", "can't allocate memory", "alloc_failed", "allocate memory")
MOST = 4096  # trials of a pack
GAIN = 0.95  # of a trial's share of a step, for twice as many to be worth their memory
# Seconds of a step for each tensor of parameters, of which a CPU spends less than 1 - GAIN between operations: some ten
# of them, of 10 µs each, belong to one.
LONG = 0.003
FEW = 8  # trials, up to which it looks further in any case
STEPS = 4  # of an epoch at most, which are timed together
TIMES = 3  # they are timed so often; the fastest counts
ENOUGH = 0.05  # seconds of them, after which they are not timed again: what takes longer is little disturbed


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what torch, or Python, raised."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)


def needed(member: Member, data: TableData, device: torch.device) -> int:
    """Bytes that a member adds to a pack, by a step of 2 and one of 4."""
    few, more = (_used(member, data, device, k) for k in (2, 4))
    return max(1, (more - few) // 2)


def size(
    member: Member, data: TableData, device: torch.device, budget: int, need: int, sure: int = 1, most: int = MOST
) -> int:
    """Trials of a pack within `budget` bytes, of which each needs some, `most` at most; below 2 they train alone.

    It doubles while a trial's share of a step still falls by a twentieth, from `sure` on; one is a net without a pack.
    """
    fits = min(most, budget // need)
    best = max(1, min(sure, fits))
    share = _share(member, data, device, best) if best < fits else 0.0
    k = 2 * best
    while k <= fits:
        now = _share(member, data, device, k)
        if now <= GAIN * share:
            best, share = k, now
        elif k > FEW:  # a third row in a pack of two is empty, and says nothing of larger ones
            break
        k = min(2 * k, fits) if k < fits else fits + 1
    return best


def is_long(member: Member, data: TableData, device: torch.device) -> bool:
    """Whether a step of one net alone takes so long that more of them together can save nothing, on one device."""
    if device.type != "cpu":  # whose cores a single net may leave idle, however long it takes
        return False
    batches = math.ceil(len(data.splits.train) / (member.batch_size or len(data.splits.train)))
    taken = _share(member, data, device, 1) / min(STEPS, batches)
    return taken > LONG * sum(1 for _ in member.net.parameters())


def _used(member: Member, data: TableData, device: torch.device, k: int) -> int:
    """Bytes that a pack of K takes at most, in a step or at validation."""
    pack = _filled(member, data, device, k)
    step, validation = peaks(pack)
    # A graph keeps what its step needs, also while the pack validates.
    return _lasting(pack) + (step + validation if device.type == "cuda" else max(step, validation))


def peaks(pack: Pack) -> tuple[int, int]:
    """Bytes that a step takes at most, and validation, apart from what lasts."""
    pack.launch = Launcher(records=False)
    return _peak(pack, lambda: pack.train(1)), _peak(pack, pack.validate)


def _peak(pack: Pack, act: Callable[[], Any]) -> int:
    assert pack.stack is not None
    if pack.device.type == "cuda":
        act()  # its libraries keep memory of their own from their first product on
        gc.collect()  # a pack that was measured before holds itself, and could be freed in between
        torch.cuda.reset_peak_memory_stats(pack.device)
        before = torch.cuda.memory_allocated(pack.device)
        act()
        return torch.cuda.max_memory_allocated(pack.device) - before
    with Held([*pack.stack.tables.values(), *pack.rows, *pack.held_out]) as held:
        act()
    most: int = held.most
    return most


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """The most bytes that all tensors made meanwhile hold at a time, `apart` from those.

    What the CPU's allocator does not count.
    """

    def __init__(self, apart: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.apart = {tensor.untyped_storage().data_ptr() for tensor in apart}
        self.most = 0
        self.alive: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.alive = {key: each for key, each in self.alive.items() if not each[0].expired()}
        for tensor in made if isinstance(made, tuple | list) else [made]:
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage.data_ptr() not in self.apart:
                weak = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self.alive.setdefault(storage.data_ptr(), (weak, storage.nbytes()))
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return made


def _lasting(pack: Pack) -> int:
    """Bytes of the tables, twice: while they grow, and with a copy for a checkpoint."""
    assert pack.stack is not None
    return 2 * sum(table.nbytes for table in pack.stack.tables.values())


def _filled(member: Member, data: TableData, device: torch.device, k: int) -> Pack:
    """A pack of k times the same member, only to be measured."""
    pack = Pack(data, device, k)
    pack.join(member)
    assert pack.stack is not None
    pack.stack.make_room(k + 1)
    for table in pack.stack.tables.values():
        table[1:k] = table[0]
    pack.members = [copy.copy(member) for _ in range(k)]
    return pack


def _share(member: Member, data: TableData, device: torch.device, k: int) -> float:
    """Seconds of some steps, for each of k trials."""
    return _fastest(_alone(member, data, device) if k == 1 else _filled(member, data, device, k).train, device) / k


def _alone(member: Member, data: TableData, device: torch.device) -> Callable[[int], Any]:
    """So many steps as they are without a pack."""
    net = copy.deepcopy(member.net).to(device)
    group = {name: value for name, value in member.optimizer.param_groups[0].items() if name != "params"}
    kind: Any = type(member.optimizer)
    optimizer = kind([{"params": [*net.parameters()], **group}])
    X, y = torch.from_numpy(data.splits.train.X).to(device), torch.from_numpy(data.splits.train.y).to(device)

    def steps(most: int) -> None:
        for x, labels in itertools.islice(Batches(X, y, member.batch_size, member.order), most):
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()

    return steps


def _fastest(train: Callable[[int], Any], device: torch.device) -> float:
    """Seconds of STEPS, once it is warm."""
    train(1)
    for _ in range(2 if device.type == "cuda" else 0):  # it records each step where its shape comes again
        train(STEPS)
    _wait(device)
    # Of one thread its own time, for others may be on its core meanwhile.
    clock = time.perf_counter if device.type == "cuda" or torch.get_num_threads() > 1 else time.thread_time
    taken: list[float] = []
    while len(taken) < TIMES and sum(taken) < ENOUGH:
        began = clock()
        train(STEPS)
        _wait(device)
        taken.append(clock() - began)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
