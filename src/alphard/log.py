"""training.log: all that Python writes to stdout and stderr from here on, and still to where it went before."""

import contextlib
import io
import logging
import sys
from pathlib import Path
from typing import Any, TextIO

from alphard.errors import masked


class _Tee:
    """Writes to `stream` and, until the log ends, to the log; for everything else it is `stream`."""

    def __init__(self, stream: TextIO, log: "Log") -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        if not self.log.copy.closed:
            self.log.copy.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        if not self.log.copy.closed:
            self.log.copy.flush()
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class File:
    """A text file written at once, so that what is said can be read; from a disk that is full on, in memory.

    lost: what the disk did not take; tried again with each write, and on closing.
    """

    def __init__(self, path: Path, append: bool) -> None:
        self.file: io.FileIO = path.open("ab" if append else "wb", buffering=0)
        self.lost = b""

    @property
    def closed(self) -> bool:
        return self.file.closed

    def write(self, text: str) -> None:
        self.lost += text.encode(errors="backslashreplace")
        self.flush()

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            while self.lost:
                self.lost = self.lost[self.file.write(self.lost) or 0 :]

    def close(self) -> None:
        self.flush()
        with contextlib.suppress(OSError):  # as some network mounts say late
            self.file.close()


class Log:
    """A copy of stdout and stderr: in memory until `open` names the file, and then there."""

    def __init__(self) -> None:
        self.copy: io.StringIO | File = io.StringIO()

    @property
    def lost(self) -> bytes:
        """The end of the log, where its disk is full."""
        return self.copy.lost if isinstance(self.copy, File) else b""

    def __enter__(self) -> "Log":
        self.before = sys.stdout, sys.stderr
        tees: list[Any] = [_Tee(stream, self) for stream in self.before]
        sys.stdout, sys.stderr = tees
        self.handlers = _repoint({id(self.before[0]): sys.stdout, id(self.before[1]): sys.stderr})
        return self

    def open(self, path: Path, append: bool = False) -> None:
        """Write what was said so far to `path`, and go on there; its parent folder must exist.

        append: after what an earlier process said there.
        """
        torn = append and path.exists() and not path.read_bytes().endswith(b"\n")
        earlier, self.copy = self.copy, File(path, append)
        self.copy.write("\n" if torn else "")
        assert isinstance(earlier, io.StringIO), "a log is opened once"
        self.copy.write(earlier.getvalue())

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        sys.stdout, sys.stderr = self.before
        for handler, stream in self.handlers:
            handler.setStream(stream)
        if isinstance(error, Exception):  # which is printed when the log has ended
            self.copy.write(f"error: {masked(str(error))}\n")
        self.copy.close()


def _repoint(streams: dict[int, Any]) -> list[tuple[Any, Any]]:
    """Point the logging handlers that hold a replaced stream at its replacement; returns what to undo."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    found = {handler for logger in loggers for handler in logger.handlers if isinstance(handler, logging.StreamHandler)}
    return [(h, h.setStream(streams[id(h.stream)])) for h in found if id(h.stream) in streams]
