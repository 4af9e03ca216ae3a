"""Settings for a table of some size and balance, to start from.  Shapes: N rows, C classes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alphard.data import Csv
from alphard.data.table import Array
from alphard.errors import UserError

FEW = 1_000  # rows; of fewer, a test split would say little and take much
ENOUGH = 100_000  # rows of validation or test; the noise of an accuracy is then below 0.002
DOMINANT = 0.75  # share of the largest class; always saying it would look good
SMALL, LARGE = 64, 4096  # rows in a batch


@dataclass
class Advice:
    """What suits the rows.

    rows:    of training, validation and, where there is one, test.
    counts:  (C,) rows of each class.
    seconds: that training takes at most on two cores, reading included.
    """

    validation_fraction: float
    test_fraction: float
    rows: list[int]
    counts: list[int]
    batch_size: int
    epochs: int
    patience: int
    seconds: float

    @property
    def largest(self) -> int:
        """The class with the most rows."""
        return int(np.argmax(self.counts))

    @property
    def majority(self) -> float:
        """The accuracy of always saying the largest class."""
        return max(self.counts) / sum(self.counts)

    @property
    def balanced(self) -> bool:
        """Whether an accuracy says how good a model is."""
        return self.majority < DOMINANT


def advise(y: Array, names: list[str], features: int) -> tuple[Advice, Array]:
    """Settings, and the numbers of the training rows; UserError where the classes are too small for any split.

    features: about how many there will be.
    """
    for validation, test in _fractions(len(y)):
        split = Csv(path="", target="", validation_fraction=validation, test_fraction=test)
        try:
            parts = split.divide(y, names)
        except UserError as error:
            problem = error
            continue
        train = len(parts[0])
        batch = 2 ** round(np.log2(np.clip(train / 200, SMALL, LARGE)))
        epochs, patience = (60, 10) if train < 5_000 else (40, 8) if train < 100_000 else (12, 3)
        step = 1e-3 + batch * (features + 64) * 1.3e-8  # seconds
        seconds = 8 + len(y) * (features + 20) * 1e-7 + epochs * train / batch * step
        counts = np.bincount(y, minlength=len(names)).tolist()
        rows = [len(part) for part in parts]
        return Advice(validation, test, rows, counts, batch, epochs, patience, seconds), parts[0]
    raise problem


def _fractions(rows: int) -> Iterator[tuple[float, float]]:
    """Shares of validation and test, the best first; small classes may rule out the first."""
    share = 0.2 if rows * 0.2 <= ENOUGH else max(0.001, float(f"{ENOUGH / rows:.2g}"))
    if rows >= FEW:
        yield share, share
    yield share, 0.0
