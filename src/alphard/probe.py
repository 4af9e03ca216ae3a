"""What a run would be refused for, found out before its first step, with nothing written."""

import contextlib
from pathlib import Path

from pytorch_lightning.loggers import Logger

from alphard.mlflow_store import Place
from alphard.training import Training


class Probe(Training):
    """A training that ends where it would begin, its folder untouched."""

    class _Reached(BaseException):
        pass

    def loggers(self, there: Path, place: Place | None) -> dict[str, Logger]:
        """Made, for they may be refused; none hears of it."""
        super().loggers(there, place)
        return {}

    def begin(self) -> None:
        raise self._Reached

    def probe(self) -> None:
        """Raise whatever this training would before its first step."""
        with contextlib.suppress(self._Reached):
            self._fit()
