"""A run's checkpoints as files: each says itself whether it is whole, and loads without running code.

A line that names the format, a line with the SHA-256 of what follows, and what torch.save makes of a dict of tensors,
numbers, texts, lists and dicts.
"""

import contextlib
import hashlib
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import torch

from alphard.storage import Folder

State = dict[str, Any]
PLAIN = "tensors, numbers, texts, lists and dicts"

MARK = b"alphard checkpoint 1\n"
NAME = re.compile(r"step-[0-9]{12}\.ckpt")
BESIDE = re.compile(r"\.step-[0-9]{12}\.ckpt\..+")  # what a write leaves that was killed
KEPT = 2  # the last, and the one before it, should the last be torn


def dumps(state: State) -> bytes:
    """The file's content."""
    payload = io.BytesIO()
    torch.save(state, payload)
    digest = hashlib.sha256(payload.getbuffer()).hexdigest().encode()
    return b"".join((MARK, digest, b"\n", payload.getbuffer()))


def loads(content: bytes) -> State:
    """What `dumps` was given, on the CPU.  Raises ValueError, saying why, for what is no such file or not whole."""
    if not content.startswith(MARK):
        raise ValueError("is no checkpoint")
    digest, _, payload = content[len(MARK) :].partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise ValueError("is torn or corrupt: its checksum is not that of its content")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own, for what would run code
        raise ValueError(f"holds more than {PLAIN}, and is not loaded") from error
    if not isinstance(state, dict):
        raise ValueError("is no checkpoint")
    return state


def is_plain(part: Any) -> bool:
    """Whether it would load again."""
    try:
        loads(dumps({"part": part}))
    except Exception:  # pickle's own, or ours
        return False
    return True


class Store:
    """One run's checkpoints in a folder of their own: the last KEPT.

    last: the name of the last one that is whole, if there is one.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.last: str | None = None
        self.others: set[str] = set()  # they go when the next is there

    def newest(self, sound: Callable[[State], bool] = bool) -> State | None:
        """The newest whole one that is `sound`; a warning names each that is newer and is not."""
        names = self._names()
        self.others = set(names)
        for name in sorted(filter(NAME.fullmatch, names), reverse=True):
            try:
                state = loads(self.folder.read(name) or b"")
                if not sound(state):
                    raise ValueError("is no checkpoint of a run")
            except ValueError as error:
                warnings.warn(f"{self.folder.uri(name)} {error}; the one before it is used", stacklevel=2)
                continue
            self.last = name
            return state
        return None

    def add(self, step: int, content: bytes) -> None:
        """Write one, and then remove all but it and the one before.  Raises TrainingError where that fails."""
        name = f"step-{step:012}.ckpt"
        self.folder.write(name, content)
        if self.last not in (None, name):
            self.others.add(str(self.last))
        before, self.last = self.last, name
        for other in sorted(self.others - {before, name}):
            self.folder.remove(other)
        self.others &= {str(before), name}

    def clear(self) -> None:
        """Remove them all, and the folder if it is empty then.  Raises TrainingError where that fails."""
        for name in self._names():
            self.folder.remove(name)
        self.last, self.others = None, set()
        if self.folder.local is not None:
            with contextlib.suppress(OSError):
                self.folder.local.rmdir()

    def _names(self) -> list[str]:
        return [name for name in self.folder.names() if NAME.fullmatch(name) or BESIDE.fullmatch(name)]
