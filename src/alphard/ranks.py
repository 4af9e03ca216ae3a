"""Which of several processes this is.  Imported before Lightning, which reads these variables as it is imported."""

import os

from alphard.errors import UserError

NAMES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def local() -> int:
    """This process's place among those that Lightning started on this machine; 0 where it started none."""
    return _number("LOCAL_RANK") or 0


def must_be_numbers() -> None:
    """Raise UserError where one is set to what is no number; one that is set to nothing is unset."""
    for name in NAMES:
        if _number(name) is None:
            os.environ.pop(name, None)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if text and not (text.isascii() and text.isdigit()):
        raise UserError(f"{name}: {text!r}: is no whole number; unset it, Lightning sets it for its own processes")
    return int(text) if text else None


must_be_numbers()
