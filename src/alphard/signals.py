"""SIGINT and SIGTERM end a run by an exception, so that it can still write what it has.

Where a training says that it will come to a place where nothing is half done, the exception waits for it a moment.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

from alphard.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM)
# Python runs a handler between two of its own steps.  A process that waits in C++ for another that is gone would never
# come to it, and the cloud gives 30 s.
PATIENCE = 8.0  # seconds
WAIT = 2.0  # seconds that a signal waits for a training's next step
_heard = threading.Event()
_left = threading.Event()  # no signal waits
_left.set()
_ending = threading.RLock()


class _Waiting:
    """willing: whether a signal may wait; number: the one that does, or 0."""

    willing = False
    number = 0


def interrupt(number: int, _: FrameType | None) -> None:
    """The handler: a second signal of the same kind ends the process at once, as it would without us.

    While the first one waits, the second one only ends the waiting.
    """
    if _Waiting.willing and not _Waiting.number:
        _Waiting.number = number
        _left.clear()
        _heard.set()
        return
    _heard.set()
    _raise(_Waiting.number or number)


def defer(willing: bool) -> None:
    """Let a signal wait from now on, for WAIT seconds at most, for the next call of `leave`; or no longer."""
    _Waiting.willing = willing and threading.current_thread() is threading.main_thread()
    if not willing:
        _left.set()  # what waits still is raised by `leave`


def waiting() -> bool:
    """Whether a signal waits."""
    return bool(_Waiting.number)


def leave() -> None:
    """Raise Interrupted if a signal waits."""
    if _Waiting.number:
        _raise(_Waiting.number)


def _raise(number: int) -> None:
    with _ending:
        _Waiting.number = 0
        _left.set()
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


def listen() -> None:
    """Install the handler; also needed again once Lightning has put its own for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        return
    _heard.clear()  # the last one ended another run
    for number in ENDING:
        signal.signal(number, interrupt)
    if not any(thread.name == "signals" for thread in threading.enumerate()):
        receiver, sender = socket.socketpair()
        sender.setblocking(False)
        threading.Thread(target=_watch, args=(receiver, sender), daemon=True, name="signals").start()
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Ignore both inside: what has begun to be written, in a few seconds, is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(receiver: socket.socket, sender: socket.socket) -> None:
    """End the process when a signal arrived and its handler did not come to run.  `sender` is kept open here."""
    while number := receiver.recv(1):
        if number[0] not in ENDING:
            continue
        if not _heard.wait(PATIENCE):
            _quit(number[0])
        if not _left.wait(WAIT):
            with _ending:
                if not _left.is_set():  # or the system's own handler would get it
                    signal.pthread_kill(threading.main_thread().ident or 0, number[0])  # also out of a sleep
            if not _left.wait(PATIENCE):
                _quit(number[0])
    sender.close()


def _quit(number: int) -> None:
    os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)
