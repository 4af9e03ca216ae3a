"""A file of rows -> a file of predictions, a chunk at a time."""

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from alphard.data import categories
from alphard.data.chunks import Rows
from alphard.data.module import EVALUATED
from alphard.data.sources import ready
from alphard.data.table import Array
from alphard.errors import UserError
from alphard.predict import Predictor
from alphard.storage import Folder

CHUNK = 4 * EVALUATED  # rows; whole batches of a validation, so that no sum is taken in another order
PREDICTION, PROBABILITY = "prediction", "probability_"
EXAMPLES = 3


@dataclass(frozen=True)
class Part:
    """Rows to predict.  kept: their own columns that were asked for.  truth: their labels, where they have any."""

    X: Array
    kept: pd.DataFrame
    truth: "pd.Series[Any] | None" = None


@dataclass
class Tally:
    """What was predicted.  predicted: rows of each class.  right: of the `labelled` rows."""

    predictor: Predictor
    predicted: Array
    right: int = 0
    labelled: int = 0

    @property
    def lines(self) -> list[str]:
        """What stdout says of it."""
        classes, target = self.predictor.run.classes, self.predictor.run.form.get("target")
        counts = ", ".join(f"{name} {count:,}" for name, count in zip(classes, self.predicted, strict=True))
        said = [f"rows: {self.predicted.sum():,}", f"predicted: {counts}"]
        if self.labelled:
            where = f"on the {self.labelled:,} rows that have {target}; rows that trained the model flatter it"
            said.append(f"accuracy: {self.right / self.labelled:.6f} {where}")
        return said

    @property
    def new(self) -> str:
        """A warning of the categories that training did not know; empty where there are none."""
        met = self.predictor.new
        each = [
            f"{name} in {rows:,} row{'s' * (rows > 1)} ({_some(met.examples[name])})" for name, rows in met.rows.items()
        ]
        return f"categories that training did not know, counted as none of its own: {'; '.join(each)}" if each else ""


def parts(path: str, predictor: Predictor, keep: list[str] | Literal["all"], form: Mapping[str, str]) -> Iterator[Part]:
    """The rows of a file, CHUNK at a time; an .npz file's as the network takes them.

    Raises UserError for columns that are not there, all at once, before the first rows are read.
    """
    if path.endswith(".npz"):
        if keep:
            raise UserError(f"keep: {keep}: the rows of an npz file have no columns to keep; leave it out")
        return _of_arrays(path, predictor)
    rows = Rows(path, **form)
    kept = rows.names if keep == "all" else list(dict.fromkeys(keep))
    problems = [*_lost("rows", path, predictor.columns, rows.names), *_lost("keep", path, kept, rows.names)]
    made = {PREDICTION, *(f"{PROBABILITY}{name}" for name in predictor.run.classes)}
    problems += [
        f"keep: {name}: is also the name of a column of predictions; rename the rows' own, or leave it out"
        for name in kept
        if name in made
    ]
    if problems:
        raise UserError(*problems)
    return _of_file(rows, predictor, kept)


def _of_file(rows: Rows, predictor: Predictor, keep: Sequence[str]) -> Iterator[Part]:
    target = predictor.run.form.get("target")
    labels = [target] if target in rows.names else []
    columns = list(dict.fromkeys([*predictor.columns, *labels]))
    classes = set(predictor.run.classes)
    for frame, kept in rows.chunks(CHUNK, columns, predictor.numeric, keep):
        truth = categories.of(frame[labels[0]], classes, rows.decimal) if labels else None
        yield Part(predictor.taken(frame), kept, truth)


def _of_arrays(path: str, predictor: Predictor) -> Iterator[Part]:
    X = ready(path, "rows")
    if X.shape[1] != predictor.width:
        takes = f"X has {X.shape[1]} features and the network takes {predictor.width}"
        raise UserError(
            f"rows: {path}: {takes}; an npz file's rows are not prepared any more, give them as CSV or Parquet"
        )
    starts = [*range(0, len(X), CHUNK)]
    if len(starts) > 1 and len(X) - starts[-1] == 1:  # as alphard.data.Batches has it
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(X)], strict=True):
        yield Part(X[start:stop], pd.DataFrame(index=range(start, stop)))


def write(rows: Iterator[Part], predictor: Predictor, folder: Folder, name: str) -> Tally:
    """Write `prediction` and `probability_<class>` of all rows as `name`, whole or not at all."""
    classes = predictor.run.classes
    names = np.array(classes, dtype=object)
    tally = Tally(predictor, np.zeros(len(classes), dtype=np.int64))
    first = next(rows)  # before anything is written: a file without rows has nothing to say
    with folder.writing(name) as path, _writer(path) as append:
        for part in chain([first], rows):
            logits = predictor.logits(part.X)
            codes, probabilities = logits.argmax(dim=1).numpy(), logits.softmax(dim=1).numpy()
            made = pd.DataFrame({PREDICTION: pd.array(names[codes], dtype="str")}, index=part.kept.index)
            for at, one in enumerate(classes):
                made[f"{PROBABILITY}{one}"] = probabilities[:, at]
            append(pd.concat([part.kept, made], axis=1))
            tally.predicted += np.bincount(codes, minlength=len(classes))
            if part.truth is not None:
                tally.labelled += int(part.truth.notna().sum())
                tally.right += int((part.truth == made[PREDICTION]).sum())
    return tally


@contextmanager
def _writer(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """What appends frames of the same columns to a file: Parquet or packed CSV by its ending, else CSV."""
    if path.suffix.lower() in (".parquet", ".pq"):
        with _parquet(path) as append:
            yield append
        return
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        header = iter([True])
        yield lambda frame: frame.to_csv(file, header=next(header, False), index=False, lineterminator="\n")


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    writers: list[Any] = []

    def append(frame: pd.DataFrame) -> None:
        schema = writers[0].schema if writers else None
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if not writers:
            writers.append(ParquetWriter(path, table.schema))
        writers[0].write_table(table)

    try:
        yield append
    finally:
        for writer in writers:
            writer.close()


def _lost(at: str, path: str, wanted: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The columns that are not among `names`, each with what it may be called there, as one problem."""
    lost = []
    for name in wanted:
        near = get_close_matches(name, names, n=1)
        lost += [f"{name} (did you mean `{near[0]}`?)" if near else name] * (name not in names)
    if lost:
        yield f"{at}: {path} has no column {', '.join(lost)}.  Its columns are {', '.join(names)}"


def _some(examples: Sequence[str]) -> str:
    shown = [text if len(text) <= 40 else f"{text[:39]}…" for text in examples[:EXAMPLES]]
    return ", ".join([*shown, "…"] if len(examples) > EXAMPLES else shown)
