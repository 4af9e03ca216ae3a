"""K nets of one shape as one.  Shapes: K trials, B rows, F features, C classes, P parameters of one trial.

All weights lie in one matrix, a row a trial, and so do gradients and what an optimizer keeps: a parameter of K trials
is a view of some columns.  Rows 0 … K-1 are in use; a trial's numbers do not depend on which is its.
"""

import copy

import torch
from torch import Tensor, nn

from alphard.packs import layers
from alphard.packs.chain import Back, Nets, chain_of
from alphard.packs.layers import LINE, whole

# Each parameter begins on a cache line, each row on an even one: sums of matrices are then the same in every row.
ALIGNED = 2 * LINE


class Stack:
    """Room for nets like `net`.

    tables: by name, (room, …): `weights` (room, P), `gradient`, those of `states`, and buffers as `buffer NAME`.
    chain:  forward and backward of the nets in `nets`.
    """

    def __init__(self, net: nn.Module, states: tuple[str, ...], device: torch.device, dtype: torch.dtype) -> None:
        self.net = copy.deepcopy(net).to(device=device, dtype=dtype)
        self.columns: dict[str, tuple[int, int, torch.Size]] = {}
        end = 0
        for name, parameter in net.named_parameters():
            self.columns[name] = (end, end + parameter.numel(), parameter.shape)
            end += whole(_whole_lines(parameter.shape).numel(), ALIGNED)
        self.room = 0
        self.buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        self.dropouts = [*layers.dropouts(net)]
        layers.replace(self.net)
        self.chain = chain_of(self.net)
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

    def nets(self, k: int) -> Nets:
        """The first K rows."""
        weights, gradients = (self._views(k, table) for table in ("weights", "gradient"))
        return Nets(weights, gradients, {name: self.tables[f"buffer {name}"][:k] for name in self.buffers})

    def logits(self, nets: Nets, x: Tensor, classes: int) -> tuple[Tensor, Back]:
        """(K, B', F) -> (K, C, B'), and what fills the gradients by the loss's by them."""
        made, back = self.chain.forward(nets, x)

        def from_logits(gradient: Tensor) -> Tensor:
            by_made = torch.zeros_like(made)
            by_made[:, :, :classes] = gradient.transpose(1, 2)
            return back(by_made)

        return made[:, :, :classes].transpose(1, 2).contiguous(), from_logits

    def _views(self, k: int, table: str) -> dict[str, Tensor]:
        """As `parameters`, each with what fills it up."""
        made = {}
        for name, (start, _, shape) in self.columns.items():
            filled = _whole_lines(shape)
            made[name] = self.tables[table][:k, start : start + filled.numel()].view(k, *filled)
        return made


def _whole_lines(shape: torch.Size) -> torch.Size:
    """With whole lines of outputs, as chain.py wants them."""
    return torch.Size((whole(shape[0]), *shape[1:])) if shape else shape
