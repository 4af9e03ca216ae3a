"""A trial as it was played: its words, its attempts, what it measured, and how the service tells of it."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Parameter = dict[str, Any]  # parameterId, and value: a float, or the text of a CATEGORICAL
CANCELLED, TIMEOUT = "cancelled", "timeout"
KINDS = ("doubleValueSpec", "integerValueSpec", "discreteValueSpec", "categoricalValueSpec")
SHOWN = 12  # lines
STEPS = 2**63  # the service's stepCount is an int64


@dataclass(frozen=True)
class Attempt:
    """One start of a trial's processes, in the folders of those before.

    statuses: each replica's exit status, as -9 where a signal ended it; the first replica's comes first.
    seconds:  from the start to the end of the last process.
    logs:     each replica's stdout and stderr.
    ended:    why we ended it, CANCELLED or TIMEOUT; an empty text where it ended by itself.
    """

    statuses: Mapping[str, int]
    seconds: float
    logs: Mapping[str, Path]
    ended: str = ""

    @property
    def failed(self) -> str | None:
        """The replica that ended the attempt with an error, or None."""
        return next((name for name, status in self.statuses.items() if status), None)

    @property
    def status(self) -> int:
        """The exit status that the service would see; 0 only where all went well."""
        return self.statuses[self.failed] if self.failed else 0

    def last_words(self) -> list[str]:
        """What the log of the replica that failed, or of the first, tells of its end."""
        return last_words(self.logs[self.failed or next(iter(self.logs))])


@dataclass
class Played:
    """One trial, or a custom job's only run, whose id is an empty text.

    words:  the parameters as they were appended to the job's arguments.
    folder: its AIP_MODEL_DIR, None where the job has no base folder.
    files:  where its metric file and logs lie.
    """

    id: str
    parameters: list[Parameter]
    words: list[str]
    folder: str | None
    files: Path
    state: str = "REQUESTED"
    began: datetime | None = None
    ended: datetime | None = None
    attempts: list[Attempt] = field(default_factory=list)
    measured: dict[str, Any] | None = None
    reason: str = ""

    @property
    def metric_file(self) -> Path:
        """What CLOUD_ML_HP_METRIC_FILE names."""
        return self.files / "output.metrics"

    @property
    def seconds(self) -> float:
        """Of all attempts together."""
        return sum(attempt.seconds for attempt in self.attempts)

    def values(self) -> dict[str, Any]:
        """The parameters by their ids."""
        return {one["parameterId"]: one["value"] for one in self.parameters}

    def conclude(self, metric: str | None) -> None:
        """Read the final measurement and say how the trial ended: without one, or not with 0, it is INFEASIBLE.

        metric: None for a custom job, which is asked for none.
        """
        last = self.attempts[-1] if self.attempts else None
        final = measurements(self.metric_file, metric)[-1:] if metric else []
        if last is None or last.ended == CANCELLED:
            self.reason = "the job was ended before the trial"
        elif last.ended == TIMEOUT:
            self.reason = "the trial ran longer than its timeout"
        elif last.failed:
            self.reason = f"The replica {last.failed} exited with a non-zero status of {last.status}."
        elif metric and not final:
            self.reason = f"the trial reported no measurement of {metric}"
        elif metric and not math.isfinite(final[0][1]):
            self.reason = f"the trial's last measurement of {metric} is {final[0][1]}, no finite number"
        elif metric:
            step, value = final[0]
            self.measured = {"stepCount": str(step), "metrics": [{"metricId": metric, "value": value}]}
        self.state = "INFEASIBLE" if self.reason else "SUCCEEDED"

    def rest(self) -> dict[str, Any]:
        """The trial as the REST API gives it."""
        told: dict[str, Any] = {
            "id": self.id,
            "state": self.state,
            "parameters": [dict(one) for one in self.parameters],
        }
        told |= {"startTime": stamp(self.began)} if self.began else {}
        told |= {"endTime": stamp(self.ended)} if self.ended else {}
        told |= {"finalMeasurement": self.measured} if self.measured else {}
        return told | ({"infeasibleReason": self.reason} if self.reason else {})


def words(parameters: Sequence[Parameter], kinds: Mapping[str, str], number: int) -> list[str]:
    """A trial's parameters as arguments, in each of the ways that the service may write them, by the trial's number.

    kinds: of each parameter, one of KINDS.

    Odd numbers have `--key=value`, even ones `--key value`.  Numbers 1, 4, 5, 8, … have whole numbers as `64` and
    doubles as Python writes them; 2, 3, 6, 7, … have `64.0` and an exponent, with all 17 digits.
    """
    found: list[str] = []
    for one in parameters:
        key, text = one["parameterId"], _text(one["value"], kinds[one["parameterId"]], bool(number // 2 % 2))
        found += [f"--{key}={text}"] if number % 2 else [f"--{key}", text]
    return found


def _text(value: Any, kind: str, long: bool) -> str:
    if kind == "categoricalValueSpec":
        return str(value)
    number = float(value)
    if kind != "doubleValueSpec" and number.is_integer():
        return repr(number) if long else str(int(number))
    return f"{number:.16e}" if long else repr(number)


def lines(metric_file: Path) -> list[dict[str, str]]:
    """The JSON objects of a metric file; a line that cannot be read, or a file that is not there, is none."""
    try:
        written = metric_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in written:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        found += [told] if isinstance(told, dict) else []
    return found


def measurements(metric_file: Path, metric: str) -> list[tuple[int, float]]:
    """Step and value of each line under this tag, in their order; a line whose numbers are too large is none."""
    found = []
    for told in lines(metric_file):
        try:
            step, value = int(told["global_step"]), float(told[metric])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        found += [(step, value)] if abs(step) < STEPS else []
    return found


def last_words(log: Path) -> list[str]:
    """The lines of a log that tell why it ended: from its last `error:` or exception on, else the last three."""
    try:
        said = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return []
    told = re.compile(r"\s*(error:|convert_command\.sh:|\S*(Error|Exception|Interrupt):)")
    at = max((number for number, line in enumerate(said) if told.match(line)), default=len(said) - 3)
    return said[max(at, 0) :][:SHOWN]


def stamp(moment: datetime | None = None) -> str:
    """A moment, or now, in UTC as the REST API writes it."""
    return (moment or datetime.now(UTC)).isoformat(timespec="microseconds").replace("+00:00", "Z")
