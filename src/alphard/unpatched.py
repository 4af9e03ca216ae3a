"""Imports torchmetrics without scipy.signal, which it loads, for half a second, only to put an old name back into it.

Imported before Lightning; without this file and its name in run.py a run starts that much later.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

NAME = "scipy.signal"


class _Waiting(ModuleType):
    """Stands for scipy.signal until somebody asks for more of it than that old name."""

    hamming = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # asked of every module, by whoever looks through them all
            raise AttributeError(name)
        _put_away(self)
        return getattr(importlib.import_module(NAME), name)


def _put_away(waiting: ModuleType) -> None:
    if sys.modules.get(NAME) is waiting:
        del sys.modules[NAME]
    scipy = vars(sys.modules["scipy"])
    if scipy.get("signal") is waiting:
        del scipy["signal"]


def _import_torchmetrics() -> None:
    if NAME in sys.modules or "torchmetrics" in sys.modules:
        return
    importlib.import_module("scipy")
    waiting = sys.modules[NAME] = _Waiting(NAME)
    try:
        importlib.import_module("torchmetrics")
    finally:
        _put_away(waiting)


_import_torchmetrics()
