"""What a path names: something elsewhere or on this machine, and what lies there."""

import os
import re
import stat
from pathlib import Path
from typing import Literal

from alphard.errors import UserError

# What may be opened.  Of the rest that fsspec knows, some run what a file says (reference://'s templates), run a
# program, or open one address within another, past the judge of it.
SCHEMES = {
    *("gs", "gcs", "s3", "s3a", "az", "abfs", "abfss", "adl", "oss", "http", "https", "ftp", "hf", "memory", "file"),
}


def is_url(path: str) -> bool:
    """Whether `path` names something that is not a local file."""
    return "://" in path and not path.startswith("file://")


def must_be_plain(path: str) -> None:
    """Raise ValueError, as fsspec does, for an address that it is not to open."""
    if is_url(path) and ("::" in path or path.split("://", maxsplit=1)[0] not in SCHEMES):
        raise ValueError(f"Protocol not known: {path}")


def must_be_meant(path: str, at: str) -> None:
    """Raise UserError at config path `at` for what begins like a URL and is none: no folder here was meant by it."""
    scheme, colon, rest = path.partition(":")
    if colon and scheme in SCHEMES - {"file", "memory"} and not re.match("//[^/]", rest):
        raise UserError(f"{at}: {path}: is no URL; give {scheme}://{rest.strip('/') or 'BUCKET/FOLDER'}")


def local(path: str) -> Path:
    """Where a path on this machine leads, from the root on."""
    return Path(path.removeprefix("file://")).expanduser().absolute()


def kind_of(path: str, at: str) -> Literal["file", "folder", "other"] | None:
    """What a local path is, or None where nothing is; UserError at config path `at` for what can be no path.

    Reading a file comes to an end: another's, a pipe's or a device's, may never.
    """
    try:
        mode = os.stat(local(path)).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a NUL, of a user who is not there, hidden
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{at}: {path[:200]!r} cannot be looked at: {said}") from None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def make(folder: Path) -> list[Path]:
    """Make `folder` and its parents; returns those made, innermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made
