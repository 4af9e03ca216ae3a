"""A pack's step on a GPU as one launch: recorded as a CUDA graph where its shapes come a second time, then replayed.

A small net's step is some fifty operations.  To launch them takes the host longer than the device needs for them, and
a graph of them is launched as one (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).  It is the same
kernels on the same memory, so what a step computes does not depend on whether it was recorded.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Given = dict[str, Tensor]
Step = Callable[[Given], Tensor]
MOST = 8  # graphs of a pack: each has memory of its own for what it is given


@dataclass
class _Graph:
    """given: where it reads what a step is given, by dtype; made: where it leaves what the step returns."""

    graph: Any  # torch.cuda.CUDAGraph
    given: list[Given]
    made: Tensor

    def launch(self, given: Given) -> Tensor:
        for own in self.given:  # one launch each
            torch._foreach_copy_([*own.values()], [given[name] for name in own])
        self.graph.replay()
        return self.made


class Launcher:
    """Calls a pack's steps; on a GPU it launches what it has recorded of them.

    records: whether it does; if not, it calls them there too.
    failed:  why a step could not be recorded, as a clause, until somebody takes it; it then records no more.
    """

    def __init__(self, records: bool = True) -> None:
        self.records, self.failed = records, ""
        self._graphs: dict[Any, _Graph | None] = {}
        self._where: Any = None

    def __call__(self, step: Step, given: Given, lasting: Iterable[Tensor]) -> Tensor:
        """What `step` makes of `given`; the result is overwritten by the next call.

        step:    reads no other tensors than `given` and `lasting`, whose content it may change, and waits for nothing.
        lasting: stay where they are from step to step.
        """
        if not self.records or any(tensor.device.type != "cuda" for tensor in given.values()):
            return step(given)
        where = [(tensor.data_ptr(), tensor.shape) for tensor in lasting]
        if where != self._where:
            self._graphs.clear()
            self._where = where
        key = tuple((name, tensor.shape) for name, tensor in given.items())
        if key not in self._graphs:  # the first call lets libraries make what a graph could not
            if len(self._graphs) >= MOST:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[key] = None
            return step(given)
        graph = self._graphs[key] or self._recorded(step, given)
        self._graphs[key] = graph
        return graph.launch(given) if graph else step(given)

    def _recorded(self, step: Step, given: Given) -> _Graph | None:
        """Nothing is computed meanwhile."""
        own = {name: tensor.clone() for name, tensor in given.items()}
        graph = torch.cuda.CUDAGraph()
        others = [each.graph.pool() for each in self._graphs.values() if each]  # no two of a pack run at a time
        try:
            with torch.cuda.graph(graph, pool=others[0] if others else None, capture_error_mode="thread_local"):
                made = step(own)
        except RuntimeError as error:
            self.records = False
            self.failed = str(error).strip().partition("\n")[0] or type(error).__name__
            return None
        by_type: dict[torch.dtype, Given] = {}
        for name, tensor in own.items():
            by_type.setdefault(tensor.dtype, {})[name] = tensor
        return _Graph(graph, [*by_type.values()], made)
