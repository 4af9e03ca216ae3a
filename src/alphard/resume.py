"""A run that is interrupted goes on: when it saves, from what it goes on, and when it may not."""

import json
import math
import time
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import pytorch_lightning as pl
from omegaconf import DictConfig

from alphard import checkpoint, going_on, signals
from alphard.artifacts import AFTERWARDS
from alphard.checkpoint import State, Store
from alphard.errors import TrainingError, UserError
from alphard.fingerprint import changes, fingerprint, resolved_sha256
from alphard.references import short

Resume = Literal["auto", "never", "must"]

ANEW = "resume=never trains anew"
# Of a run's time, at most this part goes into checkpoints: a large model's are further apart than was asked for.
SHARE = 20.0


class Checkpoints(pl.Callback):
    """Stands first among the callbacks, and its `steps` last: what is saved is what no other has begun to change.

    seconds: at least so many between two checkpoints; 0 saves after each step, None never.
    rows:    a digest of the data's rows, or None for data of another kind; asked when it is needed.
    """

    def __init__(self, store: Store, config: DictConfig, asked: Resume, seconds: float | None) -> None:
        self.store, self.config, self.asked, self.seconds = store, config, asked, seconds
        self.state: State | None = None
        self.steps = _Steps(self)
        self.rows: Callable[[], int | None] = lambda: None
        self.saves = self.within = self.proven = False
        self.due = math.inf

    @cached_property
    def about(self) -> State:
        """What a checkpoint says of the run that wrote it."""
        told = json.dumps(fingerprint(self.config), sort_keys=True, default=str)
        resolved = resolved_sha256(self.config)
        return {"version": f"pytorch_lightning {going_on.LIGHTNING}", "config": told, "resolved": resolved}

    @cached_property
    def digest(self) -> int | None:
        """Of the data's rows."""
        return self.rows()

    def find(self, overwrite: bool) -> None:
        """Look for what an earlier process of this run has left; UserError where it may not go on from there."""
        if overwrite and self.asked == "must":
            raise UserError("resume: must: beside overwrite=true, which trains anew; give one of them")
        if overwrite or self.asked == "never":
            return
        self.state = state = self.store.newest(_is_of_a_run)
        if state is None:
            if self.asked == "must":
                said = f"{self.store.folder.path} holds no whole checkpoint to go on from"
                raise UserError(f"resume: must: {said}; resume=auto begins where there is none")
            return
        at = self._at
        if state.get("version") != self.about["version"]:
            raise UserError(f"{at} was written by {state.get('version')}, and this is {self.about['version']}; {ANEW}")
        if difference := self._difference(state):
            remedy = "name another folder, or overwrite=true"
            raise UserError(f"{at} is of another config's run ({difference}); {remedy}")
        if state["resolved"] != self.about["resolved"]:
            raise UserError(f"{at} is of a run with other values behind its ${{oc.env:…}}; {ANEW}")

    @property
    def _at(self) -> str:
        """The checkpoint that the run goes on from, for an error."""
        where = self.store.folder
        return f"{where.at}: {where.uri(str(self.store.last))}"

    def leave_none(self) -> None:
        """Where the run is finished, what a process left that was killed between its last two lines goes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = self.store.newest(_is_of_a_run)
        if state is not None and not self._difference(state):
            self.store.clear()

    def _difference(self, state: State) -> str:
        there, here = (json.loads(each["config"]) for each in (state, self.about))
        return changes(there, here, but=AFTERWARDS)

    def must_fit_rows(self) -> None:
        """Raise UserError where the rows are not those of the checkpoint."""
        if self.state is not None and self.state["rows"] != self.digest:
            where = f"{self.store.folder.uri(str(self.store.last))}"
            raise UserError(f"data: the rows have changed since {where} was written; {ANEW}")

    def said(self) -> str:
        """Where the run goes on, for its log."""
        assert self.state is not None, "a run that goes on"
        place = f"epoch {self.state['epoch'] + 1}, step {self.state['global_step']}"
        return f"resumed at {place}, from {self.store.folder.uri(str(self.store.last))}"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:  # the first process has looked
            self.state = trainer.strategy.broadcast(self.state)
        if self.state is None:
            return
        if self.state["ranks"] != trainer.world_size:
            said = f"was written by {self.state['ranks']} processes, and these are {trainer.world_size}"
            raise UserError(f"{self._at} {said}; {ANEW}")
        self._fitting(going_on.put_back, trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.state is not None:
            self._fitting(going_on.position, trainer, pl_module)
            self.state = None
        if self.seconds is None:
            return
        if type(trainer.strategy) not in going_on.STRATEGIES:
            name = type(trainer.strategy).__name__
            said = f"trainer.strategy: no checkpoints are written with {name}; killed, the run begins anew"
            warnings.warn(said, stacklevel=2)
            return
        self.saves = True
        self.within = going_on.exact_within(trainer, pl_module)
        self.due = time.monotonic() + self.seconds
        signals.defer(self.within)

    def _fitting(self, step: Callable[..., None], trainer: pl.Trainer, model: pl.LightningModule) -> None:
        """A step of going on; UserError where the state does not fit."""
        try:
            step(trainer, model, self.state)
        except Exception as error:  # torch's, Lightning's and every callback's own
            raise UserError(f"{self._at} does not fit this run: {short(error)}; {ANEW}") from error

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.saves:
            return
        due = trainer.current_epoch > 0 and self._is_due() and not going_on.averages(trainer, within=False)
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)
        if due:
            self._save(trainer, pl_module, within=False)
        signals.leave()

    def step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: int) -> None:
        """A step is done, and all other callbacks have taken note."""
        if not self.within or not self._is_due() or going_on.averages(trainer, within=True):
            return
        if going_on.between_steps(trainer, batch):
            self._save(trainer, pl_module, within=True)
            signals.leave()

    def _is_due(self) -> bool:
        return time.monotonic() >= self.due or signals.waiting()

    def _save(self, trainer: pl.Trainer, model: pl.LightningModule, within: bool) -> None:
        began = time.monotonic()
        state = going_on.collect(trainer, model, within)
        written = self._write(state) if trainer.is_global_zero else True
        now = time.monotonic()
        if self.due < math.inf:
            # A store that does not take one has been asked for a while, and a run has other things to do.
            self.due = now + (max(self.seconds or 0.0, SHARE * (now - began)) if self.seconds or not written else 0.0)

    def _write(self, state: State) -> bool:
        """Write it; False where that fails, which is said."""
        state = self.about | state | {"rows": self.digest}
        if not self.proven and not checkpoint.is_plain(state):
            self._give_up(state)
            return True
        self.proven = True
        try:
            self.store.add(state["global_step"], checkpoint.dumps(state))
        except TrainingError as error:
            print(f"{error}; tried again with the next checkpoint", flush=True)
            return False
        return True

    def _give_up(self, state: State) -> None:
        self.due, self.within = math.inf, False
        signals.defer(False)
        parts = {name: part for name, part in state.items() if name != "callbacks"} | state["callbacks"]
        which = ", ".join(name for name, part in parts.items() if not checkpoint.is_plain(part))
        said = f"checkpoints: {which} keeps more than {checkpoint.PLAIN}; none are written, and killed, it begins anew"
        warnings.warn(said, stacklevel=2)


def _is_of_a_run(state: State) -> bool:
    kinds = {"version": str, "config": str, "resolved": str, "epoch": int, "global_step": int, "ranks": int}
    kinds |= {"within": bool, "random": list, "metrics": dict, "loops": dict, "callbacks": dict}
    if "rows" not in state or not all(isinstance(state.get(name), kind) for name, kind in kinds.items()):
        return False
    try:
        return isinstance(json.loads(state["config"]), dict)
    except ValueError:
        return False


class _Steps(pl.Callback):
    """Tells the checkpoints of each step, after every other callback."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.checkpoints.step(trainer, pl_module, batch_idx)
