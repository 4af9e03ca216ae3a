"""Trials of one kind that train as one stacked model.  Shapes: K trials, B rows, F features, C classes."""

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alphard.data import TableData
from alphard.objective import diverged
from alphard.packs.graphs import Launcher
from alphard.packs.layers import filled, whole
from alphard.packs.loss import cross_entropy, gradient, targets, weighed
from alphard.packs.member import VALIDATED, Member
from alphard.packs.noise import noise_of
from alphard.packs.optimizer import KINDS, Columns
from alphard.packs.serving import Serving
from alphard.packs.stack import Stack

State = dict[str, Any]  # plain: tensors, numbers, texts, lists and dicts
ROWS = 512  # of a validation step; a constant, for sums over other chunks have other last bits
LEAST = 2  # nets of a stack; one alone is another arithmetic


@dataclass
class Left:
    """What a member has come to.

    weights:     of the model as a run keeps them, best or last: its state_dict, on the CPU.
    best_epoch, stopped_epoch: counted from 1; 0 is none.
    value:       the objective with these weights, among all `metrics`.
    """

    member: Member
    weights: dict[str, Tensor]
    best_epoch: int
    stopped_epoch: int
    value: float
    metrics: dict[str, float]


class Pack:
    """Members of one kind; `epoch` trains and validates them all.

    failed: why, by number, of those whose last epoch diverged.
    done:   those whose last epoch ended them: their epochs are over, or they stopped early.

    Both stay until they `leave`.
    """

    def __init__(self, data: TableData, device: torch.device, most: int, dtype: torch.dtype = torch.float32) -> None:
        self.data, self.device, self.most, self.dtype = data, device, most, dtype
        splits = data.splits
        # Copies, for they begin on a cache line whatever made the rows.
        self.rows, self.held_out = (
            (torch.tensor(t.X, dtype=dtype, device=device), torch.tensor(t.y, device=device))
            for t in (splits.train, splits.validation)
        )
        self.counts = torch.bincount(self.held_out[1], minlength=len(splits.classes))  # (C,)
        self.there = self.counts.nonzero().flatten()  # the classes that are held out at all
        self.members: list[Member] = []  # by row
        self.stack: Stack | None = None
        self.failed: dict[int, str] = {}
        self.done: set[int] = set()
        self.launch = Launcher()

    def join(self, member: Member, state: State | None = None) -> None:
        """Take a member in, at an epoch's start.  state: goes on from there."""
        assert len(self.members) < self.most, "the pack is full"
        if self.stack is None:
            self.kind, self.rule = member.kind, KINDS[member.rule]
            self.stack = Stack(member.net, self.rule.states, self.device, self.dtype)
        assert member.kind == self.kind, "members of another kind do not stack"
        row = len(self.members)
        if row + LEAST > self.stack.room:  # with an empty row at the end, for what vectorised loops leave over
            self.stack.make_room(min(max(2 * self.stack.room, LEAST), self.most + 1) if row else LEAST)
        self.stack.put(row, member.net)
        if member.best and member.best.restore:
            self._keep_best_too()
        self.members.append(member)
        if state is not None:
            member.go_on(state["member"])
            for name, table in state["tables"].items():
                if name in self.stack.tables:
                    self.stack.tables[name][row] = table.to(self.device)

    def epoch(self) -> dict[int, float]:
        """Train all members for an epoch and validate them; the objective by number, of those that did not diverge."""
        began = time.perf_counter()
        assert self.stack is not None
        self.stack.clear(len(self.members))
        rates = [float(m.optimizer.param_groups[0]["lr"]) for m in self.members]
        trained = self.train()
        found = self.validate()
        names = ("train_loss", *VALIDATED)
        rows = torch.stack([trained, *found], 1)[: len(self.members)].tolist()
        seconds = round((time.perf_counter() - began) / len(self.members), 6)
        self.failed, self.done = {}, set()
        better, values = [], {}
        for row, member in enumerate(self.members):
            metrics = dict(zip(names, rows[row], strict=True))
            epoch = len(member.history) + 1
            member.history.append({"epoch": epoch, **metrics, "learning_rate": rates[row], "seconds": seconds})
            why = diverged(metrics, member.objective, epoch)
            if why is not None:
                self.failed[member.number] = why
                continue
            values[member.number] = metrics[member.objective]
            if member.best and member.best.improved(metrics[member.best.monitor], epoch) and member.best.restore:
                better.append(row)
            stops = member.stopping is not None and member.stopping.stops(metrics[member.stopping.monitor])
            if stops or epoch >= member.epochs:
                self.done.add(member.number)
            if member.scheduler is not None:
                _step(member.scheduler, metrics["validation_loss"])
        self._keep_best(better)
        return values

    def leave(self, *numbers: int) -> dict[int, Left]:
        """Take members out; others take their rows."""
        assert self.stack is not None
        left = {}
        for number in numbers:
            row = next(row for row, member in enumerate(self.members) if member.number == number)
            left[number] = self._left(row)
            last = len(self.members) - 1
            if row != last:
                self.stack.move(last, row)
                self.members[row] = self.members[last]
            self.members.pop()
        return left

    def states(self) -> dict[int, State]:
        """What each member needs to go on, by number."""
        assert self.stack is not None
        tables = {name: table for name, table in self.stack.tables.items() if name not in ("gradient", "spare")}
        own = {name: table[: len(self.members)].to("cpu") for name, table in tables.items()}
        return {
            member.number: {
                "tables": {name: table[row].clone() for name, table in own.items()},
                "member": member.state(),
            }
            for row, member in enumerate(self.members)
        }

    @torch.no_grad()
    def train(self, most: int | None = None) -> Tensor:
        """An epoch of steps, or its first `most`; the mean loss of each (K,)."""
        assert self.stack is not None
        stack, k = self.stack, len(self.members) + 1
        serving = Serving(self.members, *self.rows)
        weights, gradients, spare = (stack.tables[name][:k] for name in ("weights", "gradient", "spare"))
        gradients.zero_()  # also what fills up, where not every net writes
        states = {name: stack.tables[name][:k] for name in self.rule.states}
        by = self._columns(len(serving.batches), weights)
        noise = noise_of(self.members, stack.dropouts, serving.groups, serving.place, weights)
        of_loss = self._of_loss(k)
        nets, total = stack.nets(k), weights.new_zeros(k)

        def step(given: Mapping[str, Tensor]) -> Tensor:
            """The loss of each (K,), from x (1 or K, B', F), y (1 or K, B) and the rest."""
            nets.rows = given["y"].shape[1]
            nets.noise = {name: given[name].expand(k, *given[name].shape[1:]) for name in noisy}
            goals = weighed(self._targets(given["y"]), given.get("smoothing"), given.get("class weights"))
            z, back = stack.logits(nets, given["x"].expand(k, -1, -1), len(self.counts))
            log = z.log_softmax(1)
            back(gradient(log, goals))
            self.rule.step(weights, gradients, states, {name: given[f"by {name}"] for name in by[0]}, spare)
            return cross_entropy(log, goals)

        for rows, columns in itertools.islice(zip(serving.batches, by, strict=True), most):
            x, y = serving.served(rows)
            noisy = noise(y.shape[1])
            given = {"x": filled(x, 1), "y": y, **noisy, **of_loss, **{f"by {name}": c for name, c in columns.items()}}
            total += self.launch(step, given, stack.tables.values()) * y.shape[1]
        for member in self.members:
            member.steps += len(serving.batches)
        return total / len(self.rows[1])

    @torch.no_grad()
    def validate(self) -> tuple[Tensor, Tensor, Tensor]:
        """validation_loss, validation_accuracy and validation_balanced_accuracy, each (K,)."""
        assert self.stack is not None
        stack, k, (X, y) = self.stack, len(self.members) + 1, self.held_out
        nets = stack.nets(k)
        nets.training = False
        loss, right = X.new_zeros(k), X.new_zeros(k, len(self.counts))
        for start in range(0, len(y), ROWS):
            rows, labels = X[start : start + ROWS], y[start : start + ROWS]
            nets.rows = len(labels)
            z, _ = stack.logits(nets, filled(rows, 0).expand(k, -1, -1), len(self.counts))
            loss += cross_entropy(z.log_softmax(1), self._targets(labels)) * len(labels)
            hits = (z.argmax(1)[:, : len(labels)] == labels).to(X.dtype)  # (K, B)
            right.index_add_(1, labels, hits)  # whole numbers, in whatever order
        recall = right[:, self.there] / self.counts[self.there]
        return loss / len(y), right.sum(1) / len(y), recall.mean(1)

    def _targets(self, y: Tensor) -> Tensor:
        return targets(y, len(self.counts), whole(y.shape[-1]), self.rows[0])

    def _columns(self, steps: int, like: Tensor) -> list[Columns]:
        groups = [m.optimizer.param_groups[0] for m in self.members]
        idle = dict(groups[0]) | {"lr": 0.0, "weight_decay": 0.0}
        return self.rule.columns([*groups, idle], [*(m.steps for m in self.members), 0], steps, like)

    def _of_loss(self, k: int) -> dict[str, Tensor]:
        """What losses choose, where any does: smoothing (K,), class weights (K, C)."""
        made = {"dtype": self.dtype, "device": self.device}
        chosen = {}
        if any(m.smoothing for m in self.members):
            chosen["smoothing"] = torch.tensor([*(m.smoothing for m in self.members), 0.0], **made)  # type: ignore[arg-type]
        if weights := [m.class_weights for m in self.members if m.class_weights is not None]:
            chosen["class weights"] = torch.stack([*weights, weights[0]]).to(**made)  # type: ignore[call-overload]
        return chosen

    def _keep_best_too(self) -> None:
        assert self.stack is not None
        for name in [name for name in self.stack.tables if name == "weights" or name.startswith("buffer ")]:
            self.stack.add_table(f"best {name}", name)

    def _keep_best(self, rows: list[int]) -> None:
        if rows:
            assert self.stack is not None
            at = torch.tensor(rows, device=self.device)
            for name, table in self.stack.tables.items():
                if name.startswith("best "):
                    table[at] = self.stack.tables[name.removeprefix("best ")][at]

    def _left(self, row: int) -> Left:
        assert self.stack is not None
        member = self.members[row]
        best = member.best
        back = best is not None and best.restore and best.epoch > 0
        kept = self.stack.state_dict(row, "best " if back else "")
        weights = {f"net.{name}": tensor for name, tensor in kept.items()}
        losses = [line["validation_loss"] for line in member.history]
        epoch = best.epoch if best else losses.index(min(losses)) + 1 if losses else 0
        line: Mapping[str, float] = {}
        if member.history:
            line = member.history[epoch - 1 if back else -1]
        metrics = {name: line.get(name, math.nan) for name in VALIDATED}
        return Left(member, weights, epoch, len(member.history), metrics[member.objective], metrics)


def _step(scheduler: Any, loss: float) -> None:
    scheduler.step(*([loss] if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
