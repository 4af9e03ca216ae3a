"""Lightning's loggers for MLflow and TensorBoard, that also tell a run's parameters, its end and its artifacts."""

import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger

from alphard import mlflow_store as store
from alphard.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import Metric

# A metric of its own costs SQLite 3 ms, which is a third of a small epoch; forty together cost as much as four.
EVERY, AFTER_FAILURE = 2.0, 60.0  # seconds
AT_ONCE = 1000  # metrics in one call, MLflow's own limit


@dataclass(frozen=True)
class End:
    """How a run ended.

    state:   complete, pruned, killed or failed.
    metrics: what the kept weights score, known at epoch `step`.
    content: the artifacts, by name.
    """

    state: str
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    content: Mapping[str, bytes] = field(default_factory=dict)


class MLflow(MLFlowLogger):
    """A run in MLflow: parameters, metrics by epoch, the artifacts, and how it ended.

    experiment_name: null is `alphard`, and in a search the study's name.
    run_name:        null is one that MLflow makes up, and in a search the trial's.
    tracking_uri:    a database or a server.
    artifacts:       keep a copy of the run's artifacts with MLflow.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: dict[str, Any] | None = None,
        artifacts: bool = True,
        artifact_location: str | None = None,
        prefix: str = "",
        log_model: bool = False,
    ) -> None:
        experiment_name = experiment_name or "alphard"
        store.client_of(tracking_uri, "logger.mlflow")  # before Lightning's own client, which waits minutes for it
        super().__init__(experiment_name, run_name, tracking_uri, tags, None, log_model, prefix, artifact_location)
        self.experiment_name, self.tracking_uri, self.artifacts = experiment_name, tracking_uri, artifacts
        self.artifact_location = artifact_location
        self.prefix = f"{prefix}{self.LOGGER_JOIN_CHAR}" if prefix else ""
        self.waiting: list[Metric] = []
        self.due = time.monotonic() + EVERY

    def open(self, at: str) -> None:
        """Begin the run.  An earlier attempt at the same trial is marked as killed.

        Raises UserError at config path `at` where the store cannot be used.
        """
        client = store.client_of(self.tracking_uri, at)
        experiment = store.experiment_of(client, self.experiment_name, at, self.artifact_location)
        parent, trial = ((self.tags or {}).get(name) for name in (store.PARENT, store.TRIAL))
        if parent and trial:
            for run in store.runs_below(client, experiment, parent, trial):
                if run.info.status != "KILLED":
                    store.end(client, run.info.run_id, "killed")
        assert self.run_id, "Lightning begins a run when it is asked for its id"

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        given = params if isinstance(params, Mapping) else vars(params)
        assert self.run_id is not None
        store.log_params(self.experiment, self.run_id, given)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in metrics.items():
            if not isinstance(value, str):
                self.waiting.append(Metric(store.key_of(f"{self.prefix}{name}"), float(value), now, step or 0))
        if time.monotonic() >= self.due:
            self.flush()

    def flush(self) -> None:
        """Send the metrics that wait.  Where that fails they wait on, and the training does not end for it."""
        self.due = time.monotonic() + EVERY
        try:
            while self.waiting:
                self.experiment.log_batch(self.run_id, metrics=self.waiting[:AT_ONCE])
                del self.waiting[:AT_ONCE]
        except Exception as error:  # MLflow, SQLAlchemy and the network raise what they like
            self.due = time.monotonic() + AFTER_FAILURE
            said = f"MLflow: metrics cannot be recorded, and are kept for later: {store.short(error)}"
            warnings.warn(said, stacklevel=2)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        # Lightning's word for the end of a fit; the run goes on until its artifacts are there.
        self.flush()
        super().finalize("RUNNING")

    def conclude(self, end: End) -> None:
        """Tell how the run ended."""
        assert self.run_id is not None
        self.log_metrics(end.metrics, end.step)
        self.flush()
        if self.artifacts and end.content:
            with tempfile.TemporaryDirectory(prefix="alphard-") as scratch:
                for name, content in end.content.items():
                    path = Path(scratch, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self.experiment.log_artifacts(self.run_id, scratch)
        store.end(self.experiment, self.run_id, end.state, end.error)


class TensorBoard(TensorBoardLogger):
    """Event files that TensorBoard's HParams tab shows too: a session a run, its parameters, and how it ended.

    save_dir: null is logs/ in the output folder.

    No experiment is written, so that the tab collects parameters and metrics from all runs below --logdir: those that
    exist only with some choice are columns as well.
    """

    def __init__(
        self,
        save_dir: str | None = None,
        name: str = "tensorboard",
        version: str | int | None = "",
        default_hp_metric: bool = False,
        log_graph: bool = False,
        prefix: str = "",
        sub_dir: str | None = None,
        **writer: Any,
    ) -> None:
        if save_dir is None:
            raise UserError("save_dir: null: outside of a run there is no output folder; name one")
        super().__init__(save_dir, name, version, log_graph, default_hp_metric, prefix, sub_dir, **writer)
        self.begun = False

    @rank_zero_only
    def begin(self, params: Mapping[str, Any]) -> None:
        """Begin a session with these parameters."""
        from torch.utils.tensorboard.summary import hparams

        self.log_hyperparams(dict(params))
        kept = {
            name: value if isinstance(value, int | float) else store.text_of(value) for name, value in params.items()
        }
        _, session, _ = hparams(kept, {})  # type: ignore[no-untyped-call]  # torch has not annotated it
        self._add(session)
        self.begun = True

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self.begun:
            self.save()  # Lightning's word for the end of a fit; more is to come
        else:
            super().finalize(status)

    def conclude(self, end: End) -> None:
        """Tell how the run ended."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        well = end.state in ("complete", "pruned")
        if end.metrics:
            self.log_metrics(dict(end.metrics), end.step)
        status = api_pb2.STATUS_SUCCESS if well else api_pb2.STATUS_FAILURE
        about = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
        told = metadata.create_summary_metadata(about)
        self._add(Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=told)]))
        super().finalize("success")

    def _add(self, summary: Any) -> None:
        self.experiment._get_file_writer().add_summary(summary)  # as Lightning's own log_hyperparams does
