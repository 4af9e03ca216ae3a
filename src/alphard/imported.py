"""Imports without the garbage collector, which finds nothing in them and takes a fifth of their time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """What is imported here stays: nobody looks through it again, neither in training nor when the process ends."""
    before, collecting = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
        if len(sys.modules) > before:
            gc.freeze()
    finally:
        if collecting:
            gc.enable()
