"""Files by local path or URL (any that fsspec knows; gs:// through gcsfs).

What is written is there complete or not at all: beside and renamed on a disk, in one upload on an object store.
What a store answers at its second or third asking is no error; faults.py says how often that is.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from alphard import faults
from alphard.errors import TrainingError, UserError
from alphard.faults import EMULATOR, told
from alphard.places import is_url, kind_of, local, make, must_be_meant, must_be_plain

__all__ = ["Folder", "is_url", "kind_of", "make", "reading"]

# Files that are read at a time.  Emulators answer one by one, and refuse those that wait behind a few others.
AT_ONCE, AT_ONCE_EMULATED = 32, 4
AT_A_TIME = 2**20  # bytes of a file elsewhere
ROOM = bytes(4096)  # what a disk must have at least


@contextlib.contextmanager
def reading(path: str, at: str) -> Iterator[BinaryIO]:
    """A file opened to read; UserError at config path `at` where that cannot be, or a store fails later."""
    try:
        file = _opened(path, at)
    except FileNotFoundError:
        raise UserError(f"{at}: {path} does not exist{_seen_from(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{at}: {path} is a folder; give a file") from None
    except PermissionError:
        raise UserError(f"{at}: {path} may not be read by this user") from None
    except Exception as error:  # a bucket's client raises what it likes
        raise _unknown(path, at, error) from None
    watched = getattr(file, "raw", None)
    with file:
        try:
            yield file
        except Exception:
            if isinstance(watched, faults.Watched) and watched.failed:
                raise watched.failed from None
            raise


def _opened(path: str, at: str) -> BinaryIO:
    if not is_url(path):
        return open(local(path), "rb")
    must_be_plain(path)
    file = fsspec.open(path, "rb", **faults.options(path)).open()
    return cast(BinaryIO, io.BufferedReader(faults.Watched(file, path, at), AT_A_TIME))


class Folder:
    """A folder by path or URL, which need not be there yet.

    at: the config path that named it, for errors.
    """

    def __init__(self, path: str, at: str = "output_dir") -> None:
        must_be_meant(path, at)
        try:
            self.path, self.at = path.rstrip("/") if is_url(path) else str(local(path)), at
            must_be_plain(self.path)
            self.fs: Any = fsspec.core.url_to_fs(self.path, **faults.options(self.path))[0]
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
            if self.local is not None and kind_of(self.uri(name), self.at) == "other":
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
            raise self._unread(name, error) from None
        return content

    def holds(self, name: str) -> bool:
        """Whether there is such a file, or folder.  Raises UserError where that cannot be told."""
        try:
            self.fs.invalidate_cache()  # what others have written since
            return bool(self.fs.exists(self.uri(name)))
        except Exception as error:  # a bucket's client raises what it likes
            raise self._unread(name, error) from None

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
            raise UserError(f"{self.at}: {self.path} cannot be read: {told(error, self.path)}") from None
        return sorted(path.removeprefix(f"{root}/") for path in found)

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The content of those files that are there, read at once.  Raises UserError where one cannot be read."""
        if not names:
            return {}
        paths = {str(self.fs._strip_protocol(self.uri(name))): name for name in names}
        emulated = bool(os.environ.get(EMULATOR))
        many = {"batch_size": AT_ONCE_EMULATED if emulated else AT_ONCE} if self.fs.async_impl else {}
        try:
            found = self.fs.cat([*paths], on_error="return", **many)
        except Exception as error:  # a bucket's client raises what it likes
            raise UserError(f"{self.at}: {self.path} cannot be read: {told(error, self.path)}") from None
        for path, content in found.items():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise self._unread(paths[path], content)
        return {paths[path]: content for path, content in found.items() if isinstance(content, bytes)}

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file of any size to this machine, whole or not at all.  Raises TrainingError where that fails."""
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as beside:
                self.fs.get_file(self.uri(name), str(Path(beside) / to.name))
                os.replace(Path(beside) / to.name, to)
        except Exception as error:  # a full disk, or whatever a bucket's client raises
            where = str(to) if getattr(error, "errno", None) in faults.DISK else self.path
            raise TrainingError(f"{self.uri(name)} cannot be copied to {to}: {told(error, where)}") from error

    def write(self, name: str, content: bytes) -> str:
        """Write `content` whole, making parent folders; returns its uri.  Raises TrainingError where that fails."""
        try:
            return self._write(name, content)
        except Exception as error:  # a full disk, or whatever a bucket's client raises
            raise self._unwritten(name, error) from error

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
            raise self._unwritten(name, error) from error

    def _put(self, made: Path, name: str) -> None:
        try:
            self.fs.put_file(str(made), self.uri(name))
        except Exception as error:  # a bucket's client raises what it likes
            raise self._unwritten(name, error) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.  Raises TrainingError where that fails."""
        try:
            self.fs.rm_file(self.uri(name))
        except FileNotFoundError:
            pass
        except Exception as error:  # a folder of this name, or whatever a bucket's client raises
            raise TrainingError(f"{self.at}: {self.uri(name)} cannot be removed: {told(error, self.path)}") from error

    def must_be_writable(self) -> None:
        """Raise UserError unless a file can be written here; leaves nothing behind."""
        try:
            if self.local is not None:
                made = make(self.local)
                with tempfile.TemporaryFile(dir=self.local) as file:
                    file.write(ROOM)
                    file.flush()
                with contextlib.suppress(OSError):  # another run has come to write beside this one
                    for path in made:
                        path.rmdir()
            else:
                self._write(".alphard", b"")
                self.fs.rm_file(self.uri(".alphard"))
        except Exception as error:  # a bucket's client raises what it likes
            raise UserError(f"{self.at}: {self.path} cannot be written: {told(error, self.path)}") from None

    def _unread(self, name: str, error: Exception) -> UserError:
        return UserError(f"{self.at}: {self.uri(name)} cannot be read: {told(error, self.path)}")

    def _unwritten(self, name: str, error: Exception) -> TrainingError:
        return TrainingError(f"{self.at}: {self.uri(name)} cannot be written: {told(error, self.path)}")


def _unknown(path: str, at: str, error: Exception) -> UserError:
    scheme = path.split("://", maxsplit=1)[0].split("::", maxsplit=1)[0]
    if isinstance(error, ImportError):
        return UserError(f"{at}: {path} needs a package that is not installed: {error}")
    if "rotocol not known" in str(error):
        return UserError(f"{at}: {path}: nothing is known that opens {scheme}://; give a local path or gs://…")
    return UserError(f"{at}: {path} cannot be opened: {told(error, path)}")


def _seen_from(path: str) -> str:
    return "" if is_url(path) or os.path.isabs(path) else f", seen from {os.getcwd()}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
