"""The rows that this process loaded last, for the next trial that asks for the same, as most trials of a search do."""

import json
import pickle
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from alphard.data.module import TableData
from alphard.data.table import Splits, Table

# What alphard's own classes need for serving rows, and not for loading them.
SERVED = {"batch_size", "seed"}


@dataclass
class _Kept:
    key: str
    splits: Splits
    digest: int


_last: list[_Kept] = []  # at most one: a worker's memory is meant for its trial


def give_rows(data: TableData, node: Mapping[str, Any]) -> None:
    """Load the rows of `data`, or give it those of the call before where it would load the same.

    A `load` that draws from a global generator, or leaves something on its object, does more than return rows, and is
    called each time.  Rows that somebody has written into are loaded anew.

    node: the values, references resolved, that `data` was made of.
    """
    key = key_of(node, own=not type(data).__module__.startswith("alphard."))
    if _last and _last[0].key == key and _last[0].digest == digest(_last[0].splits):
        vars(data)["splits"] = _apart(_last[0].splits)  # where the cached property keeps them
        return
    _last.clear()  # before others take its place in memory
    before = _around(data)
    splits = data.splits
    if before is not None and before == _around(data):
        _last.append(_Kept(key, _apart(splits), digest(splits)))


def key_of(node: Mapping[str, Any], own: bool) -> str:
    """What tells rows from others: all that the data's node says of loading them; of a user's `own` class, all."""
    told = {name: value for name, value in node.items() if own or name not in SERVED}
    return json.dumps(told, sort_keys=True, default=repr)


def _apart(splits: Splits) -> Splits:
    """The same arrays in a frame of its own: who puts another table into it changes no other trial's."""
    tables = [Table(table.X, table.y) for table in (splits.train, splits.validation, splits.test) if table is not None]
    return Splits.of(tables, list(splits.feature_names), list(splits.classes), splits.preprocessing)


def digest(splits: Splits) -> int:
    """A number that other rows, or the same in another order, hardly have."""
    found = 0
    for table in (splits.train, splits.validation, splits.test):
        if table is not None:
            found = zlib.crc32(table.y.data, zlib.crc32(table.X.data, found))
    return found


def generators() -> bytes:
    """The states of all global generators."""
    return pickle.dumps((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()))


def _around(data: TableData) -> bytes | None:
    """All that `load` could change beside the rows; None where that cannot be told."""
    try:
        return pickle.dumps((generators(), {name: value for name, value in vars(data).items() if name != "splits"}))
    except Exception:  # an attribute of a user's own class may refuse in its own way
        return None
