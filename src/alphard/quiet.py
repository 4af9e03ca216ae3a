"""Lightning's tips are silent; its warnings that matter are not."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alphard.errors import masked

# Each says what a table in memory makes untrue, or what a user cannot change.
TIPS = (
    ".*does not have many workers.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",  # torch's own deprecation, called by Lightning
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*Trying to infer the `batch_size`.*",
    ".*No positive samples in targets.*",
    ".*No negative samples in targets.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the tips while a run lasts."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    before = warnings.formatwarning
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.formatwarning = _one_line
        for message in TIPS:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        finally:
            warnings.formatwarning = before
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as a line; where it comes from is said of other people's code."""
    place = "" if Path(__file__).parent in Path(filename).parents else f" ({filename}:{lineno})"
    return f"warning: {masked(str(message))}{place}\n"
