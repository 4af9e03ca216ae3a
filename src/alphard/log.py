"""training.log: all that Python writes to stdout and stderr from here on, and still to where it went before."""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class _Tee(io.TextIOBase):
    """Writes to `stream` and to `log`; for everything else it is `stream`."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        self.log.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.log.flush()
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here, and so in every caller
        return self.stream.encoding


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Copy what is printed to `path`, line by line, until the block ends; its parent folder must exist."""
    before = sys.stdout, sys.stderr
    with path.open("w", buffering=1, encoding="utf-8") as log:
        sys.stdout, sys.stderr = _Tee(before[0], log), _Tee(before[1], log)
        handlers = _repoint({id(before[0]): sys.stdout, id(before[1]): sys.stderr})
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for handler, stream in handlers:
                handler.setStream(stream)


def _repoint(streams: dict[int, Any]) -> list[tuple[Any, Any]]:
    """Point the logging handlers that hold a replaced stream at its replacement; returns what to undo."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    found = {handler for logger in loggers for handler in logger.handlers if isinstance(handler, logging.StreamHandler)}
    return [(h, h.setStream(streams[id(h.stream)])) for h in found if id(h.stream) in streams]
