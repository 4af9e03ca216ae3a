"""How a trial of a job ended: its state, value and error, by what the service tells of it and by what it left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from alphard.errors import UserError
from alphard.storage import Folder
from vertex_ai.follow import is_over, words_of
from vertex_ai.left import CONFIG, Left, Trained
from vertex_ai.reading import Read

RUNNING = {"REQUESTED": TrialState.WAITING}  # one of another name that has not ended runs
ABOUT = ("stopped_epoch", "best_epoch", "val_rows")
Ended = tuple[TrialState, float | None, str | None]


@dataclass
class Trial:
    """One trial of a study.

    number: from 0; Vertex AI's is one more.
    chosen: each dimension's value as a tuner says it.
    about:  what a table shows of it besides.
    """

    number: int
    left: Left
    state: TrialState = TrialState.FAIL
    value: float | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


@dataclass
class Judge:
    """Judges a job's trials.

    job:     in the REST API's form.
    base:    its folder.
    trained: reads a trial's values from its config; None where the service tells them all.
    """

    job: dict[str, Any]
    base: Folder
    read: Read
    trained: Trained | None

    def trial(self, id: int, told: Mapping[str, Any] | None, left: Left) -> Trial:
        """Trial `id` as Vertex AI counts them, from 1."""
        trial = Trial(id - 1, left)
        try:
            trial.chosen = self._chosen(told, left)
            state, value, error = self._of_folder(id, left) if told is None else self._of_service(told, left)
        except UserError as problem:
            state, value, error = TrialState.FAIL, None, str(problem)
        trial.state, trial.value = state, value
        metrics = left.metrics()
        counts = {name: said for name in ABOUT if type(said := metrics.get(name)) is int and said >= 0}
        about = counts | {"seconds": left.seconds(), "error": error}
        trial.about = {name: said for name, said in about.items() if said is not None}
        return trial

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The complete trial with the best value; the earliest of equals."""
        sign = -1 if self.read.direction == "maximize" else 1
        done = [(sign * trial.value, trial.number, trial) for trial in trials if trial.value is not None]
        return min(done)[2] if done else None

    def _chosen(self, told: Mapping[str, Any] | None, left: Left) -> dict[str, Any]:
        if told is not None:
            return self.read.chosen({one["parameterId"]: one.get("value") for one in told.get("parameters", ())})
        return self.trained.chosen(left.texts[CONFIG]) if self.trained and CONFIG in left.texts else {}

    def _of_service(self, told: Mapping[str, Any], left: Left) -> Ended:
        state, objective = told.get("state"), self.read.objective
        if state == "INFEASIBLE":
            reasons = [told.get("infeasibleReason"), left.error() or self._nothing(told["id"], left)]
            return TrialState.FAIL, None, ": ".join(["infeasible", *filter(None, reasons)])
        if state != "SUCCEEDED":
            if not is_over(self.job):
                return RUNNING.get(str(state), TrialState.RUNNING), None, None
            return TrialState.FAIL, None, f"{words_of(state)} when the job ended, {words_of(self.job.get('state'))}"
        # What is 0 is left out of the service's answers.
        metrics = told.get("finalMeasurement", {}).get("metrics", ())
        measured = next((float(m.get("value", 0)) for m in metrics if m.get("metricId") == objective), None)
        if nothing := self._nothing(told["id"], left):
            known = "" if measured is None else f"; Vertex AI has {objective} {measured:.6f} of it"
            return TrialState.FAIL, None, f"{nothing}{known}"
        own = left.value(objective)
        value = measured if own is None else own
        if value is None:
            return TrialState.FAIL, None, f"no final measurement of {objective}"
        return TrialState.COMPLETE, value, None

    def _of_folder(self, id: int, left: Left) -> Ended:
        metrics, value, error = left.metrics(), left.value(self.read.objective), left.error()
        if metrics.get("stopped_by"):
            error = f"stopped by {metrics['stopped_by']}"
        elif metrics and value is None:
            error = f"its metrics.json has no {self.read.objective}"
        elif metrics:
            return TrialState.COMPLETE, value, None
        error = self._nothing(id, left) or error
        return TrialState.FAIL if error else TrialState.RUNNING, None, error

    def _nothing(self, id: int | str, left: Left) -> str | None:
        return None if left.texts else f"left nothing in {self.base.uri(f'{id}/model')}"
