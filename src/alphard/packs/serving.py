"""The rows that a pack's members train on in an epoch, batch by batch.

Shapes: K trials, B rows, F features, G groups.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from alphard.data import Batches
from alphard.packs.member import Member

Group = tuple[int, int, int]  # (seed, order, epoch), of members that share the order of batches and the noise


class Serving:
    """An epoch of X (N, F) and y (N,), for `members` and the empty row after them.

    groups:  of the members.
    place:   the group of each row of the stack, (K,), on the rows' device.
    batches: the rows of each step, (G, B); None is all of them, as they lie.
    """

    def __init__(self, members: Sequence[Member], X: Tensor, y: Tensor) -> None:
        self.X, self.y = X, y
        keys = [(m.seed, m.order, len(m.history)) for m in members]
        self.groups: list[Group] = list(dict.fromkeys(keys))
        index = {key: i for i, key in enumerate(self.groups)}
        self.place = torch.tensor([*(index[key] for key in keys), 0], device=y.device)
        self.batches = self._batches(members[0].batch_size)

    def _batches(self, size: int | None) -> Sequence[Tensor | None]:
        loaders = [Batches(self.X, self.y, size, order, epoch=epoch) for _, order, epoch in self.groups]
        orders = [order for order in (loader.order() for loader in loaders) if order is not None]
        if not orders:
            return [None]
        return torch.split(torch.stack(orders).to(self.y.device), loaders[0].sizes, dim=1)

    def served(self, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (1 or K, B, F) and labels (1 or K, B) of a step; 1 where all trials have the same."""
        if rows is None:
            return self.X.unsqueeze(0), self.y.unsqueeze(0)
        rows = rows if len(rows) == 1 else rows[self.place]
        flat = rows.flatten()
        return self.X.index_select(0, flat).view(*rows.shape, -1), self.y.index_select(0, flat).view(rows.shape)
