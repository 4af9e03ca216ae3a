"""K nets of one shape as one.  Shapes: K trials, B rows, F features, C classes, P parameters of one trial.

All weights lie in one matrix, a row a trial, and so do gradients and what an optimizer keeps: a parameter of K trials
is a view of some columns.  Rows 0 … K-1 are in use; a trial's numbers do not depend on which is its.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from alphard.packs import layers

# Each parameter begins on a cache line, each row on an even one: sums of matrices are then the same in every row.
ALIGNED = 32


class Stack:
    """Room for nets like `net`, and the forward pass of them all.

    tables: by name, (room, …): `weights` (room, P), `gradient`, those of `states`, and buffers as `buffer NAME`.
    """

    def __init__(self, net: nn.Module, states: tuple[str, ...], device: torch.device, dtype: torch.dtype) -> None:
        self.net = copy.deepcopy(net).to(device=device, dtype=dtype)
        self.columns: dict[str, tuple[int, int, torch.Size]] = {}
        end = 0
        for name, parameter in net.named_parameters():
            self.columns[name] = (end, end + parameter.numel(), parameter.shape)
            end = -(-(end + parameter.numel()) // ALIGNED) * ALIGNED
        self.width, self.room = end, 0
        self.buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        self.dropouts = [*layers.dropouts(net)]
        layers.replace(self.net)
        like = torch.empty(0, end, device=device, dtype=dtype)
        self.tables = dict.fromkeys(("weights", "gradient", "spare", *states), like)
        self.tables |= {f"buffer {name}": buffer.new_empty(0, *buffer.shape) for name, buffer in self.buffers.items()}

    def make_room(self, rows: int) -> None:
        """At least so many rows; those that are new hold nets of zeros."""
        if rows > self.room:
            for name, table in self.tables.items():
                grown = table.new_zeros(rows, *table.shape[1:])
                grown[: self.room] = table
                self.tables[name] = grown
            self.room = rows

    def add_table(self, name: str, like: str) -> None:
        """A further table of the same shape as `like`."""
        if name not in self.tables:
            self.tables[name] = torch.zeros_like(self.tables[like])

    def put(self, row: int, net: nn.Module) -> None:
        """A net's weights and buffers into a row, whose states begin anew."""
        for table in self.tables.values():
            table[row] = 0
        for name, parameter in net.named_parameters():
            start, stop, _ = self.columns[name]
            self.tables["weights"][row, start:stop] = parameter.detach().flatten()
        for name, buffer in net.named_buffers():
            self.tables[f"buffer {name}"][row] = buffer

    def clear(self, row: int) -> None:
        """A net of zeros, which learns nothing and diverges never."""
        for table in self.tables.values():
            table[row] = 0

    def move(self, source: int, row: int) -> None:
        """A row's content into another."""
        for table in self.tables.values():
            table[row] = table[source]

    def state_dict(self, row: int, of: str = "") -> dict[str, Tensor]:
        """What the row's own net's state_dict() would be, on the CPU.  of: "best " for what a table beside keeps."""
        kept = {}
        for name in self.net.state_dict():
            if name in self.columns:
                start, stop, shape = self.columns[name]
                kept[name] = self.tables[f"{of}weights"][row, start:stop].reshape(shape)
            else:
                kept[name] = self.tables[f"{of}buffer {name}"][row]
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}

    def parameters(self, k: int, table: str = "weights") -> dict[str, Tensor]:
        """By name (K, …), views of the table's first K rows."""
        rows = self.tables[table][:k]
        return {name: rows[:, a:b].view(k, *shape) for name, (a, b, shape) in self.columns.items()}

    def buffers_of(self, k: int) -> dict[str, Tensor]:
        """By name (K, …), views likewise."""
        return {name: self.tables[f"buffer {name}"][:k] for name in self.buffers}

    def forward(self, given: dict[str, Tensor], x: Tensor) -> Tensor:
        """(K, B, F) -> (K, B, C) logits, by parameters and buffers (K, …)."""

        def one(own: dict[str, Tensor], rows: Tensor) -> Any:
            return functional_call(self.net, own, (rows,))

        logits: Tensor = vmap(one, randomness="error")(given, x)
        return logits


def numbers(net: nn.Module) -> int:
    """P, with what aligns it."""
    return sum(math.ceil(p.numel() / ALIGNED) * ALIGNED for p in net.parameters())
