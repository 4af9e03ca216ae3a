"""Prepared rows as files: train.npz, val.npz, perhaps test.npz and the preprocessing, and a mark that all are there."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig

from alphard import build, documents
from alphard.construct import snapshot
from alphard.data import Splits, Table, TableData, preprocessing
from alphard.data.table import Array
from alphard.errors import UserError
from alphard.storage import Folder

MARK = "prepared.json"
SUFFIXES = {"train": "train", "validation": "val", "test": "test"}
FILES = (MARK, *(f"{suffix}.npz" for suffix in SUFFIXES.values()), preprocessing.FILE)
APPLIED = ("fraction", "batch_size", "seed")  # by the run that trains on the rows
AT_THE_BEGINNING = (1980, 1, 1, 0, 0, 0)  # of a zip's time, so that the same arrays are the same bytes


def load(config: DictConfig) -> tuple[TableData, Splits]:
    """The data of a checked config, and all its rows, as a run of it would load them but for `fraction`."""
    pl.seed_everything(config.seed, verbose=False)  # a user's own load may draw
    data = build.data_of(config)
    if not isinstance(data, TableData):
        raise UserError(f"data: {config.data._target_} is no alphard.data.TableData; only tables can be prepared")
    splits = data.whole()
    if len({*splits.classes}) < len(splits.classes):
        raise UserError(f"data: two classes have one name; the names are {', '.join(splits.classes)}")
    return data, splits


def tables(splits: Splits) -> dict[str, Table]:
    """The splits that there are, by the names of Npz."""
    found = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: table for name, table in found.items() if table is not None}


def files(splits: Splits) -> dict[str, str]:
    """The files that hold them, by the names of Npz's arguments."""
    found = {name: f"{SUFFIXES[name]}.npz" for name in tables(splits)}
    return found | ({"preprocessing": preprocessing.FILE} if splits.preprocessing is not None else {})


def write(folder: Folder, config: DictConfig, splits: Splits, overwrite: bool) -> None:
    """Write everything, the training rows last but for the mark: without them nothing trains on half of it.

    Raises UserError, before anything is written, where another preparation lies there.
    """
    digest = _digest(config, splits)
    known = folder.read(MARK)
    if known is not None and not overwrite and _said(known) != digest:
        remedy = "give another folder, or overwrite=true"
        raise UserError(f"out: {folder.path} holds the preparation of another config, or of other rows; {remedy}")
    if known is None or _said(known) != digest:
        for name in FILES:
            folder.remove(name)
    if splits.preprocessing is not None:
        folder.write(preprocessing.FILE, preprocessing.dumps(splits.preprocessing))
    for name, table in reversed(tables(splits).items()):
        suffix = SUFFIXES[name]
        arrays = {f"X_{suffix}": table.X, f"y_{suffix}": table.y}
        _save(folder, f"{suffix}.npz", arrays | (_names(splits) if name == "train" else {}))
    rows = {name: len(table) for name, table in tables(splits).items()}
    said = {"sha256": digest, "rows": rows, "features": splits.train.X.shape[1], "classes": splits.classes}
    folder.write(MARK, (json.dumps(said, indent=2) + "\n").encode())


def _names(splits: Splits) -> dict[str, Array]:
    names = {"classes": np.array(splits.classes, dtype=str)}
    features = [str(name) for name in splits.feature_names]
    if len({*features}) == splits.train.X.shape[1] == len(features):  # a user's own load may name none
        names["feature_names"] = np.array(features, dtype=str)
    return names


def _save(folder: Folder, name: str, arrays: Mapping[str, Array]) -> None:
    """An npz file, as numpy.savez writes it but for the time, straight from the arrays: memory holds no copy."""
    with folder.writing(name) as path, zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            entry = zipfile.ZipInfo(f"{key}.npy", AT_THE_BEGINNING)
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _digest(config: DictConfig, splits: Splits) -> str:
    """Of the rows, and of what the config says of them: the same preparation has the same."""
    node = {name: value for name, value in snapshot(config.data).items() if name not in APPLIED}
    found = hashlib.sha256(json.dumps(node, sort_keys=True, default=repr).encode())
    for table in tables(splits).values():
        for array in (table.X, table.y):
            found.update(repr((array.shape, array.dtype.str)).encode())
            found.update(np.ascontiguousarray(array).data)
    found.update(json.dumps([splits.classes, [str(name) for name in splits.feature_names]]).encode())
    return found.hexdigest()


def _said(content: bytes) -> Any:
    """The digest in a mark; None where it is torn."""
    try:
        return documents.of_json(content, MARK).get("sha256")
    except documents.NotWritten:
        return None
