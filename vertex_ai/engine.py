"""A job as the service would run it, each trial as real processes here: for `alphard rehearse`, and for tests."""

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alphard import signals
from vertex_ai.attempt import Start, replicas
from vertex_ai.places import Place
from vertex_ai.played import CANCELLED, Attempt, Played, words
from vertex_ai.suggestions import Suggestions

RESTARTS = 5  # of a worker that ends with an error
GRACE = 10.0  # seconds between SIGTERM and SIGKILL
INVALID, ABORTED, CANCELLED_CODE = 3, 10, 1  # google.rpc.Code
Tell = Callable[[Played], None]


class Engine:
    """Runs one job, a tuning job or a custom job in the REST API's form, to its end.

    base:     takes the place of the job's base output folder, local or a URL; None keeps the job's own.
    place:    where processes run; see places.py.
    work:     a local folder for each trial's metric file and logs: work/<trial>/output.metrics, attempt-1.log, …
    parallel: at most so many trials at a time, whatever the job says.
    timeout:  seconds of a trial, its attempts together; at most the job's own.
    restarts: of a trial that ends with an error, unless the job's scheduling says disableRetries.
    alike:    after so many attempts of the job that ended in the same words, such a trial is not restarted.
    seed:     of the suggestions.
    grace:    seconds between SIGTERM and SIGKILL.
    began, ended: called with a trial, in the thread of `run`.

    `state` is JOB_STATE_…, `error` {code, message} or None, `trials` the trials as REST gives them (none for a custom
    job), `played` the same with all details, a custom job's run among them.  All may be read from any thread.

    The service restarts one worker of several; here all replicas of a trial are started again together.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        base: str | None,
        place: Place,
        work: Path,
        *,
        parallel: int | None = None,
        timeout: float | None = None,
        restarts: int = RESTARTS,
        alike: int | None = None,
        seed: int = 0,
        grace: float = GRACE,
        began: Tell = lambda _: None,
        ended: Tell = lambda _: None,
    ) -> None:
        self.job, self.place, self.work = job, place, work.absolute()
        self.suggestions = Suggestions(job["studySpec"], seed) if "studySpec" in job else None
        self.spec: Mapping[str, Any] = job["trialJobSpec" if self.suggestions else "jobSpec"]
        own = self.spec.get("baseOutputDirectory", {}).get("outputUriPrefix")
        self.base = str(base or own or "").rstrip("/") or None
        scheduling = self.spec.get("scheduling", {})
        limits = [timeout, seconds(scheduling["timeout"]) if "timeout" in scheduling else None]
        self.timeout = min((limit for limit in limits if limit is not None), default=None)
        self.restarts = 0 if scheduling.get("disableRetries") else restarts
        self.alike, self.grace, self.began, self.ended = alike, grace, began, ended
        self.count = int(job["maxTrialCount"]) if self.suggestions else 1
        most = int(job.get("parallelTrialCount") or 1)
        self.parallel = most if parallel is None else min(most, parallel)
        self.state = "JOB_STATE_PENDING"
        self.error: dict[str, Any] | None = None
        self._lock = threading.RLock()  # of what follows
        self._played: list[Played] = []
        self._starts: set[Start] = set()
        self._endings: list[tuple[str, ...]] = []
        self._cancelled = threading.Event()
        self._ends: queue.SimpleQueue[tuple[Played, BaseException | None] | None] = queue.SimpleQueue()

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The trials so far, as the REST API gives them; those of a custom job are none."""
        with self._lock:
            return [played.rest() for played in self._played] if self.suggestions else []

    @property
    def played(self) -> list[Played]:
        """What was begun so far, in the order of its beginning."""
        with self._lock:
            return list(self._played)

    def run(self) -> str:
        """Run the job; returns its final state.  An exception that arrives meanwhile ends all processes first."""
        threads: dict[str, threading.Thread] = {}
        self._now("JOB_STATE_RUNNING")
        try:
            while self._begin(threads) or threads:
                if end := self._ends.get():
                    played, error = end
                    threads.pop(played.id).join()
                    self._tell(played)
                    if error:
                        raise error
        except BaseException:
            with signals.held():
                self.cancel()
                for thread in threads.values():
                    if thread.is_alive():  # the signal may have come before its start
                        thread.join()
                for played in self.played:
                    if played.ended is None:
                        self._conclude(played)
                self._now(*self._final())
            raise
        self._now(*self._final())
        return self.state

    def cancel(self) -> None:
        """End the job soon, from any thread; `run` returns when no process is left."""
        with self._lock:
            if self.state in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
                self._cancelled.set()
                self._now("JOB_STATE_CANCELLING")
            self._stop()

    def _stop(self) -> None:
        for played in self._played:
            if played.state == "ACTIVE":
                played.state = "STOPPING"
        for start in self._starts:
            start.cancel()
        self._ends.put(None)

    def _now(self, state: str, error: dict[str, Any] | None = None) -> None:
        with self._lock:
            if state != "JOB_STATE_RUNNING" or self.state == "JOB_STATE_PENDING":  # it may be cancelled already
                self.state, self.error = state, error

    def _begin(self, threads: dict[str, threading.Thread]) -> bool:
        """Begin trials until `parallel` run; whether one was begun."""
        before = len(self._played)
        while len(threads) < self.parallel and len(self._played) < self.count and not self._ending():
            played = self._next()
            if played is None:
                self.count = len(self._played)  # the grid is at its end
                break
            played.files.mkdir(parents=True, exist_ok=True)
            played.state, played.began = "ACTIVE", datetime.now(UTC)
            with self._lock:
                if self._cancelled.is_set():  # since it was looked at; `cancel` would not know of this trial
                    break
                self._played.append(played)
            self.began(played)
            threads[played.id] = threading.Thread(target=self._play, args=(played,), name=f"trial {played.id}")
            threads[played.id].start()
        return len(self._played) > before

    def _ending(self) -> bool:
        return self._cancelled.is_set() or self._too_many()

    def _next(self) -> Played | None:
        number = len(self._played) + 1
        name = str(number) if self.suggestions else ""
        parameters = self.suggestions.ask(name) if self.suggestions else []
        if parameters is None:
            return None
        said = words(parameters, self.suggestions.kinds(), number) if self.suggestions else []
        folder = self.base and "/".join((self.base, *([name] if name else []), "model"))
        return Played(name, parameters, said, folder, self.work / name)

    def _play(self, played: Played) -> None:
        """Every attempt of a trial, in a thread of its own."""
        error: BaseException | None = None
        try:
            until = None if self.timeout is None else time.monotonic() + self.timeout
            for number in range(1, self.restarts + 2):
                start = Start(self.place, replicas(self.spec, played, self.base), played.files, number, self.grace)
                with self._lock:
                    if played.state == "STOPPING":
                        break
                    self._starts.add(start)
                attempt = start.run(until)
                with self._lock:
                    self._starts.discard(start)
                    played.attempts.append(attempt)
                if not attempt.failed or attempt.ended or self._hopeless(attempt):
                    break
        except BaseException as raised:  # handed to `run`
            error = raised
        self._ends.put((played, error))

    def _hopeless(self, attempt: Attempt) -> bool:
        """Whether attempts of this job ended in these words often enough; numbers in them may differ."""
        if self.alike is None:
            return False
        ending = (str(attempt.status), *(re.sub(r"\d+", "0", line) for line in attempt.last_words()))
        with self._lock:
            self._endings.append(ending)
            return self._endings.count(ending) >= self.alike

    def _tell(self, played: Played) -> None:
        self._conclude(played)
        if self.suggestions:
            measured = played.measured
            self.suggestions.tell(played.id, measured["metrics"][0]["value"] if measured else None)
        self.ended(played)
        if self._too_many():  # the others have no use any more
            with self._lock:
                self._stop()

    def _conclude(self, played: Played) -> None:
        with self._lock:
            played.ended = datetime.now(UTC)
            played.conclude(self.suggestions.metric if self.suggestions else None)

    def _too_many(self) -> bool:
        """Whether more trials failed than the job admits."""
        failed = [played for played in self._played if played.ended and _failed(played)]
        return self.suggestions is not None and len(failed) > int(self.job.get("maxFailedTrialCount") or 0)

    def _final(self) -> tuple[str, dict[str, Any] | None]:
        if self._cancelled.is_set():
            return "JOB_STATE_CANCELLED", {"code": CANCELLED_CODE, "message": "the job was cancelled"}
        failed = [played for played in self._played if _failed(played)]
        if self._too_many():
            said = f"{len(failed)} trials failed, more than maxFailedTrialCount; the last said: {failed[-1].reason}"
            return "JOB_STATE_FAILED", {"code": ABORTED, "message": said}
        if failed and not self.suggestions:
            return "JOB_STATE_FAILED", {"code": INVALID, "message": failed[0].reason}
        return "JOB_STATE_SUCCEEDED", None


def _failed(played: Played) -> bool:
    return bool(played.reason and played.attempts) and played.attempts[-1].ended != CANCELLED


def seconds(duration: str | float) -> float:
    """A duration as REST writes it, `3600s`."""
    return float(str(duration).removesuffix("s"))
