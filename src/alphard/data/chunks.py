"""A CSV or Parquet file a chunk at a time, in memory that does not grow with the file."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pandas as pd

from alphard import storage
from alphard.data import reading
from alphard.data.columns import with_floats
from alphard.errors import UserError

BUFFER = 1 << 20  # bytes of a Parquet column that are read at a time
INDEX = re.compile(r"__index_level_\d+__")  # what pandas calls an index without a name


@dataclass
class Rows:
    """A file of rows.  Raises UserError that begins with `at` for what is not one, and for one without rows.

    path: local path or URL of CSV, perhaps compressed, or Parquet.
    at:   what errors call the file.
    """

    path: str
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    at: str = "rows"
    names: list[str] = field(init=False)
    _content: bytes | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        with storage.reading(self.path, self.at) as file:
            if not file.seekable():  # a pipe tells its rows once
                self._content = file.read()
        with self._opened() as (file, start):
            if self._parquet(start):
                from pyarrow.parquet import ParquetFile

                self.names = [name for name in ParquetFile(file).schema_arrow.names if not INDEX.fullmatch(name)]
                return
            form = self._form(start)
            self.names = reading.must_match_header(file, form, self.path, self.at)
        reading.must_be_separated(pd.DataFrame(columns=self.names), self.path, self.at)

    def chunks(
        self, size: int, columns: Sequence[str], numeric: Collection[str], keep: Sequence[str] = ()
    ) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """`size` rows at a time, the last chunk perhaps fewer or one more: `columns` to look at, `keep` as they stand.

        Of CSV, what is not `numeric` is text, for the types of a chunk are those of its own rows alone.  Each row's
        index is its number in the file, from 0.
        """
        held: tuple[pd.DataFrame, pd.DataFrame] | None = None
        for chunk in self._pairs(size, columns, numeric, keep):
            if not len(chunk[0]):
                continue
            if held is not None and len(chunk[0]) == 1:  # as alphard.data.Batches has it
                held = pd.concat([held[0], chunk[0]]), pd.concat([held[1], chunk[1]])
                continue
            if held is not None:
                yield held
            held = chunk
        if held is None:
            raise UserError(f"{self.at}: {self.path} has a header and no rows")
        yield held

    def _pairs(
        self, size: int, columns: Sequence[str], numeric: Collection[str], keep: Sequence[str]
    ) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        with self._opened() as (file, start):
            if self._parquet(start):
                yield from _of_parquet(file, size, columns, keep)
                return
            form = self._form(start) | {"chunksize": size, "low_memory": False}
            # All columns: told to leave some out, pandas does not see that a line has too many fields.
            types = {name: "str" for name in self.names if name not in numeric}
            read = pd.read_csv(file, dtype=types, **form)
            if not keep:
                yield from ((_named(frame)[list(columns)], frame[[]]) for frame in read)
                return
            with self._opened() as (again, _):  # once more, for text as it stands, `NA` and `007`
                plain: dict[str, Any] = {
                    "dtype": "str",
                    "keep_default_na": False,
                    "usecols": sorted(map(self.names.index, keep)),
                }
                for frame, kept in zip(read, pd.read_csv(again, **plain, **form), strict=True):
                    yield _named(frame)[list(columns)], _named(kept)[list(keep)]

    @contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO, bytes]]:
        with reading.opened(self.path, self.encoding, self.at, self._content) as found:
            yield found

    def _parquet(self, start: bytes) -> bool:
        return reading.is_parquet(self.path, start)

    def _form(self, start: bytes) -> dict[str, Any]:
        return reading.form_of(self.path, start, self.separator, self.decimal, self.encoding)


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    frame.columns = frame.columns.map(str)
    return frame


def _of_parquet(
    file: BinaryIO, size: int, columns: Sequence[str], keep: Sequence[str]
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    first = 0
    for table in _tables(file, size, list(dict.fromkeys([*columns, *keep]))):
        index = pd.RangeIndex(first, first + table.num_rows)
        first = index.stop
        frame = with_floats(table.select(list(columns)).to_pandas(ignore_metadata=True)).set_axis(index)
        if not keep:
            yield frame, frame[[]]
            continue
        # Arrow's own types keep whole numbers with gaps whole.
        kept = table.select(list(keep)).to_pandas(ignore_metadata=True, types_mapper=pd.ArrowDtype)
        yield frame, kept.set_axis(index)


def _tables(file: BinaryIO, size: int, names: list[str]) -> Iterator[Any]:
    """Arrow tables of exactly `size` rows, and what is left, wherever the file's row groups end."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    rest: Any = None
    for batch in ParquetFile(file, buffer_size=BUFFER).iter_batches(size, columns=names):
        table = pa.Table.from_batches([batch])
        rest = table if rest is None else pa.concat_tables([rest, table])
        while rest is not None and rest.num_rows >= size:
            yield rest.slice(0, size)
            # Nothing is kept of a table that is all used up, for its empty rest would hold its memory.
            rest = rest.slice(size) if rest.num_rows > size else None
    if rest is not None and rest.num_rows:
        yield rest
