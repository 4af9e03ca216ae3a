"""One trial of a pack: what it was made with, and what it has found."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from alphard.packs.stopping import Best, Stopping

VALIDATED = ("validation_loss", "validation_accuracy", "validation_balanced_accuracy")


@dataclass
class Member:
    """A trial: initial weights, its own choices, and what it has found so far.

    number:    the trial's.
    order:     the seed of its batches' order; `seed` is that of weights and dropout.
    optimizer: over `net`, never stepped: with `scheduler` it tells what the pack's optimizer does.
    kind:      members of equal kind can be stacked.
    parts:     what `kind` is made of, by config path where it has one.
    shapes:    of a row at each dropout of `net`.
    steps:     that it has behind it.
    history:   rows as eval_history.csv has them.
    """

    number: int
    seed: int
    order: int
    epochs: int
    objective: str
    batch_size: int | None
    net: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | ReduceLROnPlateau | None
    smoothing: float
    class_weights: Tensor | None
    stopping: Stopping | None
    best: Best | None
    kind: str
    parts: dict[str, str]
    rule: str
    shapes: dict[str, torch.Size]
    steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """For a checkpoint, beside what the pack holds of it."""
        return {
            "steps": self.steps,
            "group": {n: v for n, v in self.optimizer.param_groups[0].items() if n != "params"},
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "stopping": self.stopping.state() if self.stopping else None,
            "best": self.best.state() if self.best else None,
            "history": [dict(row) for row in self.history],
        }

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up what `state` told."""
        self.steps = state["steps"]
        self.optimizer.param_groups[0].update(state["group"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.stopping:
            self.stopping.go_on(state["stopping"])
        if self.best:
            self.best.go_on(state["best"])
        self.history[:] = [dict(row) for row in state["history"]]
