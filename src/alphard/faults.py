"""What a store or a disk does wrong: how long it is borne, and how it is told.

A store's own client tries again, and nothing here does so on top.  gcsfs asks up to six times, after about 1, 2, 4, 8
and 16 seconds and up to one more each by chance, where trying may help: statuses 408, 429 and 500 to 504, connections
that break or time out, and answers that end before their length.  It never does so for 400, 401, 403 or 404.  By
itself it waits for a silent store for ever; LIMITS ends that.  So a store that refuses is given up after about half a
minute, one that is silent after about three.
"""

import errno
import io
import logging
import os
from typing import Any

from alphard.errors import UserError
from alphard.places import is_url

EMULATOR = "STORAGE_EMULATOR_HOST"  # names what stands in for Google Cloud Storage
# Seconds of one request: until there is a connection, of silence once it was sent, and in all.
LIMITS = {"sock_connect": 10.0, "sock_read": 20.0, "total": 600.0}

DISK = {
    errno.ENOSPC: "the disk is full; make room, and say the same line again",
    errno.EDQUOT: "this user's share of the disk is full; make room, and say the same line again",
    errno.EROFS: "name a folder on a disk that can be written",
    errno.EACCES: "name a folder that this user may write in",
}
STATUS = {
    400: "look at the URL",
    401: "log in with `gcloud auth application-default login`, or give this machine a service account",
    403: "grant this account the right, as roles/storage.objectUser on the bucket has it",
    404: "look at the URL, or make the bucket",
}
AGAIN = "it was tried for a while; say the same line again when the store answers"


def options(path: str) -> dict[str, Any]:
    """What the client of a URL's store is told beyond the URL."""
    if not path.startswith(("gs://", "gcs://")):
        return {}
    # Before gcsfs is imported: no look-ups that an emulator never answers, and its errors are told by us alone.
    if os.environ.get(EMULATOR):
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for name in ("gcsfs", "fsspec.prefetcher"):
        if (logger := logging.getLogger(name)).level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
    from aiohttp import ClientTimeout

    return {"requests_timeout": ClientTimeout(**LIMITS)}


def told(error: BaseException, path: str) -> str:
    """What a store or a disk said of `path`, in a line, and the remedy where there is one."""
    remedy = _remedy(error, path)
    return reason(error) + (f"; {remedy}" if remedy else "")


def reason(error: BaseException) -> str:
    """What an error says, in a line."""
    if type(error).__name__ == "ProxyError" and not str(error):  # so gcsfs calls it
        return "Bad Gateway, 502"
    if isinstance(error, FileNotFoundError) and not error.strerror:  # gcsfs: the address alone
        return "Not Found, 404"
    if isinstance(error, OSError) and error.errno in DISK:  # which Arrow wraps in words of its own
        return os.strerror(error.errno)
    said = [line.strip(" ,") for line in str(error).split("\n")]
    if said[0].startswith("Forbidden: "):  # gcsfs: the address, and then what the store says
        return ", ".join([*filter(None, said[1:2]), "403"])
    return getattr(error, "strerror", None) or said[0] or type(error).__name__


def _remedy(error: BaseException, path: str) -> str | None:
    if not is_url(path):
        return DISK.get(getattr(error, "errno", None) or 0)
    status = getattr(error, "code", None)
    if str(error).startswith("Forbidden: "):
        status = 403
    if isinstance(error, FileNotFoundError):
        status = 404
    if status is not None and str(status) in (known := {str(code): remedy for code, remedy in STATUS.items()}):
        return known[str(status)]
    return AGAIN if _passes(error, status) else None


def _passes(error: BaseException, status: Any) -> bool:
    """Whether a store may answer later."""
    if status is not None:
        return str(status) in {"408", "429", *(str(code) for code in range(500, 505))}
    module = type(error).__module__.partition(".")[0]
    return module in ("aiohttp", "requests") or isinstance(error, TimeoutError | ConnectionError)


class Watched(io.RawIOBase):
    """A file elsewhere, which remembers as `failed` what its store did wrong while others read it.

    They word what they meet as a file's fault, a torn one's say.
    """

    def __init__(self, file: Any, path: str, at: str) -> None:
        self.file, self.path, self.at = file, path, at
        self.failed: UserError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self.file.seekable())

    def tell(self) -> int:
        return int(self.file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self.file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        content = self._read(len(view))
        view[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self._read(-1)

    def _read(self, size: int) -> bytes:
        try:
            return bytes(self.file.read(size))
        except Exception as error:  # a bucket's client raises what it likes
            self.failed = UserError(f"{self.at}: {self.path} cannot be read: {told(error, self.path)}")
            raise OSError(str(self.failed)) from error

    def close(self) -> None:
        self.file.close()
        super().close()
