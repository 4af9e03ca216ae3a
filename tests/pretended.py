"""A GPU that is not there: tensors in the CPU's memory of which it is known that they are the GPU's.

Their numbers are real, so what trains on a GPU trains on this one to its end.  It refuses what a real one refuses,
tensors of two devices in one operation and another device's generator; it notes where the host would wait for it; and
its memory fills up; a graph is what it recorded, on the tensors that there were.  Tensors are known by their storage,
below autograd and vmap.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU, CPU = torch.device("cuda"), torch.device("cpu")
WORKSPACE = 8 << 20  # bytes that cuBLAS keeps from its first product on
PRODUCTS = {"addmm", "baddbmm", "bmm", "mm"}
# Of these the host wants a number, or how many there are.
COUNTING = {"_local_scalar_dense", "_unique2", "bincount", "equal", "masked_select", "nonzero", "unique_dim"}
INDEXING = {"_index_put_impl_", "index", "index_put", "index_put_"}
READING = {Tensor.__bool__, Tensor.__float__, Tensor.__index__, Tensor.__int__, Tensor.item, Tensor.tolist}


class Gpu:
    """The pretended device, as long as its block lasts.

    room:  bytes that it has; with more it is out of memory.
    most:  bytes that tensors and libraries have held at a time.
    waits: the operations at which the host has waited.
    launched: operations that the host has launched one by one, and graphs.
    """

    def __init__(self, room: int = 80 << 30) -> None:
        self.room, self.most, self.kept = room, 0, 0
        self.waits: list[str] = []
        self.launched = 0
        self.recording: Graph | None = None
        self.storages: dict[StorageWeakRef, int] = {}
        self.looks = True  # at operations
        self.block = ExitStack()

    def __enter__(self) -> "Gpu":
        patch = self.block.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch.cuda, "mem_get_info", lambda *_: (self.room - self.used, self.room))
        patch.setattr(torch.cuda, "memory_allocated", lambda *_: self.used)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda *_: self.most)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: setattr(self, "most", self.used))
        patch.setattr(torch.cuda, "synchronize", lambda *_: self.wait("synchronize"))
        patch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(self))
        patch.setattr(torch.cuda, "graph", lambda graph, **_: graph.recorded())
        self.block.enter_context(Below(self))
        self.block.enter_context(Above(self))
        return self

    def __exit__(self, *_: object) -> None:
        self.block.close()

    @property
    def used(self) -> int:
        """Bytes that are held now."""
        self.storages = {ref: size for ref, size in self.storages.items() if not ref.expired()}
        return self.kept + sum(self.storages.values())

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is on it."""
        return _storage(tensor) in self.storages

    def take(self, tensor: Tensor) -> None:
        """Let a tensor be on it from now on."""
        ref = _storage(tensor)
        if ref is not None and ref not in self.storages:
            self.storages[ref] = tensor.untyped_storage().nbytes()
            self.fill()

    def wait(self, what: str) -> None:
        """Note that the host waits."""
        if self.recording:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what}")
        self.waits.append(what)

    def fill(self, more: int = 0) -> None:
        """Look whether all has room.  more: bytes that a library keeps from now on."""
        self.kept += more
        used = self.used
        self.most = max(self.most, used)
        if used > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory, were there one")

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Operations are the CPU's meanwhile, whatever they are given."""
        before, self.looks = self.looks, False
        try:
            yield
        finally:
            self.looks = before


class Graph:
    """A CUDA graph: operations are noted while it records, and change nothing; launched, they are done.

    They read and write the tensors that they were recorded with, whatever the program has made since.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.done: list[tuple[Any, Any, Any, Any]] = []  # operation, arguments, those by name, results
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def pool(self) -> int:
        return id(self)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        assert not self.done, "it is recorded once"
        self.gpu.wait("synchronize")
        self.gpu.recording = self
        try:
            yield
        finally:
            self.gpu.recording = None
            with self.gpu.unseen():
                for storage, content in self.before.values():
                    storage.copy_(content)
            self.before.clear()

    def note(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Do it for its results' shapes; `recorded` undoes it."""
        if kwargs.get("generator") is not None:
            raise RuntimeError("Attempt to increase offset for a CUDA generator not in capture mode.")
        names = [argument.name for argument in func._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(given.get(argument.name))
        made = func(*args, **kwargs)
        self.done.append((func, args, kwargs, made))
        return made

    def _keep(self, written: Any) -> None:
        for each in _tensors(written):
            storage = each.untyped_storage()
            self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))

    def replay(self) -> None:
        self.gpu.launched += 1
        with self.gpu.unseen(), torch.no_grad():
            for func, args, kwargs, made in self.done:
                for old, new in zip(_tensors(made), _tensors(func(*args, **kwargs)), strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)


class Generator(torch.Generator):
    """Of either device; the CPU's draws for both."""

    device = CPU

    def __new__(cls, device: Any = CPU) -> "Generator":
        made = super().__new__(cls)
        made.device = torch.device(device)
        return made


class Above(TorchFunctionMode):
    """Where a program names devices, before torch asks for them."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        here = bool(args) and isinstance(args[0], Tensor) and self.gpu.has(args[0])
        if func == Tensor.device.__get__ and here:
            return GPU
        if func == Tensor.numpy and here:
            raise TypeError("can't convert a cuda tensor to numpy")
        if func == Tensor.to:
            return self._moved(*args, **kwargs)
        if func == Tensor.cpu:
            return self._moved(*args, CPU)
        if func.__name__ == "_parse_to":  # of Module.to, which goes on to Tensor.to
            return func(*args, **kwargs)
        if func in READING and here:
            self.gpu.wait(func.__name__)
            with self.gpu.unseen():
                return func(*args, **kwargs)
        if func == torch.nn.functional.one_hot and here:  # looks at a CPU's labels first, and at no GPU's
            with self.gpu.unseen():
                made = func(*args, **kwargs)
            self.gpu.take(made)
            return made
        return self._made(func, args, kwargs, GPU if here else CPU)

    def _made(self, func: Any, args: Any, kwargs: Any, device: torch.device) -> Any:
        if kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            kwargs = {**kwargs, "device": CPU}
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != device.type:
            raise RuntimeError(f"Expected a {device.type} generator, found one of {generator.device}")
        with self.gpu.unseen() if "device" in kwargs else ExitStack():
            made = func(*args, **kwargs)
        if "device" in kwargs and device.type == GPU.type:
            if func in (torch.tensor, torch.as_tensor, torch.asarray):  # made here first, and copied
                self.gpu.wait("to")
            self.gpu.take(made)
        return made

    def _moved(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        here = self.gpu.has(tensor)
        there, dtype = here, tensor.dtype
        for each in (*args, *kwargs.values()):
            if isinstance(each, Tensor):
                there, dtype = self.gpu.has(each), each.dtype
            elif isinstance(each, torch.dtype):
                dtype = each
            elif isinstance(each, str | torch.device):
                there = torch.device(each).type == GPU.type
        if here == there:
            return tensor.to(dtype, copy=kwargs.get("copy", False))
        self.gpu.wait("to")
        with self.gpu.unseen():
            made = tensor.to(dtype, copy=True)
        if there:
            self.gpu.take(made)
        return made


class Below(TorchDispatchMode):
    """Each operation, as a device gets it."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.gpu.recording is None:
            return self._seen(func, args, kwargs or {}, func)
        return self._seen(func, args, kwargs or {}, partial(self.gpu.recording.note, func))

    def _seen(self, func: Any, args: Any, kwargs: Any, do: Any) -> Any:
        gpu, name = self.gpu, func.overloadpacket.__name__
        given = [*_tensors((args, kwargs))] if gpu.looks else []
        others = [each for each in given if not gpu.has(each)]
        if len(others) == len(given):
            return do(*args, **kwargs)
        apart = [each for each in others if each.dim()]  # a CPU's single number goes along with anything
        index = [*_tensors(args[1])] if name in INDEXING else []
        if not (name == "copy_" or all(any(each is one for one in index) for each in apart)):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda and cpu, in {func}")
        if apart or name in COUNTING or any(each.dtype == torch.bool for each in index):
            gpu.wait(name)
        if name in PRODUCTS and not gpu.kept:
            gpu.fill(WORKSPACE)
        made = do(*args, **kwargs)
        gpu.launched += not gpu.recording and not _is_view(func)
        if name != "copy_":
            for each in _tensors(made):
                gpu.take(each)
        return made


def _tensors(of: Any) -> Iterator[Tensor]:
    if isinstance(of, Tensor):
        yield of
    elif isinstance(of, list | tuple | dict):
        for each in of.values() if isinstance(of, dict) else of:
            yield from _tensors(each)


def _is_view(func: Any) -> bool:
    found = [each.alias_info for each in func._schema.returns]
    return any(each is not None and not each.is_write for each in found)


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    """None of what vmap wraps, which has none."""
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except (NotImplementedError, RuntimeError):
        return None
