"""Batches as slices of tensors that are on the device already: no workers, no collation of rows."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]  # features (B, F) float32, labels (B,) int64


class Batches:
    """Iterate over X (N, F) and y (N,) in batches of `size` rows, each epoch in an order of its own.

    size:  rows a batch; None is all of them.  The last batch may be short.
    seed:  fixes the order of every epoch; None keeps the rows as they lie, which costs no copy.
    rank, ranks: with several processes, this one's share of each epoch.  Shares have equal length, filled up from
        the epoch's beginning, so that no process waits for one that has finished.
    """

    def __init__(
        self, X: Tensor, y: Tensor, size: int | None, seed: int | None = None, rank: int = 0, ranks: int = 1
    ) -> None:
        assert seed is not None or ranks == 1, "shares are of a shuffled epoch"
        self.X, self.y, self.seed, self.rank, self.ranks = X, y, seed, rank, ranks
        self.rows = math.ceil(len(y) / ranks)
        self.size = min(size or self.rows, self.rows)
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(self.rows / self.size)

    def __iter__(self) -> Iterator[Batch]:
        if self.seed is None:
            yield from zip(torch.split(self.X, self.size), torch.split(self.y, self.size), strict=True)
            return
        if self.size >= len(self.y):  # full batch: the order is nothing to the gradient, and a copy of all rows costs
            self.epoch += 1
            yield self.X, self.y
            return
        # One generator an epoch, so that an epoch's order is known without the epochs before it.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        order = torch.randperm(len(self.y), generator=generator)
        if self.ranks > 1:
            order = order[torch.arange(self.rank, self.rows * self.ranks, self.ranks) % len(order)]
        for rows in torch.split(order.to(self.y.device), self.size):
            yield self.X[rows], self.y[rows]
