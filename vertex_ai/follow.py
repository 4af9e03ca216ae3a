"""A job of Vertex AI, followed to its end: its states, its trials as they finish, the best so far."""

import math
import sys
import time
from typing import Any

from alphard.errors import Interrupted, TrainingError
from vertex_ai.client import Client, Job
from vertex_ai.names import console_url, logs_url

# A job is over when its state is none of these, whatever states the service may learn.
UNFINISHED = {f"JOB_STATE_{state}" for state in ("QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING")}
TRIAL_ENDS = {"SUCCEEDED", "INFEASIBLE"}
LOOKS = 5  # at answers without a state, the last for good
LATE = 3  # more looks at a job that is over while trials of it seem to run, for the service may answer from a copy
Trial = dict[str, Any]


def follow(client: Client, name: str, *, pause: float = 1.0, longest: float = 20.0) -> int:
    """Show what happens to the job until it is over; the exit status, 0 for a job that succeeded.

    pause, longest: seconds between two looks; they grow while nothing happens.

    Ctrl-C, or a connection that stays lost, leaves the job running and says how to come back.
    """
    try:
        return _follow(client, name, pause, longest)
    except (Interrupted, TrainingError):
        print(come_back(name, client.endpoint), file=sys.stderr, flush=True)
        raise


def announce(name: str) -> None:
    """Print a job's name, and where it is to be seen."""
    print(f"{name}\nconsole: {console_url(name)}\nlogs:    {logs_url(name)}", flush=True)


def come_back(name: str, endpoint: str | None = None) -> str:
    """What to call for a job that runs on."""
    words = f"{name} endpoint={endpoint}" if endpoint else name
    lines = [
        "the job runs on, and costs what it costs:",
        f"  alphard wait {words}        # come back",
        f"  alphard results {words}     # what is there already",
        f"  alphard cancel {words}      # end it",
    ]
    return "\n".join(lines)


def is_over(job: Job) -> bool:
    """Whether nothing more will happen; an answer without a state does not say so."""
    return "state" in job and job["state"] not in UNFINISHED


def _follow(client: Client, name: str, pause: float, longest: float) -> int:
    shown = _Shown(_look(client, name, pause))
    rest, late = pause, 0
    while True:
        news = shown.look()
        if is_over(shown.job) and (late == LATE or not shown.running()):
            return _conclude(shown, name, client.endpoint)
        late += is_over(shown.job)
        rest = pause if news or late else min(rest * 1.3, longest)
        time.sleep(rest)
        shown.job = _look(client, name, pause)


def _look(client: Client, name: str, pause: float) -> Job:
    """The job as the service tells it.  Raises TrainingError where none of LOOKS answers has a state."""
    for number in range(LOOKS):
        job = client.get(name)
        if "state" in job:  # what is missing is none, or 0: unspecified
            return job
        if number < LOOKS - 1:
            time.sleep(pause * 2**number)
    where = client.endpoint or "the service's address"
    raise TrainingError(f"could not get {name}: the service's answers have no state; does a proxy answer at {where}?")


class _Shown:
    """A job, and what of it has been told."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state: Any = None
        self.ended: dict[str, Trial] = {}
        metrics = job.get("studySpec", {}).get("metrics", [{}])
        self.metric, self.maximize = metrics[0].get("metricId", ""), metrics[0].get("goal") != "MINIMIZE"

    def look(self) -> bool:
        """Tell what is new in the job; whether anything was."""
        news = self.job.get("state") != self.state
        if news and not is_over(self.job):
            print(words_of(self.job.get("state")), flush=True)
        self.state = self.job.get("state")
        # An answer may be older than the one before: a trial that has ended stays so.
        new = [one for one in self.job.get("trials", ()) if _has_ended(one) and one["id"] not in self.ended]
        for trial in sorted(new, key=lambda one: (one.get("endTime", ""), one["id"].zfill(9))):
            self.ended[trial["id"]] = trial
            self._tell(trial)
        self.ended |= {one["id"]: one for one in self.job.get("trials", ()) if self.value(one) is not None}
        return news or bool(new)

    def running(self) -> list[str]:
        """The trials that have not ended, as far as one knows."""
        return sorted({one["id"] for one in self.job.get("trials", ())} - {*self.ended}, key=lambda text: text.zfill(9))

    def value(self, trial: Trial) -> float | None:
        """The objective of a trial, None where it has none or it is no number."""
        for metric in trial.get("finalMeasurement", {}).get("metrics", ()):
            if metric.get("metricId") == self.metric and math.isfinite(number := float(metric.get("value", 0.0))):
                return number
        return None

    def best(self) -> tuple[float, Trial] | None:
        """The best value so far, and its trial; the first of equals."""
        found = [(value, one) for one in self.ended.values() if (value := self.value(one)) is not None]
        if not found:
            return None
        return (max if self.maximize else min)(found, key=lambda pair: pair[0])

    def _tell(self, trial: Trial) -> None:
        value, best = self.value(trial), self.best()
        measured = "" if value is None else f"  {self.metric} {value:.6f}"
        leading = f"  best {best[0]:.6f} (trial {best[1]['id']})" if best else ""
        why = f"  {' '.join(trial['infeasibleReason'].split())}" if trial.get("infeasibleReason") else ""
        place = f"[{len(self.ended)}/{self.job.get('maxTrialCount', '?')}]"
        state = words_of(trial.get("state"))
        print(f"{place} trial {trial['id']} {state}{measured}{leading}  {parameters(trial)}{why}", flush=True)


def words_of(state: Any) -> str:
    """A state in plain words; one that the client does not know is shown as it came."""
    return str(state or "unspecified").removeprefix("JOB_STATE_").replace("_", " ").lower()


def parameters(trial: Trial) -> str:
    """A trial's values on one line."""
    pairs = ((one["parameterId"], one.get("value")) for one in trial.get("parameters", ()))
    return "  ".join(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in pairs)


def _has_ended(trial: Trial) -> bool:
    return trial.get("state") in TRIAL_ENDS


def _conclude(shown: _Shown, name: str, endpoint: str | None) -> int:
    """The last words of a job that is over, and the exit status."""
    job, state = shown.job, shown.job.get("state")
    if left := shown.running():
        print(f"without an end when the job was over: trial {', '.join(left)}")
    if best := shown.best():
        print(f"best: trial {best[1]['id']}  {shown.metric} {best[0]:.6f}  {parameters(best[1])}")
    folder = (job.get("trialJobSpec") or job.get("jobSpec") or {}).get("baseOutputDirectory", {}).get("outputUriPrefix")
    if folder and "studySpec" not in job:
        print(f"artifacts: {folder}/model/")
    if folder or "studySpec" in job:
        print(f"next: alphard results {name}{f' endpoint={endpoint}' if endpoint else ''}")
    if state == "JOB_STATE_SUCCEEDED":
        print("succeeded", flush=True)
        return 0
    if state == "JOB_STATE_PARTIALLY_SUCCEEDED":
        print("partially succeeded: some results may be missing", flush=True)
        return 0
    sys.stdout.flush()
    known = isinstance(state, str)
    strange = "" if known else ", a state that is not known here; the console tells more"
    error = job.get("error", {})
    why = " ".join(f": {error.get('message', '')} (code {error.get('code', 0)})".split()) if error else ""
    print(
        f"error: the job ended: {words_of(state)}{strange}{why}\n  logs: {logs_url(name)}", file=sys.stderr, flush=True
    )
    return 1
