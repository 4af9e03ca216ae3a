"""Data of one's own: what `load` may return, what is said of the rest; batches as a trainer asks for them."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from alphard.data import SplitData, Splits, Table, TableData
from alphard.errors import UserError

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2


def spoilt() -> np.ndarray:
    x = X.copy()
    x[3, 1] = np.nan
    return x


@dataclass
class Mine(TableData):
    """Two times the same rows, with changes."""

    x: Any = None
    y: Any = None
    classes: Any = ("no", "yes")

    def load(self) -> Splits:
        x, y = X if self.x is None else self.x, Y if self.y is None else self.y
        return Splits(Table(x, y), Table(X, Y), None, ["a", "b", "c"], self.classes)


def refusal(data: TableData) -> str:
    """The one problem that loading raises."""
    with pytest.raises(UserError) as caught:
        data.facts  # noqa: B018
    (problem,) = caught.value.problems
    return problem


def batches_of(data: TableData, reload: int, epochs: int = 4) -> list[list[int]]:
    """The labels of each training epoch, in the order in which a trainer saw them."""
    seen: list[list[int]] = []

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def on_train_epoch_start(self) -> None:
            seen.append([])

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            seen[-1] += [round(float(x), 3) for x in batch[0][:, 0]]
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            pass

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, limit_val_batches=0, reload_dataloaders_every_n_epochs=reload,
    )  # fmt: skip
    with warnings.catch_warnings():
        for tip in (
            ".*isinstance.treespec.*",
            ".*log_every_n_steps.*",
            ".*many workers.*",
            ".*smaller than the logging.*",
        ):
            warnings.filterwarnings("ignore", tip)
        trainer.fit(Model(), datamodule=data)
    return seen


# What load returns


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X.astype(np.float64), Y.astype(np.int32)),
        (np.asfortranarray(X), Y[::-1]),
        (X.astype(">f8"), Y.astype(">i8")),
        (X.tolist(), Y.tolist()),
        (torch.from_numpy(X), torch.from_numpy(Y)),
        (pd.DataFrame(X), pd.Series(Y)),
        (np.arange(120).reshape(40, 3), Y.astype(bool)),
        (X, Y.astype(float)),
    ],
    ids=["float64", "order", "big endian", "lists", "tensors", "pandas", "integers", "whole floats"],
)
def test_what_load_returns_becomes_float32_and_int64(x: Any, y: Any) -> None:
    data = Mine(x=x, y=y)
    for batch in data.train_dataloader():
        assert (batch[0].dtype, batch[1].dtype) == (torch.float32, torch.int64)
    assert data.splits.train.X.flags.c_contiguous
    assert np.allclose(data.splits.train.X, np.asarray(x))
    assert np.array_equal(data.splits.train.y, np.asarray(y))
    assert data.facts == {"features": 3, "classes": 2, "class_counts": [20, 20]}


def test_sound_arrays_are_not_copied() -> None:
    x, y = X.astype(np.float32), Y.astype(np.int64)
    table = Mine(x=x, y=y).splits.train
    assert np.shares_memory(table.X, x)
    assert np.shares_memory(table.y, y)


def test_arrays_that_may_not_be_written_are_served_without_a_warning() -> None:
    x, y = X.astype(np.float32), Y.astype(np.int64)
    x.flags.writeable = y.flags.writeable = False
    assert len(list(Mine(x=x, y=y).train_dataloader())) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": X[:, 0]}, "X has 1 dimensions"),
        ({"x": X[:, :2]}, "X has 3 features and the training rows 2"),
        ({"x": X.astype(str)}, "X holds <U32; give numbers"),
        ({"x": [[1.0], [1.0, 2.0]]}, "inhomogeneous"),
        ({"x": spoilt()}, "X[3, 1] is nan"),
        ({"y": Y[:-1]}, "X has 40 rows and y 39"),
        ({"y": Y[:, None]}, "y has 2 dimensions"),
        ({"y": Y + 1}, "y holds 2; number the 2 classes from 0 to 1"),
        ({"y": Y - 1}, "y holds -1; number the 2 classes from 0 to 1"),
        ({"y": Y.astype(str)}, "y holds text; number the 2 classes from 0 to 1"),
        ({"y": Y + 0.5}, "y holds 0.5"),
        ({"classes": 2}, "classes is 2; give their names"),
        ({"x": X[:1], "y": Y[:1]}, "only one class, no"),
    ],
)
def test_what_load_must_not_return_is_one_error(change: dict[str, Any], words: str) -> None:
    problem = refusal(Mine(**change))
    assert problem.startswith("data: Mine.load")
    assert words in problem


@pytest.mark.parametrize("given", [None, (X, Y)], ids=["None", "a tuple"])
def test_load_returns_splits(given: Any) -> None:
    class Wrong(TableData):
        def load(self) -> Splits:
            return given

    assert refusal(Wrong()) == f"data: Wrong.load returned {type(given).__name__}; return alphard.data.Splits"


def test_a_class_without_load_is_told_so() -> None:
    assert refusal(TableData()) == "data: TableData has no load; write one that returns alphard.data.Splits"


# Constructors


@pytest.mark.parametrize("parent", [TableData, SplitData])
def test_a_constructor_that_calls_no_other_is_told_so(parent: Any) -> None:
    class Own(parent):
        def __init__(self, path: str) -> None:
            self.path = path

        load = Mine.load

    words = "data: Own.__init__ did not call super().__init__(batch_size=…, seed=…); call it, or write a dataclass"
    assert refusal(Own("x")) == words
    with pytest.raises(UserError, match="super"):
        Own("x").train_dataloader()


def test_a_hook_that_calls_no_other_is_told_so() -> None:
    @dataclass
    class Own(Mine):
        def __post_init__(self) -> None:
            self.ready = True

    assert refusal(Own()) == "data: Own.__post_init__ did not call super().__post_init__(); call it"


def test_a_constructor_that_calls_super_works() -> None:
    class Own(TableData):
        def __init__(self, size: int) -> None:
            super().__init__(batch_size=size)

        def load(self) -> Splits:
            return Mine().load()

    assert [len(y) for _, y in Own(16).train_dataloader()] == [16, 16, 8]


# A trainer's epochs


@pytest.mark.parametrize("reload", [1, 2])
def test_epochs_have_their_order_whether_or_not_the_loader_is_made_anew(reload: int) -> None:
    once = batches_of(Mine(batch_size=8, seed=3), 0)
    assert len({tuple(epoch) for epoch in once}) == 4
    assert batches_of(Mine(batch_size=8, seed=3), reload) == once


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loud(Mine):
        def load(self) -> Splits:
            warnings.warn("data: odd", stacklevel=1)
            return super().load()

    with pytest.warns(UserWarning, match="data: odd"):
        Loud().facts  # noqa: B018
    monkeypatch.setenv("LOCAL_RANK", "1")
    Loud().facts  # noqa: B018  # pytest makes an error of a warning
