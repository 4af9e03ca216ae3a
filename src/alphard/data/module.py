"""The data module that every source shares: load once, serve slices."""

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
import torch
from annotated_types import Ge

from alphard.data.batches import Batches
from alphard.data.table import Array, Splits, Table, part_of, stratified
from alphard.errors import UserError
from alphard.types import Count, Part, Seed, Share

# Rows of a validation batch: large, for nothing is kept for a gradient.
EVALUATED = 8192


@dataclass(eq=False, kw_only=True)
class TableData(pl.LightningDataModule):
    """Rows in memory, served as slices of tensors that are on the device already.

    A source of your own derives from this and writes `load`.

    batch_size: rows in an optimizer step, per process; None is all of them.
    seed:       the order of batches.
    split_seed: the split, and which rows `fraction` takes.
    fraction:   of the training rows, stratified by class, in (0, 1]; the other splits stay whole.
    """

    batch_size: Count | None = 64
    seed: Seed = 0
    split_seed: Seed = 0
    fraction: Part = 1.0
    _device_tables: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    @abstractmethod
    def load(self) -> Splits:
        """Read and prepare all rows; called once.  Raises UserError where they cannot be trained on."""

    @cached_property
    def splits(self) -> Splits:
        """The rows, loaded when first asked for, with `fraction` applied."""
        splits = self.load()
        if self.fraction < 1:
            rows = part_of(splits.train.y, self.fraction, self.split_seed)
            splits.train = Table(splits.train.X[rows], splits.train.y[rows])
        return splits

    @property
    def facts(self) -> dict[str, Any]:
        """What a model may ask for by these names: features F, classes C, class_counts (C,) of the training rows."""
        counts = np.bincount(self.splits.train.y, minlength=len(self.splits.classes))
        return {
            "features": int(self.splits.train.X.shape[1]),
            "classes": len(self.splits.classes),
            "class_counts": [int(n) for n in counts],
        }

    def setup(self, stage: str) -> None:
        """Load, for Lightning."""
        assert self.splits

    def train_dataloader(self) -> Batches:
        """Shuffled batches; with several processes, this one's share."""
        trainer = self.trainer
        ranks, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        return Batches(*self._on_device("train"), self.batch_size, self.seed, rank, ranks)

    def val_dataloader(self) -> Batches:
        """The validation rows in order, all of them in every process, so that each computes the exact metric."""
        return Batches(*self._on_device("validation"), EVALUATED)

    def test_dataloader(self) -> Batches:
        """The sealed rows in order; UserError where there are none."""
        if self.splits.test is None:
            raise UserError("score_test: this data has no test split; set data.test_fraction, or data.test for npz")
        return Batches(*self._on_device("test"), EVALUATED)

    def _on_device(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if split not in self._device_tables or self._device_tables[split][0].device != device:
            table: Table = getattr(self.splits, split)
            self._device_tables[split] = torch.from_numpy(table.X).to(device), torch.from_numpy(table.y).to(device)
        return self._device_tables[split]


@dataclass(eq=False, kw_only=True)
class SplitData(TableData):
    """Rows that come in one piece, split here by class proportions.

    validation_fraction, test_fraction: of all rows.
    """

    validation_fraction: Annotated[Share, Ge(0.001)] = 0.2
    test_fraction: Share = 0.0

    def divide(self, y: Array) -> list[Array]:
        """Row numbers of training, validation and, where there is one, test."""
        shares = [self.test_fraction, self.validation_fraction]
        if sum(shares) >= 1:
            taken = f"with data.test_fraction it takes {sum(shares)} of the rows"
            raise UserError(f"data.validation_fraction: {taken}; take less")
        train, test, validation = stratified(y, shares, self.split_seed, "data.validation_fraction")
        if not len(validation):
            raise UserError(f"data.validation_fraction: {self.validation_fraction} of {len(y)} rows is none; take more")
        return [train, validation, test] if len(test) else [train, validation]
