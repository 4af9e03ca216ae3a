"""The artifacts of a training that happened elsewhere, in a pack of which this run was a member; and its loggers."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from torch import Tensor

from alphard import build, locking
from alphard.history import History
from alphard.loggers import End, MLflow, TensorBoard
from alphard.mlflow_store import Place
from alphard.objective import Reporter
from alphard.quiet import quiet
from alphard.run import environment_kept
from alphard.storage import Folder
from alphard.tracking import Tracking
from alphard.training import Training


class Elsewhere(Training):
    """A run's parts, with weights that they did not train."""

    def loggers(self, there: Path, place: Place | None) -> dict[str, Logger]:
        """None: `tell` does it, whose failure costs no trial."""
        return {}

    def keep(
        self,
        weights: Mapping[str, Tensor],
        rows: Sequence[Mapping[str, Any]],
        best_epoch: int,
        logged: Mapping[str, float],
    ) -> dict[str, Any]:
        """Write every artifact, metrics.json last; returns what it holds."""
        self.model.load_state_dict(dict(weights))
        self.history.load_state_dict({"rows": rows, "began": None})
        if self.best is not None:
            self.best.epoch = best_epoch
        with self.log:
            self.begin()
            for row in rows:
                said = {name: value for name, value in row.items() if name.startswith("validation_")}
                print(f"epoch: {row['epoch']}", *(f"{name}: {value:.6f}" for name, value in said.items()), sep="\n")
            return self._conclude(dict(logged), {}, {}, None)


def keep(
    config: DictConfig,
    home: str,
    weights: Mapping[str, Tensor],
    rows: Sequence[Mapping[str, Any]],
    best_epoch: int,
    logged: Mapping[str, float],
) -> dict[str, Any]:
    """Leave in the folder `home` what `run` would have left there of a trial, had it trained it.

    weights:    of the whole model, as its state_dict has them.
    rows:       of eval_history.csv.
    best_epoch: from 1; 0 where no epoch counts as the best.
    logged:     what the model logs at validation with these weights.

    Returns what metrics.json holds.
    """
    OmegaConf.update(config, "threads", torch.get_num_threads(), force_add=True)
    folder = Folder(home)
    assert folder.local is not None, "a study is a folder on a disk"
    with environment_kept(), quiet(), locking.alone_in(folder), contextlib.redirect_stdout(io.StringIO()):
        parts = Elsewhere(config, folder, Path(folder.local), Reporter(config.objective, True), lean=True)
        return parts.keep(weights, rows, best_epoch, logged)


def tell(
    config: DictConfig,
    home: str,
    place: Place | None,
    rows: Sequence[Mapping[str, Any]],
    end: End,
    kept: Mapping[str, Any] | None = None,
) -> None:
    """Tell a trial's loggers, at its end, what `run` would have told them.

    rows: of eval_history.csv.
    kept: what metrics.json in the folder `home` holds; None where the trial keeps no folder, and loggers that write
          into it are told nothing.

    Raises what a logger's library does.
    """
    folder, there = Folder(home), Path(home, "logs")
    with quiet():
        loggers = build.loggers_of(config, there, place)
        if kept is None:
            loggers = {at: logger for at, logger in loggers.items() if not _inside(logger, there)}
        if not loggers:
            return
        history = History()
        history.load_state_dict({"rows": rows, "began": None})
        tracking = Tracking(config, loggers, place.params if place else {}, folder, there, history)
        with tracking:
            tracking.begin()
            if kept is not None:
                tracking.kept(kept, None, len(rows))
            else:
                tracking.conclude(end)
        for logger in loggers.values():
            if not isinstance(logger, MLflow | TensorBoard):
                logger.finalize("failed" if end.state == "failed" else "success")


def _inside(logger: Logger, there: Path) -> bool:
    return logger.save_dir is not None and Path(logger.save_dir).absolute().is_relative_to(there.absolute())
