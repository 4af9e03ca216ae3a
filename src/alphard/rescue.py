"""A run whose folder cannot be written keeps what it made on this machine, and says where."""

import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from alphard.errors import TrainingError
from alphard.faults import told
from alphard.storage import Folder

Files = Callable[[], Iterator[tuple[str, bytes]]]


def kept(error: TrainingError, folder: Folder, files: Files, trees: Mapping[str, Path], spare: Path) -> TrainingError:
    """The error that `folder` could not be written, with where the run's files lie now, and how to bring them there.

    files: names and contents, made anew for each place that is tried.
    trees: folders of this machine to keep whole, by the name that each has among the files; "" is beside them.
    spare: the first place to try; the second is the system's for temporary files.
    """
    tried = []
    for parent in (spare, Path(tempfile.gettempdir())):
        try:
            place = _place(parent)
        except OSError as refused:
            tried.append(f"{parent}: {told(refused, str(parent))}")
            continue
        try:
            for name, tree in trees.items():
                if tree.is_dir():
                    shutil.copytree(tree, place / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
            for name, content in files():
                Folder(str(place)).write(name, content)
        except (OSError, TrainingError, shutil.Error) as refused:
            shutil.rmtree(place, ignore_errors=True)
            tried.append(f"{parent}: {told(refused, str(parent))}")
            continue
        return TrainingError(f"{error}\n  {_said(place, folder)}")
    return TrainingError(f"{error}\n  nor can the run's artifacts be kept elsewhere ({'; '.join(tried)})")


def _place(parent: Path) -> Path:
    place = Path(tempfile.mkdtemp(prefix="rescued-", dir=parent))
    with contextlib.suppress(OSError):
        place.chmod(parent.stat().st_mode & 0o777)  # mkdtemp's 0700 would hide it from its owner's colleagues
    return place


def _said(place: Path, folder: Folder) -> str:
    return f"all artifacts of the run are kept in {place}; when it can be written: {copying(place, folder)}"


def copying(place: Path, folder: Folder) -> str:
    """How all that is in `place` comes into `folder`."""
    here = f"{shlex.quote(str(place))}{os.sep}"
    there = f"{shlex.quote(folder.path)}/"
    if folder.local is not None:
        return f"cp -r {here}. {there}"
    if folder.path.startswith(("gs://", "gcs://")):
        return f"gcloud storage cp -r {here}* {there}"
    return f"copy them to {there}"
