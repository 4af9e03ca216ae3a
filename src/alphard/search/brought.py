"""A study that lies elsewhere, as in a bucket, brought to this machine."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import yaml

from alphard.errors import UserError
from alphard.lookup import here
from alphard.search import results
from alphard.search.results import ABOUT
from alphard.search.storages import JOURNAL
from alphard.storage import Folder, is_url

AT_ONCE = 256  # files that are read together


def holds_study(there: Folder) -> bool:
    """Whether a study lies there.  Raises UserError where that cannot be told."""
    return there.holds(ABOUT)


def home(there: Folder, to: Path, job: str | None = None) -> None:
    """Make `to` the study that lies there, of this project's configs; said again, it brings what is new.

    job: the name of the job that made it.

    What was made here, as a winner, stays, and a study that went on here is left as it is.

    Raises UserError, nothing written, where the study cannot be read, or `to` holds another.
    """
    with lent(there.path, there.at) as copy:
        said, now = results.load(copy)[0], _journal(copy)
    if (to / ABOUT).exists():
        if results.about(to).get("job", {}).get("folder") != there.path:
            raise UserError(f"{to}: holds another study than that of {there.path}; move it away")
        known = _journal(to)
        if known.startswith(now):
            return
        if not now.startswith(known):
            raise UserError(f"{to}: has gone on here, and {there.path} there; move it away, and say this again")
    copy_files(there, to)
    said["configs"] |= {"folder": os.path.relpath(here().absolute(), to.absolute()), "extra": []}
    said["job"] = {"name": job, "folder": there.path}
    if now:
        Folder(str(to)).write(JOURNAL, now)
    Folder(str(to)).write(ABOUT, yaml.safe_dump(said, sort_keys=False).encode())


@contextlib.contextmanager
def lent(path: str, at: str) -> Iterator[Path]:
    """Inside, the study's folder; of one elsewhere, a copy of what tells of its trials.

    at: the config path that names it, for errors.
    """
    if not is_url(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="alphard-") as scratch:
        found = told(Folder(path, at))
        if ABOUT not in found:
            raise UserError(f"{path}: holds no study, for it has no {ABOUT}")
        for name, content in found.items():
            Folder(scratch).write(name, content)
        with named(Path(scratch), path):
            yield Path(scratch)


@contextlib.contextmanager
def named(folder: Path, there: str) -> Iterator[None]:
    """Inside, what an error says of the folder here is meant of the one there."""
    try:
        yield
    except UserError as error:
        error.problems = tuple(said.replace(str(folder), there) for said in error.problems)
        error.args = ("\n".join(error.problems),)
        raise


def told(there: Folder) -> dict[str, bytes]:
    """Journal and study.yaml, where they are there.  Read before `copy_files`: what they tell of is there by then."""
    return there.read_all([JOURNAL, ABOUT])


def copy_files(there: Folder, to: Path) -> None:
    """Copy what lies there beside what `told` reads; a trial's folder that is no more there is removed.

    Raises UserError where something cannot be read.
    """
    here = Folder(str(to), there.at)
    names = [name for name in there.names() if is_ours(name) and name not in (JOURNAL, ABOUT)]
    waiting = iter(names)
    while some := [*islice(waiting, AT_ONCE)]:
        for name, content in there.read_all(some).items():
            here.write(name, content)
    trials = {name.split("/")[1] for name in names if name.startswith("trials/")}
    for path in (to / "trials").glob("*"):
        if path.name not in trials:
            shutil.rmtree(path, ignore_errors=True)


def is_ours(name: str) -> bool:
    """Whether a file of this name is a part of a study: no lock, nothing half-written, nothing that leads out of it."""
    return all(part and not part.startswith(".") for part in name.split("/"))


def _journal(folder: Path) -> bytes:
    return (folder / JOURNAL).read_bytes() if (folder / JOURNAL).is_file() else b""
