"""`alphard prepare`: what a config makes of its data, written once, and the line that trains on it."""

import inspect
import re
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from alphard import foreign, literals, locking
from alphard.compose import Refused, compose, must_be_sound, refused
from alphard.errors import UserError
from alphard.hydra_seam import command_line
from alphard.lookup import here
from alphard.multirun import searches
from alphard.schema import once
from alphard.storage import Folder, is_url, kind_of

TARGET = "alphard.data.Npz"


def main(arguments: Sequence[str]) -> int:
    """Write the rows of `python train.py OVERRIDES`, prepared, to the folder that out=… names."""
    out, overwrite, overrides = _read(arguments)
    configs = here()
    line = command_line(overrides)
    foreign.refuse(line, configs)
    if searches(line):
        raise UserError("search: prepare only prepares; say search=… on the line that it prints")
    try:
        config = compose(configs, overrides)
        must_be_sound(config)
    except Refused as refusal:
        raise refused(configs, line, refusal) from None
    from alphard import prepared
    from alphard.quiet import quiet

    folder = Folder(out, "out")
    must_be_a_place(folder, overwrite)
    _must_read_elsewhere(folder, config)
    with quiet(), locking.alone_in(folder):
        data, splits = prepared.load(config)
        files = prepared.files(splits)
        train = _line(configs, line, {name: f"{out.rstrip('/')}/{file}" for name, file in files.items()}, data)
        prepared.write(folder, config, splits, overwrite)
    counts = ", ".join(f"{name} {len(table):,}" for name, table in prepared.tables(splits).items())
    shape = f"{splits.train.X.shape[1]} features, {len(splits.classes)} classes"
    print(f"rows: {counts}; {shape}\nprepared: {out}\n  {'  '.join(files.values())}\ntrain on them:")
    print(shlex.join(["python", "train.py", *train]), flush=True)
    return 0


def _read(arguments: Sequence[str]) -> tuple[str, bool, list[str]]:
    """Where to, whether what lies there may go, and the overrides of train.py."""
    for argument in arguments:
        if argument.startswith("-"):
            raise UserError(f"{argument}: alphard prepare takes out=… and overrides alone, as in experiment=mine")
    given = [word.split("=", 1) for word in arguments if re.match(r"(out|overwrite)=", word)]
    once([key for key, _ in given])
    said = dict(given)
    rest = [word for word in arguments if not re.match(r"(out|overwrite)=", word)]
    out, overwrite = said.get("out", ""), said.get("overwrite", "false").lower()
    problems = []
    if not out:
        problems.append("out: is missing; give out=FOLDER or out=gs://…")
    if overwrite not in ("true", "false"):
        problems.append(f"overwrite: {overwrite!r}: should be true or false")
    if out and not is_url(out) and kind_of(out, "out") not in (None, "folder"):
        problems.append(f"out: {out}: is a file; give a folder")
    if problems:
        raise UserError(*problems)
    return out, overwrite == "true", rest


def must_be_a_place(folder: Folder, overwrite: bool) -> None:
    """Raise UserError for a folder that holds what no preparation wrote, or cannot be written."""
    from alphard.prepared import FILES, MARK

    names = folder.names()
    if names and MARK not in names and not overwrite:
        some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        remedy = "give another folder, or overwrite=true, which replaces files of these names"
        raise UserError(f"out: {folder.path} holds other files, or a preparation cut short ({some}); {remedy}")
    for name in FILES:
        if folder.local is not None and kind_of(folder.uri(name), "out") not in (None, "file"):
            raise UserError(f"out: {folder.uri(name)} is no file, and one of that name goes there; give another folder")
    folder.must_be_writable()


def _must_read_elsewhere(folder: Folder, config: DictConfig) -> None:
    """Raise UserError where the data itself lies in the folder: what is read would be removed."""
    for name, path in config.data.items():
        if isinstance(path, str) and path and Folder(path, f"data.{name}").path.startswith(f"{folder.path}/"):
            raise UserError(f"out: {folder.path} holds data.{name}, {path}; give another folder")


def _line(configs: Path, line: Namespace, paths: dict[str, str], data: Any) -> list[str]:
    """The overrides that train on the files, checked: what the user said of all but the data, and what is there now."""
    kept = [word for word in line.overrides if not re.match(r"[+~]*data(?:[.@=]|$)", word)]
    words = [*kept, "data=npz", *(f"data.{name}={literals.write(path)}" for name, path in paths.items())]
    try:
        now = compose(configs, words)
        words += _corrections(now, paths, data)
        must_be_sound(compose(configs, words))
    except Refused as refusal:
        raise refused(configs, Namespace(**vars(line) | {"overrides": words}), refusal) from None
    except UserError as error:
        said = f"the line that would train on the prepared rows is refused: {shlex.join(words)}"
        raise UserError(said, *error.problems) from None
    return words


def _corrections(now: DictConfig, paths: dict[str, str], data: Any) -> list[str]:
    """What an experiment says of other data, taken back; and what it says of these rows and a default would not."""
    from alphard.data import Npz
    from alphard.prepared import APPLIED

    taken = set(inspect.signature(Npz).parameters)
    words = [f"~data.{name}" for name in map(str, now.data) if name not in {*taken, "_target_"}]
    if now.data._target_ != TARGET:
        words.append(f"data._target_={TARGET}")
    words += [f"data.{name}=null" for name in ("test", "preprocessing") if name not in paths and now.data.get(name)]
    for name in ("split_seed", *APPLIED):
        meant = getattr(data, name)
        if now.data.get(name) != meant:
            words.append(f"data.{name}={literals.write(literals.plain(meant))}")
    return words
