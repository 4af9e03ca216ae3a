"""`alphard predict`: a finished run's predictions for a file of rows, in memory that does not grow with it."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alphard import imported, literals, schema
from alphard.errors import UserError, plain
from alphard.storage import Folder, is_url, kind_of

USAGE = "give a run's folder and a file of rows, as in alphard predict studies/mine-mlp/winner rows.csv out=new.csv"
SETTING = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
WRITTEN = (".csv", ".csv.gz", ".parquet", ".pq")


@dataclass(frozen=True)
class Words:
    """What a line may say.

    keep: the rows' own columns to write beside the predictions; "all" is every one.
    separator, decimal, encoding: of the rows' file; None is as the run's own data says.
    """

    out: str
    keep: list[str] | Literal["all"] = field(default_factory=list)
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    overwrite: bool = False


def main(arguments: Sequence[str]) -> int:
    """Write what RUN predicts for ROWS: `RUN ROWS out=FILE keep=[COLUMN,…]`."""
    where, rows, words = _read(arguments)
    folder, name = _place(words, rows)
    with imported.for_good():
        from alphard import predict, predictions
        from alphard.quiet import quiet
        from alphard.run import environment_kept

    with environment_kept(), quiet():
        run = predict.read(predict.find(where))
        said = {key: getattr(words, key) or run.form.get(key) for key in ("separator", "decimal", "encoding")}
        form = {key: str(value) for key, value in said.items() if value}
        predictor = predict.Predictor(run, form.get("decimal", "."))
        parts = predictions.parts(rows, predictor, words.keep, form)
        folder.must_be_writable()
        tally = predictions.write(parts, predictor, folder, name)
    if tally.new:
        print(f"warning: {plain(str(tally.new))}", file=sys.stderr)
    print(plain("\n".join([*tally.lines, f"predictions: {words.out}"])), flush=True)
    return 0


def _read(arguments: Sequence[str]) -> tuple[str, str, Words]:
    """The run, the rows, and what else a line says; UserError with all that is wrong with it."""
    paths = [word for word in arguments if not SETTING.fullmatch(word)]
    flags = [word for word in paths if word.startswith("-")]
    if flags:
        raise UserError(f"{flags[0]}: alphard predict takes two paths and key=value, as in out=predictions.csv")
    if len(paths) != 2:
        raise UserError(f"alphard predict: {' '.join(paths) or 'no path'}: {USAGE}")
    given = [found for word in arguments if (found := SETTING.fullmatch(word))]
    schema.once([found[1] for found in given])
    said = {found[1]: _typed(*found.groups()) for found in given}
    words = schema.read(Words, said, "", "alphard predict")
    return paths[0], paths[1], words


def _typed(key: str, text: str) -> Any:
    """A list and true or false as such; all else is text, without the quotes that Hydra would want."""
    value = literals.read(text)
    if key == "keep":
        names = value if isinstance(value, list) else text if text == "all" else [text]
        return names if isinstance(names, str) else [str(name) for name in names]
    if key == "overwrite":
        return {"true": True, "false": False}.get(text.lower(), text)
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _place(words: Words, rows: str) -> tuple[Folder, str]:
    """The folder and the name of the predictions' file; UserError where they may not lie there."""
    out, at = words.out, f"out: {words.out}"
    there = None if is_url(out) else kind_of(out, "out")
    if not out or out.endswith("/") or there == "folder":
        raise UserError(f"{at}: is a folder; give a file, as in out=predictions.csv")
    if not out.lower().endswith(WRITTEN):
        raise UserError(f"{at}: is written as CSV (.csv, .csv.gz) or Parquet (.parquet); name one of these")
    if there == "other":
        raise UserError(f"{at}: is no file, but something else of that name; give another")
    parent, _, name = out.rpartition("/")
    folder = Folder(parent if parent or not out.startswith("/") else "/", "out")
    if _same(out, rows):
        raise UserError(f"{at}: is the file of the rows; give another")
    if folder.holds(name) and not words.overwrite:
        raise UserError(f"{at}: is there already; give another, or overwrite=true")
    return folder, name


def _same(out: str, rows: str) -> bool:
    if is_url(out) or is_url(rows):
        return out == rows
    one, other = (Path(path.removeprefix("file://")).expanduser().resolve() for path in (out, rows))
    return one == other or (one.exists() and other.exists() and one.samefile(other))
