"""What a run tells its loggers beyond what Lightning does: parameters, epochs, final scores, and how it ended."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from alphard import artifacts, signals
from alphard import mlflow_store as store
from alphard.errors import Interrupted, Pruned, UserError
from alphard.fingerprint import fingerprint
from alphard.history import STEP, History
from alphard.loggers import End, MLflow, TensorBoard
from alphard.storage import Folder

SCORED = ("validation_", "test_")


def params_of(config: DictConfig) -> dict[str, Any]:
    """Everything that trains, by config path, as config.yaml has it: no value of the environment is among it.

    A plain reference is left out, for what it refers to is there.
    """
    flat = fingerprint(config)
    return {path: value for path, value in flat.items() if not _refers(value, flat)}


def _refers(value: Any, flat: Mapping[str, Any]) -> bool:
    if not isinstance(value, str) or not (value.startswith("${") and value.endswith("}")):
        return False
    inner = value[2:-1]
    return inner in flat or any(path.startswith(f"{inner}.") for path in flat)


def final(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What loggers are told of the kept weights' scores."""
    return {f"final/{k}": v for k, v in metrics.items() if k.startswith(SCORED) and isinstance(v, float)}


class Tracking(pl.Callback):
    """Loggers see epochs, counted from 1 and the same for all batch sizes, where Lightning counts optimizer steps.

    loggers: by config path.
    params:  what is said of the run before its settings.
    logs:    where loggers write; what an earlier run left there goes when this one begins, unless it is `resumed`.

    What a model logs at each step keeps Lightning's own axis.
    """

    def __init__(
        self,
        config: DictConfig,
        loggers: Mapping[str, Logger],
        params: Mapping[str, Any],
        folder: Folder,
        logs: Path,
        history: History,
        resumed: bool = False,
    ) -> None:
        self.loggers, self.folder, self.history, self.resumed = loggers, folder, history, resumed
        self.params = params_of(config) | dict(params) if loggers else {}
        self.left = [path for path in logs.rglob("*") if path.is_file()] if loggers and not resumed else []
        self.opened: dict[str, MLflow | TensorBoard] = {}
        self.begun, self.kept_some, self.step, self.ended = False, False, 0, 0

    def __enter__(self) -> "Tracking":
        """Open what must be there before the first step; UserError where it cannot be."""
        try:
            for at, logger in self.loggers.items():
                if isinstance(logger, MLflow):
                    logger.open(at)
                    self.opened[at] = logger
        except UserError as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, Interrupted) and self.kept_some):
            return
        if isinstance(error, Pruned | Interrupted):
            state, said = ("pruned", None) if isinstance(error, Pruned) else ("killed", str(error))
        else:
            state, said = "failed", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        with signals.held():
            self.conclude(End(state, said, content=self._content()))

    def kept(self, metrics: Mapping[str, Any], stopped: Interrupted | None, epochs: int) -> None:
        """Tell what the kept weights score; all artifacts but metrics.json lie in the folder."""
        content = self._content() | {artifacts.METRICS: artifacts.metrics_json(metrics)}
        state = "killed" if stopped else "complete"
        self.conclude(End(state, str(stopped) if stopped else None, final(metrics), epochs, content))
        self.kept_some = True

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self.loggers:
            self.step = max(self.step + 1, trainer.current_epoch + 1)  # as the objective is reported
            self._at(pl_module, self.step)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing of the run was refused."""
        if trainer.is_global_zero:
            self.begin()

    def begin(self) -> None:
        """Tell the parameters, and the epochs that are there already."""
        for path in self.left:
            path.unlink(missing_ok=True)
        for at, logger in self.loggers.items():
            with _said_at(at):
                if isinstance(logger, TensorBoard):
                    logger.begin(self.params)
                    self.opened[at] = logger
                else:
                    logger.log_hyperparams(dict(self.params))
                self._replay(logger)
        self.begun = True
        self.ended = max(self.history.by_epoch, default=0)

    def _replay(self, logger: Logger) -> None:
        """Epochs that a logger has not heard of: trained elsewhere, or before the run was cut off, with which its own
        run ended.
        """
        for row in self.history.rows if isinstance(logger, MLflow) or not self.resumed else ():
            told = {k: v for k, v in row.items() if k.startswith(("train_", *SCORED))}
            logger.log_metrics(told, row["epoch"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended = trainer.current_epoch + 1
        if self.loggers:
            self._at(pl_module, max(self.step, trainer.current_epoch + 1))

    def conclude(self, end: End) -> None:
        """Tell how the run ended."""
        row = self.history.rows[-1] if self.history.rows else {"epoch": 0}
        # Lightning says what an epoch was trained with at its end, to which one that was cut short never came.
        cut = {k: v for k, v in row.items() if k.startswith("train_")} if row["epoch"] > self.ended else {}
        self.ended = row["epoch"]
        for at, logger in self.opened.items():
            try:
                if cut:
                    logger.log_metrics(cut, max(self.step, row["epoch"]))
                logger.conclude(end)
            except Exception as error:  # its library raises what it likes, and what was trained stands
                warnings.warn(f"{at}: cannot record how the run ended: {store.short(error)}", stacklevel=2)

    def _at(self, model: pl.LightningModule, step: int) -> None:
        model.log(STEP, torch.tensor(float(step)), sync_dist=True)  # Lightning's way to choose the axis

    def _content(self) -> dict[str, bytes]:
        """The artifacts that are there, for those who keep them; a run that never began has none of its own."""
        if not self.begun or not any(
            isinstance(logger, MLflow) and logger.artifacts for logger in self.opened.values()
        ):
            return {}
        names = [name for name in artifacts.ALL if name not in (artifacts.METRICS, artifacts.LOG)]
        return {name: content for name in names if (content := self.folder.read(name)) is not None}


@contextlib.contextmanager
def _said_at(at: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a library, or a user's own logger, raises what it likes
        raise UserError(f"{at}: {type(error).__name__}: {str(error).strip()}") from error
