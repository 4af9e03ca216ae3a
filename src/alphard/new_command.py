"""`alphard new`: looks at a file of rows and writes the experiment that trains on it, each decision with its reason."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from rich.table import Table

from alphard import schema, tables
from alphard.errors import UserError
from alphard.lookup import here
from alphard.storage import Folder

HOME = "experiment"  # in configs/
SIGNS = {r"\t": "\t", "tab": "\t"}  # as people type them
RESERVED = {"null", "none", "true", "false", "nan", "inf", "default"}  # which Hydra or a reader takes otherwise
SHOWN = 60  # columns in the table on the screen; the file has them all


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the command line may say beside the path."""

    target: str | None = None
    name: str | None = None
    overwrite: bool = False
    separator: str | None = None
    decimal: str | None = None
    encoding: str = "utf-8"


def main(arguments: Sequence[str]) -> int:
    """Write configs/experiment/NAME.yaml: `rows.csv target=COLUMN name=NAME key=value…`."""
    path, words = _read(arguments)
    configs = here()
    name = _name(words.name, path)
    _must_be_free(configs, name, words.overwrite)
    from alphard import experiment_file as file

    try:
        frame, form = _rows(path, words)
    except UserError as error:  # its remedies are a training's words; these are ours
        raise UserError(*(re.sub(r"data\.(separator|encoding)", r"\1", each) for each in error.problems)) from None
    said = _decide(path, words.target, name, frame, form, shlex.join(["alphard", "new", *arguments]))
    content = file.text(said)
    file.must_be_meant(said, content, configs)
    _must_be_free(configs, name, words.overwrite)
    Folder(str(configs / HOME), "name").write(f"{name}.yaml", content.encode())
    _show(said)
    return 0


def _read(arguments: Sequence[str]) -> tuple[str, Words]:
    """The path and the words; UserError for what is neither."""
    # A path may hold an equals sign, a key no slash.
    pairs = [match for match in (re.fullmatch(r"([\w.-]+)=(.*)", word, re.DOTALL) for word in arguments) if match]
    paths = [word for word in arguments if not re.fullmatch(r"[\w.-]+=.*", word, re.DOTALL)]
    node: dict[str, Any] = {}
    for match in pairs:
        key, value = match[1], match[2]
        if key in node:
            raise UserError(f"{key}: given twice; give it once")
        quoted = re.fullmatch(r"(['\"])(.*)\1", value, re.DOTALL)  # as Hydra wants it for a separator
        value = quoted[2] if quoted else value
        node[key] = {"true": True, "false": False}.get(value.lower(), value) if key == "overwrite" else value
    dashed = next((word for word in paths if word.startswith("-")), None)
    if dashed:
        raise UserError(f"{dashed}: alphard new takes a path and key=value alone, as in target=Survived")
    words = schema.read(Words, node, "", "alphard new")
    if len(paths) != 1 or not paths[0]:
        raise UserError(f"alphard new: {' '.join(paths) or 'no path'}: give one file, as in rows.csv target=Survived")
    for key in ("separator", "decimal", "encoding"):
        if getattr(words, key) == "":
            raise UserError(f"{key}: is empty; give one, or leave it out")
    return paths[0], words


def _name(given: str | None, path: str) -> str:
    """The experiment's name, by default the file's, in letters that a command line needs no quotes for."""
    name = given
    if name is None:
        stem = PurePosixPath(path.partition("?")[0]).name.partition(".")[0]
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-") or "rows"
        name = name if re.match("[A-Za-z]", name) and name.lower() not in RESERVED else f"rows_{name}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or len(name) > 100:
        said = "give a letter, then letters, digits, _ and -, in all at most 100, as in name=mine"
        raise UserError(f"name: {name!r}: {said}")
    if name.lower() in RESERVED:
        raise UserError(f"name: {name}: experiment={name} would mean something else; take another, as in name=mine")
    return name


def _must_be_free(configs: Path, name: str, overwrite: bool) -> None:
    place = configs / HOME / f"{name}.yaml"
    if place.is_dir():
        raise UserError(f"name: {place} is a folder; take another name")
    if place.exists() and not overwrite:
        raise UserError(f"name: {place} is there already; take another name, or overwrite=true replaces it")


def _rows(path: str, words: Words) -> tuple[pd.DataFrame, dict[str, str]]:
    """The file's rows, and the form that training has to be told; a plain separator is found."""
    from alphard.data import profile
    from alphard.data.reading import Separated, read

    sign = SIGNS.get(words.separator or "", words.separator or ",")
    decimal = words.decimal or "."
    try:
        frame = read(path, sign, decimal, words.encoding)
    except Separated as found:
        if words.separator:
            raise
        sign = found.sign
        frame = read(path, sign, decimal, words.encoding)
    if sign != "," and not words.decimal and profile.is_decimal_comma(frame):
        decimal = ","
        frame = read(path, sign, decimal, words.encoding)
    said, usual = (sign, decimal, words.encoding), (",", ".", "utf-8")
    keys = ("separator", "decimal", "encoding")
    return frame, {key: value for key, value, plain in zip(keys, said, usual, strict=True) if value != plain}


def _decide(path: str, target: str | None, name: str, frame: pd.DataFrame, form: dict[str, str], line: str) -> Any:
    """The experiment for these rows; UserError where the target is none."""
    from alphard import advice
    from alphard.data import Csv, profile
    from alphard.experiment_file import Experiment

    if target is None:
        likely = ", ".join(profile.may_be_targets(frame))
        hint = f"; these hold a few classes each: {likely}" if likely else ""
        raise UserError(f"target: is missing; give target=COLUMN{hint}.  The columns are {', '.join(map(str, frame))}")
    data = Csv(path=path, target=target)
    y, classes = data.classes_of(frame)
    if "???" in frame:
        raise UserError(f"data.path: {path} has a column ???, which means missing in YAML; rename it in the file")
    found = profile.look(frame, target, data.max_categories)
    profile.leave_out_leaks(found, frame, target, y, len(classes))
    features = sum(1 if c.treatment == "numeric" else min(c.values, 50) for c in found if c.treatment != "drop")
    advised, train = advice.advise(y, classes, features)
    profile.leave_out_faults(found, frame.iloc[train])
    if all(column.treatment == "drop" for column in found):
        why = "; ".join(f"{column.name}: {column.reason}" for column in found[:6])
        raise UserError(f"data.path: {path}: no column beside {target} is left to learn from: {why or 'there is none'}")
    return Experiment(name, path, target, line, classes, found, advised, data.max_categories, form)


def _show(said: Any) -> None:
    """The columns, what is suspicious, what was written, and the commands to run next."""
    from alphard.experiment_file import about, one_line

    if len(said.columns) <= SHOWN:
        table = Table("column", "treatment", "why")
        for column in said.columns:
            table.add_row(one_line(column.name, 40), column.treatment, about(column))
        tables.show(table)
    counts = ", ".join(f"{len(said.named(kind))} {kind}" for kind in ("numeric", "categorical"))
    print(f"columns: {counts}, {len(said.named('drop'))} dropped")
    largest = one_line(said.classes[said.advice.largest], 40)
    print(f"classes: {len(said.classes)}; the largest is {largest} with {said.advice.majority:.1%} of the rows")
    for column in said.columns:
        if column.doubt:
            print(f"suspicious: {one_line(column.name, 40)}: {one_line(column.doubt, 200)}")
    print(f"wrote: configs/{HOME}/{said.name}.yaml")
    print(f"next: python train.py experiment={said.name}")
    print(f"then: {said.search}", flush=True)
