"""Files by local path or URL (any that fsspec knows; gs:// through gcsfs).

What is written is there complete or not at all: beside and renamed on a disk, in one upload on an object store.
"""

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import fsspec

from alphard.errors import TrainingError, UserError

# What may be opened.  Of the rest that fsspec knows, some run what a file says (reference://'s templates), run a
# program, or open one address within another, past the judge of it.
SCHEMES = {
    *("gs", "gcs", "s3", "s3a", "az", "abfs", "abfss", "adl", "oss", "http", "https", "ftp", "hf", "memory", "file"),
}
EMULATOR = "STORAGE_EMULATOR_HOST"  # names what stands in for Google Cloud Storage
# Files that are read at a time.  Emulators answer one by one, and refuse those that wait behind a few others.
AT_ONCE, AT_ONCE_EMULATED = 32, 4


def is_url(path: str) -> bool:
    """Whether `path` names something that is not a local file."""
    return "://" in path and not path.startswith("file://")


@contextlib.contextmanager
def reading(path: str, at: str) -> Iterator[BinaryIO]:
    """A file opened to read; UserError at config path `at` where that cannot be."""
    try:
        _prepare(path)
        file: BinaryIO = fsspec.open(path, "rb").open() if is_url(path) else open(_local(path), "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise UserError(f"{at}: {path} does not exist{_seen_from(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{at}: {path} is a folder; give a file") from None
    except PermissionError:
        raise UserError(f"{at}: {path} may not be read by this user") from None
    except Exception as error:  # a bucket's client raises what it likes
        raise _unknown(path, at, error) from None
    with file:
        yield file


class Folder:
    """A folder by path or URL, which need not be there yet.

    at: the config path that named it, for errors.
    """

    def __init__(self, path: str, at: str = "output_dir") -> None:
        try:
            self.path, self.at = path.rstrip("/") if is_url(path) else str(_local(path)), at
            _prepare(self.path)
            self.fs: Any = fsspec.core.url_to_fs(self.path)[0]
        except Exception as error:  # a bucket's client raises what it likes
            raise _unknown(path, at, error) from None

    @property
    def local(self) -> Path | None:
        """The folder on this machine's disk, or None for one elsewhere."""
        return None if is_url(self.path) else Path(self.path)

    def uri(self, name: str) -> str:
        """`name` in this folder, as somebody else would open it."""
        return f"{self.path}/{name}"

    def read(self, name: str) -> bytes | None:
        """A file's content, or None where there is no such file.  Raises UserError where it cannot be read."""
        try:
            if self.local is not None and not _is_read_to_its_end(self.local / name):
                raise UserError(
                    f"{self.at}: {self.uri(name)} is no file, but something else of that name; move it away"
                )
            content: bytes = self.fs.cat_file(self.uri(name))
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise UserError(f"{self.at}: {self.path} lies under a file; give a folder") from None
        except UserError:
            raise
        except Exception as error:  # no permission, a name too long, or whatever a bucket's client raises
            raise UserError(f"{self.at}: {self.uri(name)} cannot be read: {_reason(error)}") from None
        return content

    def names(self) -> list[str]:
        """Every file in it and below, as a path relative to it, sorted; none where there is no such folder.

        Raises UserError where that cannot be told.
        """
        root = str(self.fs._strip_protocol(self.path)).rstrip("/")
        try:
            self.fs.invalidate_cache()  # what others have written since
            found = self.fs.find(self.path)
        except FileNotFoundError:
            return []
        except Exception as error:  # a bucket's client raises what it likes
            raise UserError(f"{self.at}: {self.path} cannot be read: {_reason(error)}") from None
        return sorted(path.removeprefix(f"{root}/") for path in found)

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The content of those files that are there, read at once.  Raises UserError where one cannot be read."""
        if not names:
            return {}
        paths = {str(self.fs._strip_protocol(self.uri(name))): name for name in names}
        emulated = bool(os.environ.get(EMULATOR))
        many = {"batch_size": AT_ONCE_EMULATED if emulated else AT_ONCE} if self.fs.async_impl else {}
        found = self.fs.cat([*paths], on_error="return", **many)
        for path, content in found.items():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise UserError(f"{self.at}: {self.uri(paths[path])} cannot be read: {_reason(content)}")
        return {paths[path]: content for path, content in found.items() if isinstance(content, bytes)}

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file of any size to this machine, whole or not at all.  Raises TrainingError where that fails."""
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as beside:
                self.fs.get_file(self.uri(name), str(Path(beside) / to.name))
                os.replace(Path(beside) / to.name, to)
        except Exception as error:  # a full disk, or whatever a bucket's client raises
            raise TrainingError(f"{self.uri(name)} cannot be copied to {to}: {_reason(error)}") from error

    def write(self, name: str, content: bytes) -> str:
        """Write `content` whole, making parent folders; returns its uri.  Raises TrainingError where that fails."""
        try:
            return self._write(name, content)
        except Exception as error:  # a full disk, or whatever a bucket's client raises
            raise TrainingError(f"{self.at}: {self.uri(name)} cannot be written: {_reason(error)}") from error

    def _write(self, name: str, content: bytes) -> str:
        if self.local is None:
            self.fs.pipe_file(self.uri(name), content)
            return self.uri(name)
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(beside, 0o666 & ~_umask())  # mkstemp's 0600 would hide an artifact from its owner's colleagues
            os.replace(beside, target)
        except BaseException:
            os.unlink(beside)
            raise
        return self.uri(name)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path on this machine, for a file of any size, which is `name` when the block has ended, and else nothing.

        Raises TrainingError where it cannot be written.
        """
        where = self.local
        try:
            if where is not None:
                where.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=where, prefix=f".{name}.") as beside:
                made = Path(beside) / name
                yield made
                if where is not None:
                    os.replace(made, where / name)
                else:
                    self._put(made, name)
        except OSError as error:
            raise TrainingError(f"{self.at}: {self.uri(name)} cannot be written: {_reason(error)}") from error

    def _put(self, made: Path, name: str) -> None:
        try:
            self.fs.put_file(str(made), self.uri(name))
        except Exception as error:  # a bucket's client raises what it likes
            raise TrainingError(f"{self.at}: {self.uri(name)} cannot be written: {_reason(error)}") from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.  Raises TrainingError where that fails."""
        try:
            self.fs.rm_file(self.uri(name))
        except FileNotFoundError:
            pass
        except Exception as error:  # a folder of this name, or whatever a bucket's client raises
            raise TrainingError(f"{self.at}: {self.uri(name)} cannot be removed: {_reason(error)}") from error

    def must_be_writable(self) -> None:
        """Raise UserError unless a file can be written here; leaves nothing behind."""
        try:
            if self.local is not None:
                made = make(self.local)
                with tempfile.TemporaryFile(dir=self.local):
                    pass
                with contextlib.suppress(OSError):  # another run has come to write beside this one
                    for path in made:
                        path.rmdir()
            else:
                self._write(".alphard", b"")
                self.fs.rm_file(self.uri(".alphard"))
        except Exception as error:  # a bucket's client raises what it likes
            raise UserError(f"{self.at}: {self.path} cannot be written: {_reason(error)}") from None


def make(folder: Path) -> list[Path]:
    """Make `folder` and its parents; returns those made, innermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _prepare(path: str) -> None:
    """Before gcsfs is imported: no look-ups that an emulator never answers, and its errors are told by us alone.

    Raises ValueError, as fsspec does, for an address that it is not to open.
    """
    if is_url(path) and ("::" in path or path.split("://", maxsplit=1)[0] not in SCHEMES):
        raise ValueError(f"Protocol not known: {path}")
    if path.startswith(("gs://", "gcs://")):
        if os.environ.get(EMULATOR):
            os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        if (logger := logging.getLogger("gcsfs")).level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)


def kind_of(path: str, at: str) -> Literal["file", "folder", "other"] | None:
    """What a local path is, or None where nothing is; UserError at config path `at` for what can be no path."""
    try:
        mode = os.stat(_local(path)).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a NUL, of a user who is not there, hidden
        raise UserError(f"{at}: {path[:200]!r} cannot be looked at: {_reason(error)}") from None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def _is_read_to_its_end(path: Path) -> bool:
    """Whether reading comes to an end: a pipe may never, and a device has none."""
    return not path.exists() or path.is_file() or path.is_dir()


def _local(path: str) -> Path:
    return Path(path.removeprefix("file://")).expanduser().absolute()


def _unknown(path: str, at: str, error: Exception) -> UserError:
    scheme = path.split("://", maxsplit=1)[0].split("::", maxsplit=1)[0]
    if isinstance(error, ImportError):
        return UserError(f"{at}: {path} needs a package that is not installed: {error}")
    if "rotocol not known" in str(error):
        return UserError(f"{at}: {path}: nothing is known that opens {scheme}://; give a local path or gs://…")
    return UserError(f"{at}: {path} cannot be opened: {_reason(error)}")


def _seen_from(path: str) -> str:
    return "" if is_url(path) or os.path.isabs(path) else f", seen from {os.getcwd()}"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
