"""The trials of a worker share the rows that they would all load, and nothing else."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from alphard import build
from alphard.data import Npz, Splits, Table, TableData, kept
from tests.in_process import config_of


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    kept._last.clear()


def rows(*overrides: str) -> TableData:
    """A trial's data module, its rows loaded or given."""
    data = build.data_of(config_of(*overrides), shared=True)
    assert isinstance(data, TableData)
    return data


def test_trials_of_the_same_data_share_its_arrays_whatever_serves_them() -> None:
    first, second = rows(), rows("batch_size=32", "seed=3", "learning_rate=0.5")
    assert second.splits.train.X is first.splits.train.X
    assert second.splits.preprocessing is first.splits.preprocessing
    assert (second.batch_size, second.seed) == (32, 3)
    assert second.splits is not first.splits


@pytest.mark.parametrize("other", ["data.fraction=0.5", "data.split_seed=1", "data=breast_cancer"])
def test_other_data_is_loaded_and_takes_the_place_of_what_was_kept(other: str) -> None:
    first, second = rows(), rows(other)
    assert second.splits.train.X is not first.splits.train.X
    assert len(kept._last) == 1
    assert rows(other).splits.train.X is second.splits.train.X
    assert rows().splits.train.X is not first.splits.train.X


def test_a_run_by_itself_shares_nothing() -> None:
    first, second = (build.data_of(config_of()) for _ in range(2))
    assert isinstance(first, TableData)
    assert isinstance(second, TableData)
    assert first.splits.train.X is not second.splits.train.X
    assert not kept._last


def test_what_a_trial_writes_into_its_rows_reaches_no_other() -> None:
    first = rows()
    as_loaded = first.splits.validation.X.copy()
    first.setup("fit")
    next(iter(first.val_dataloader()))[0].zero_()  # as a first layer that works in place does
    second = rows()
    assert np.array_equal(second.splits.validation.X, as_loaded)
    second.splits.train = Table(second.splits.train.X[:5], second.splits.train.y[:5])
    assert len(rows().splits.train) > 5


def some(seed: int = 0) -> Splits:
    random = np.random.default_rng(seed)
    X, y = random.standard_normal((20, 3), dtype=np.float32), np.arange(20) % 2
    return Splits.of([Table(X, y), Table(X[:10].copy(), y[:10].copy())], ["a", "b", "c"], ["0", "1"])


@dataclass(eq=False, kw_only=True)
class Plain(TableData):
    """Returns rows that its own seed decides."""

    def load(self) -> Splits:
        return some(self.seed)


@dataclass(eq=False, kw_only=True)
class Drawing(Plain):
    """Draws from the generator that a run seeds, as a network's first weights do after it."""

    def load(self) -> Splits:
        torch.rand(1)
        return some()


@dataclass(eq=False, kw_only=True)
class Leaving(Plain):
    """Leaves something on itself that a later method needs."""

    seen: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Splits:
        self.seen["rows"] = 20
        return some()


def given(kind: type[TableData], **values: Any) -> TableData:
    data = kind(**values)
    kept.give_rows(data, {"_target_": kind.__name__, **values})
    return data


def test_a_class_of_ones_own_is_the_same_with_all_its_values_alone() -> None:
    first = given(Plain, seed=1)
    assert given(Plain, seed=1).splits.train.X is first.splits.train.X
    assert not np.array_equal(given(Plain, seed=2).splits.train.X, first.splits.train.X)


@pytest.mark.parametrize("kind", [Drawing, Leaving])
def test_a_load_that_does_more_than_return_rows_is_called_each_time(kind: type[TableData]) -> None:
    first, state = given(kind), torch.get_rng_state()
    second = given(kind)
    assert second.splits.train.X is not first.splits.train.X
    assert getattr(second, "seen", None) == getattr(first, "seen", None)
    assert torch.equal(torch.get_rng_state(), state) == (kind is Leaving)


def test_a_load_that_fails_leaves_nothing_behind(tmp_path) -> None:
    rows()
    with pytest.raises(Exception, match="does not exist"):
        given(Npz, train=str(tmp_path / "none.npz"), validation=str(tmp_path / "none.npz"))
    assert not kept._last
