"""A study in MLflow: an experiment, a run of its own, and below it a run a trial.

Only here, before the first trial, are the store's tables and the experiment made, so that no two workers make them.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from alphard import mlflow_store as store
from alphard import signals
from alphard.errors import Interrupted
from alphard.mlflow_store import Place
from alphard.search import results
from alphard.search.space import Space
from alphard.search.study import Study

if TYPE_CHECKING:
    from mlflow import MlflowClient

ATTRIBUTE = "mlflow run"  # the study knows its run, wherever its folder moves and whoever goes on with it
FILES = ("trials.csv", "report.html", results.ABOUT)


class Tracked:
    """The study's run, where the config has a logger for MLflow; else nothing.

    said: its parameters.

    Raises UserError, when it is made, where the store cannot be used.
    """

    def __init__(
        self, base: DictConfig, folder: Path, storage: str | None, space: Space, said: Mapping[str, Any]
    ) -> None:
        self.folder, self.storage, self.space, self.said = folder, storage, space, said
        self.node, self.at = _node(base)
        self.client: MlflowClient | None = None
        self.experiment = self.run = ""
        if self.node:
            self.client = store.client_of(self.node.get("tracking_uri"), self.at)

    def __enter__(self) -> "Tracked":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.run:
            return
        with signals.held():
            state = "complete" if error is None else "killed" if isinstance(error, Interrupted) else "failed"
            try:
                self._settle()
                if error is None:
                    self._found()
                assert self.client is not None
                store.end(self.client, self.run, state, str(error) if error else None)
            except Exception as lost:  # MLflow, SQLAlchemy and the network raise what they like
                print(f"{self.at}: cannot record how the search ended: {store.short(lost)}", flush=True)

    def open(self, study: Study) -> None:
        """Begin the study's run, or go on with it."""
        if self.client is None or self.run:
            return
        name = experiment_of(self.node, self.folder)
        self.experiment = store.experiment_of(self.client, name, self.at, self.node.get("artifact_location"))
        with study.alone():
            known = _known(self.client, study.study.user_attrs.get(ATTRIBUTE))
            if known is None:
                tags = {"mlflow.runName": self.node.get("run_name") or self.folder.name}
                tags |= {"alphard.study": str(self.folder.absolute()), "mlflow.source.name": "train.py"}
                known = self.client.create_run(self.experiment, tags=(self.node.get("tags") or {}) | tags).info.run_id
                store.log_params(self.client, known, self.said)
                study.study.set_user_attr(ATTRIBUTE, known)
            else:
                self.client.update_run(known, "RUNNING")
            self.run = known

    def place(self, number: int, chosen: Mapping[str, Any]) -> Place:
        """Where a trial's run stands, for all loggers; `chosen` is said of it first."""
        tags = {store.PARENT: self.run, store.TRIAL: str(number), "mlflow.source.name": "train.py"}
        return Place(experiment_of(self.node, self.folder), f"trial {number}", tags, self.space.values(chosen))

    def _settle(self) -> None:
        """Say of trials what their own processes could not: they were ended, or have ended without a run."""
        assert self.client is not None
        there: dict[str, list[Any]] = {}
        for run in store.runs_below(self.client, self.experiment, self.run):
            there.setdefault(run.data.tags.get(store.TRIAL, ""), []).append(run)
        for trial in results.load(self.folder, self.storage)[1]:
            runs = there.get(str(trial.number), [])
            open_ = [run for run in runs if run.info.status == "RUNNING"]
            error = trial.user_attrs.get("error")
            ended = trial.state.is_finished()
            if ended and not any(run.info.status != "KILLED" for run in runs):
                open_ = [self._made(trial)]
            if trial.state == TrialState.RUNNING and not trial.user_attrs.get(results.INTERRUPTED):
                continue  # another process trains it
            for run in open_:
                if ended:
                    self._tell(run.info.run_id, trial)
                store.end(self.client, run.info.run_id, results.STATES[trial.state] if ended else "killed", error)

    def _made(self, trial: FrozenTrial) -> Any:
        """A run for a trial that failed before it had one, or whose process ended first."""
        assert self.client is not None
        place = self.place(trial.number, trial.params)
        return self.client.create_run(self.experiment, tags={**place.tags, "mlflow.runName": place.name})

    def _tell(self, run: str, trial: FrozenTrial) -> None:
        """Tell a run what the study knows of its trial and its own process had not told yet."""
        assert self.client is not None
        store.log_params(self.client, run, self.space.values(trial.params))
        known = [*trial.intermediate_values.items()]
        final = [(0, trial.value)] if trial.value is not None and trial.state == TrialState.COMPLETE else []
        prefix = f"{self.node['prefix']}-" if self.node.get("prefix") else ""
        for kind, values in (("", known), ("final/", final)):
            name = store.key_of(f"{prefix}{kind}{self.said['search.objective']}")
            there = {point.step for point in self.client.get_metric_history(run, name)}
            for step, value in values:
                if step not in there and not (kind and there):
                    self.client.log_metric(run, name, value, step=step)

    def _found(self) -> None:
        """The best trial, and the study's files."""
        assert self.client is not None
        said, rows, _ = results.rows(self.folder, self.storage)
        objective = said["search"]["objective"]
        if rows and rows[0]["state"] == "complete":
            best = rows[0]
            self.client.log_metric(self.run, store.key_of(f"best/{objective}"), best[objective])
            self.client.set_tag(self.run, "alphard.best.trial", str(best["trial"]))
            for name, value in best.items():
                if name not in results.OTHERS and name != objective and value is not None:
                    self.client.set_tag(self.run, store.key_of(f"alphard.best.{name}"), store.text_of(value))
        for name in FILES:
            if (path := self.folder / name).is_file():
                self.client.log_artifact(self.run, str(path))


def place_of_retrain(config: DictConfig, folder: Path) -> Place | None:
    """Where the run of a winner on another seed stands: in its study's experiment, below its run; no trial."""
    node, at = _node(config)
    if not node:
        return None
    client = store.client_of(node.get("tracking_uri"), at)
    parent = _known(client, results.attributes(folder).get(ATTRIBUTE))
    return Place(experiment_of(node, folder), f"retrain seed {config.seed}", {store.PARENT: parent} if parent else {})


def experiment_of(node: Mapping[str, Any], folder: Path) -> str:
    """The experiment's name: the user's own, or the study's."""
    return node.get("experiment_name") or folder.name


def _node(config: DictConfig) -> tuple[dict[str, Any], str]:
    """The config's first logger for MLflow, its references resolved, and its config path."""
    for name, node in config.logger.items():
        if node.get("_target_") == store.LOGGER:
            found: Any = OmegaConf.to_container(node, resolve=True)
            return found, f"logger.{name}"
    return {}, ""


def _known(client: "MlflowClient", run: str | None) -> str | None:
    """The run, if this store has it."""
    from mlflow.exceptions import MlflowException

    try:
        return run if run and client.get_run(run).info.lifecycle_stage == "active" else None
    except MlflowException:  # another store, or deleted for good
        return None
