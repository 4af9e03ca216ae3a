"""The data module that every source shares: load once, serve slices."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
import torch
from annotated_types import Ge

from alphard import ranks
from alphard.data.batches import Batches
from alphard.data.table import Array, Splits, Table, judged, part_of, stratified
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
        """Read and prepare all rows; called once, and judged by `splits`.  Raises UserError where none can be had."""

    @cached_property
    def splits(self) -> Splits:
        """The rows, loaded when first asked for: X float32, y int64, with `fraction` applied."""
        splits = self.whole()
        if self.fraction < 1:
            rows = part_of(splits.train.y, self.fraction, self.split_seed)
            splits.train = Table(splits.train.X[rows], splits.train.y[rows])
        return splits

    def whole(self) -> Splits:
        """All rows, loaded and judged anew: what `splits` are before `fraction`."""
        name = type(self).__name__
        if "_device_tables" not in vars(self):
            call = "super().__init__(batch_size=…, seed=…)"
            raise UserError(f"data: {name}.__init__ did not call {call}; call it, or write a dataclass")
        if "trainer" not in vars(self):
            raise UserError(f"data: {name}.__post_init__ did not call super().__post_init__(); call it")
        if getattr(self.load, "__isabstractmethod__", False):
            raise UserError(f"data: {name} has no load; write one that returns alphard.data.Splits")
        with warnings.catch_warnings():
            if not ranks.first():  # each process loads; one of them speaks
                warnings.simplefilter("ignore")
            return judged(self.load(), f"data: {name}.load")

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
        """Shuffled batches, from the trainer's epoch on; with several processes, this one's share."""
        rows, trainer = self._on_device("train"), self.trainer
        ranks, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        return Batches(*rows, self.batch_size, self.seed, rank, ranks, trainer.current_epoch if trainer else 0)

    def val_dataloader(self) -> Batches:
        """The validation rows in order, all of them in every process, so that each computes the exact metric."""
        return Batches(*self._on_device("validation"), EVALUATED)

    def test_dataloader(self) -> Batches:
        """The sealed rows in order; UserError where there are none."""
        if self.splits.test is None:
            raise UserError("score_test: this data has no test split; set data.test_fraction, or data.test for npz")
        return Batches(*self._on_device("test"), EVALUATED)

    def _on_device(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        table: Table = getattr(self.splits, split)
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if split not in self._device_tables or self._device_tables[split][0].device != device:
            with warnings.catch_warnings():  # a memory map's or a frame's own array; nothing writes to it
                warnings.filterwarnings("ignore", ".*array is not writable")
                rows = torch.from_numpy(table.X), torch.from_numpy(table.y)
            self._device_tables[split] = rows[0].to(device), rows[1].to(device)
        return self._device_tables[split]


@dataclass(eq=False, kw_only=True)
class SplitData(TableData):
    """Rows that come in one piece, split here by class proportions.

    validation_fraction, test_fraction: of all rows.
    """

    validation_fraction: Annotated[Share, Ge(0.001)] = 0.2
    test_fraction: Share = 0.0

    def divide(self, y: Array, classes: Sequence[str] | None = None) -> list[Array]:
        """Row numbers of training, validation and, where there is one, test.

        classes: what errors call the labels 0, 1, …
        """
        shares = {"data.test_fraction": self.test_fraction, "data.validation_fraction": self.validation_fraction}
        if sum(shares.values()) >= 1:
            taken = f"with data.test_fraction it takes {sum(shares.values())} of the rows"
            raise UserError(f"data.validation_fraction: {taken}; take less")
        train, test, validation = stratified(y, shares, self.split_seed, classes)
        if not len(validation):
            raise UserError(f"data.validation_fraction: {self.validation_fraction} of {len(y)} rows is none; take more")
        return [train, validation, test] if len(test) else [train, validation]
