"""SIGINT and SIGTERM end a run by an exception, so that it can still write what it has."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from alphard.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM)


def interrupt(number: int, _: FrameType | None) -> None:
    """The handler: a second signal of the same kind ends the process at once, as it would without us."""
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


def listen() -> None:
    """Install the handler; also needed again once Lightning has put its own for SIGTERM."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, interrupt)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Ignore SIGTERM inside: what has begun to be written is written.  Ctrl-C still ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
