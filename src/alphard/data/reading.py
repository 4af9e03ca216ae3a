"""A CSV or Parquet file as a DataFrame; what is neither is told apart by its first bytes."""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO

import pandas as pd

from alphard import storage
from alphard.data.columns import with_floats
from alphard.errors import UserError

OFFICE = "an Office document; save the sheet as CSV"
PICKLE = "a pickle, which could run code; save the rows as CSV or Parquet"
ARCHIVE = "an archive; give one CSV or Parquet file"
FOREIGN = {  # by first bytes
    b"\xd0\xcf\x11\xe0": OFFICE,
    b"\x80\x04\x95": PICKLE,
    b"\x80\x05\x95": PICKLE,
    b"\x93NUMPY": "an npy file; data=npz reads arrays that numpy.savez saved",
    b"SQLite format 3": "a SQLite database; export the table as CSV",
    b"ARROW1": "an Arrow file; save it as Parquet",
    b"\x89HDF": "an HDF5 file; save it as Parquet",
    b"7z\xbc\xaf": ARCHIVE,
    b"Rar!": ARCHIVE,
    b"version https://git-lfs": "a Git LFS pointer; `git lfs pull` fetches the file",
    b"<!doctype html": "a web page; give the address of the file itself",
    b"<html": "a web page; give the address of the file itself",
}
FOREIGN_ENDINGS = {
    (".xlsx", ".xlsm", ".xls", ".ods"): OFFICE,
    (".json", ".jsonl", ".ndjson"): "JSON; save the rows as CSV or Parquet",
    (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"): ARCHIVE,
}
PACKED = {"gz": "gzip", "zip": "zip", "xz": "xz", "bz2": "bz2", "zst": "zstd"}


class Separated(UserError):
    """The file has one column, for its fields are parted by `sign`."""

    def __init__(self, at: str, path: str, name: str, sign: str) -> None:
        super().__init__(f"{at}: {path} has one column, {name!r}; set {_beside(at, 'separator')}='\"{sign}\"'")
        self.sign = sign


def read(path: str, separator: str = ",", decimal: str = ".", encoding: str = "utf-8") -> pd.DataFrame:
    """The file's rows, or UserError at data.path."""
    with opened(path, encoding, "data.path") as (file, start):
        if is_parquet(path, start):
            frame = with_floats(_with_named_index(pd.read_parquet(file)))
        else:
            form = form_of(path, start, separator, decimal, encoding)
            must_match_header(file, form, path, "data.path")
            frame = pd.read_csv(file, low_memory=False, **form)  # a column's type by all its rows
    frame.columns = frame.columns.map(str)
    must_be_separated(frame, path, "data.path")
    if frame.empty:
        raise UserError(f"data.path: {path} has a header and no rows")
    return frame


@contextmanager
def opened(path: str, encoding: str, at: str, content: bytes | None = None) -> Iterator[tuple[BinaryIO, bytes]]:
    """A file of rows and its first bytes; whatever reading it raises inside is a UserError at config path `at`.

    content: of a file that can be read only once.
    """
    given = nullcontext(io.BytesIO(content)) if content is not None else storage.reading(path, at)
    with given as found, _errors(path, encoding, at):
        file = found if found.seekable() else io.BytesIO(found.read())  # a pipe
        start = file.read(64)
        file.seek(0)
        _must_be_rows(file, start, path, at)
        yield file, start


def is_parquet(path: str, start: bytes) -> bool:
    """By its first bytes, or where these are lost, by its ending."""
    return start.startswith(b"PAR1") or path.endswith((".parquet", ".pq"))


def form_of(path: str, start: bytes, separator: str, decimal: str, encoding: str) -> dict[str, Any]:
    """How pandas reads a CSV file."""
    packed = PACKED.get(path.rsplit(".", 1)[-1]) or _packed(start)
    return {"sep": separator, "decimal": decimal, "encoding": encoding, "compression": packed}


@contextmanager
def _errors(path: str, encoding: str, at: str) -> Iterator[None]:
    """The ways in which each format and each compression says that it cannot read, as one."""
    try:
        yield
    except UserError:
        raise
    except pd.errors.EmptyDataError:
        raise UserError(f"{at}: {path} is empty") from None
    except UnicodeError as error:
        other = f"set {_beside(at, 'encoding')}=cp1252 or another"
        raise UserError(f"{at}: {path} is not {encoding}: {error}; {other}") from None
    except Exception as error:
        reason = str(error).split("\n")[0]
        long = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason)
        if long:
            few, line, many = long.groups()
            remedy = f"quote its text, or set {_beside(at, 'separator')}"
            reason = f"line {line} has {many} fields and those before it {few}; {remedy}"
        raise UserError(f"{at}: {path} cannot be read: {reason}") from None


def _beside(at: str, name: str) -> str:
    """The setting `name` in the node of the config path that names the file; data.separator, or separator."""
    node = at.rpartition(".")[0]
    return f"{node}.{name}" if node else name


def _must_be_rows(file: BinaryIO, start: bytes, path: str, at: str) -> None:
    text = start.lstrip().lower()
    kind = next((kind for bytes_, kind in FOREIGN.items() if start.startswith(bytes_) or text.startswith(bytes_)), None)
    kind = kind or next((kind for endings, kind in FOREIGN_ENDINGS.items() if path.endswith(endings)), None)
    if not kind and start.startswith(b"PK\x03\x04"):
        names = zipfile.ZipFile(file).namelist()
        file.seek(0)
        if {"[Content_Types].xml", "content.xml"} & set(names):
            kind = OFFICE
        elif names and all(name.endswith(".npy") for name in names):
            kind = "an npz file; data=npz reads it"
        elif len(names) > 1:
            kind = f"an archive of {len(names)} files; give one CSV or Parquet file"
    if kind:
        raise UserError(f"{at}: {path} is {kind}")


def _packed(start: bytes) -> str | None:
    return "gzip" if start.startswith(b"\x1f\x8b") else "zip" if start.startswith(b"PK\x03\x04") else None


def must_match_header(file: BinaryIO, form: dict[str, Any], path: str, at: str) -> list[str]:
    """The header's names; UserError where rows have more fields: pandas would shift the columns by the surplus."""
    header = pd.read_csv(file, nrows=0, dtype=str, **form)
    file.seek(0)
    must_be_separated(header, path, at)  # before a comma of decimals in the rows is taken for a separator
    head = pd.read_csv(file, nrows=100, dtype=str, **form)
    file.seek(0)
    names = [str(name) for name in head.columns]
    surplus = 0 if isinstance(head.index, pd.RangeIndex) else head.index.nlevels
    if not surplus:
        return names
    must_be_separated(head, path, at)
    if surplus == 1 and head.iloc[:, -1].isna().all():
        text = "its rows end with a separator and its header does not; take it off the rows"
        raise UserError(f"{at}: {path}: {text}")
    fields = f"its first row has {len(names) + surplus} fields and its header {len(names)}"
    raise UserError(f"{at}: {path}: {fields}; name every column in the header")


def must_be_separated(frame: pd.DataFrame, path: str, at: str) -> None:
    """Raise UserError where the rows seem to be separated by another sign."""
    names = [str(name) for name in frame.columns]
    other = next((sign for sign in ";\t|" if len(names) == 1 and sign in names[0]), None)
    if other:
        raise Separated(at, path, names[0], other)


def _with_named_index(frame: pd.DataFrame) -> pd.DataFrame:
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return frame.reset_index(level=named) if named else frame
