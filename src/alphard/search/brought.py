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
    known = (to / JOURNAL).read_bytes() if (to / JOURNAL).is_file() else b""
    with lent(there.path, there.at) as copy:
        try:
            results.load(copy)
        except UserError as error:
            raise UserError(*(said.replace(str(copy), there.path) for said in error.problems)) from None
        now = (copy / JOURNAL).read_bytes() if (copy / JOURNAL).is_file() else b""
    if (to / ABOUT).exists():
        if results.about(to).get("job", {}).get("folder") != there.path:
            raise UserError(f"{to}: holds another study than that of {there.path}; move it away")
        if known.startswith(now):
            return
        if not now.startswith(known):
            raise UserError(f"{to}: has gone on here, and {there.path} there; move it away, and say this again")
    about = copied(there, to)
    if about is None:
        raise UserError(f"{there.at}: {there.path}: holds no study any more")
    said = results.read_about(about, there.uri(ABOUT))
    said["configs"] |= {"folder": os.path.relpath(here().absolute(), to.absolute()), "extra": []}
    said["job"] = {"name": job, "folder": there.path}
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
        found = Folder(path, at).read_all([JOURNAL, ABOUT])
        if ABOUT not in found:
            raise UserError(f"{path}: holds no study, for it has no {ABOUT}")
        for name, content in found.items():
            Folder(scratch).write(name, content)
        yield Path(scratch)


def copied(there: Folder, to: Path) -> bytes | None:
    """Copy the study that lies there into `to`, but for study.yaml, which is returned; None where no study lies there.

    What a trial's folder has no more is removed.  Raises UserError where something cannot be read.
    """
    # The journal first: the folders that it tells of are there already, and what a search adds meanwhile does no harm.
    contents = there.read_all([JOURNAL])
    names = [name for name in there.names() if is_ours(name)]
    if ABOUT not in names:
        return None
    here, others = Folder(str(to), there.at), iter([name for name in names if name not in (JOURNAL, ABOUT)])
    while contents:
        for name, content in contents.items():
            here.write(name, content)
        contents = there.read_all([*islice(others, AT_ONCE)])
    trials = {name.split("/")[1] for name in names if name.startswith("trials/")}
    for path in (to / "trials").glob("*"):
        if path.name not in trials:
            shutil.rmtree(path, ignore_errors=True)
    return there.read(ABOUT)


def is_ours(name: str) -> bool:
    """Whether a file of this name is a part of a study: no lock, nothing half-written, nothing that leads out of it."""
    return all(part and not part.startswith(".") for part in name.split("/"))
