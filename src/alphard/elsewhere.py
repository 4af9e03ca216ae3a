"""The artifacts of a training that happened elsewhere: in a pack, of which this run was a member."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from alphard import locking
from alphard.objective import Reporter
from alphard.quiet import quiet
from alphard.run import environment_kept
from alphard.storage import Folder
from alphard.training import Training


class Elsewhere(Training):
    """A run's parts, with weights that they did not train."""

    tracked = False

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
) -> None:
    """Leave in the folder `home` what `run` would have left there of a trial, had it trained it.

    weights:    of the whole model, as its state_dict has them.
    rows:       of eval_history.csv.
    best_epoch: from 1; 0 where no epoch counts as the best.
    logged:     what the model logs at validation with these weights.
    """
    OmegaConf.update(config, "threads", torch.get_num_threads(), force_add=True)
    folder = Folder(home)
    assert folder.local is not None, "a study is a folder on a disk"
    with environment_kept(), quiet(), locking.alone_in(folder), contextlib.redirect_stdout(io.StringIO()):
        parts = Elsewhere(config, folder, Path(folder.local), Reporter(config.objective, True), lean=True)
        parts.keep(weights, rows, best_epoch, logged)
