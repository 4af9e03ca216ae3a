"""Batches as slices of tensors that are on the device already: no workers, no collation of rows."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]  # features (B, F) float32, labels (B,) int64


class Batches:
    """Iterate over X (N, F) and y (N,) in batches of `size` rows, each epoch in an order of its own.

    size:  rows a batch; None is all of them.  The last batch may be short, but never of one row, whose mean and
        deviation batch normalisation could not take: that row joins the batch before it.  A size of 1 stays 1.
    seed:  fixes the order of every epoch; None keeps the rows as they lie, which costs no copy.
    rank, ranks: with several processes, this one's share of each epoch.  Shares have equal length, filled up from
        the epoch's beginning, so that no process waits for one that has finished.
    epoch: the next one, from 0; its order is the same whether or not those before it were asked for.
    """

    def __init__(
        self,
        X: Tensor,
        y: Tensor,
        size: int | None,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        epoch: int = 0,
    ) -> None:
        assert seed is not None or ranks == 1, "shares are of a shuffled epoch"
        self.X, self.y, self.seed, self.rank, self.ranks, self.epoch = X, y, seed, rank, ranks, epoch
        self.rows = math.ceil(len(y) / ranks)
        self.size = min(size or self.rows, self.rows)
        full, rest = divmod(self.rows, self.size)
        self.sizes = [self.size] * full + [rest] * (rest > 0)
        if rest == 1:
            self.sizes[-2:] = [self.size + 1]
        self.taken = self.skipped = 0

    def __len__(self) -> int:
        return len(self.sizes)

    def state_dict(self) -> dict[str, int]:
        """Where the epoch is, for a checkpoint."""
        return {"taken": self.taken}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next epoch begin where another was."""
        self.skipped = state["taken"]

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._epoch():
            self.taken += 1
            yield batch

    def order(self) -> Tensor | None:
        """The rows of the next epoch (N,), batch after batch, on the CPU; None where they come as they lie."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        if self.seed is None or self.sizes[0] >= len(self.y):  # all rows: their order is nothing to the gradient
            return None
        # One generator an epoch, so that an epoch's order is known without the epochs before it.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.y), generator=generator)
        if self.ranks > 1:
            order = order[torch.arange(self.rank, self.rows * self.ranks, self.ranks) % len(order)]
        return order

    def _epoch(self) -> Iterator[Batch]:
        """The batches of the next epoch, without those that are skipped."""
        self.taken, self.skipped = self.skipped, 0
        order = self.order()
        if order is None and self.sizes[0] >= len(self.y):  # a copy of them costs
            yield self.X, self.y
            return
        if order is None:
            X, y = (torch.split(rows, self.sizes)[self.taken :] for rows in (self.X, self.y))
            yield from zip(X, y, strict=True)
            return
        for rows in torch.split(order.to(self.y.device), self.sizes)[self.taken :]:
            yield self.X.index_select(0, rows), self.y.index_select(0, rows)  # a third of the time of X[rows]
