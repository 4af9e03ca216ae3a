"""Whether a rehearsed trial did all that the service relies on, and what the whole job will take."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alphard.fingerprint import fingerprint
from alphard.search.space import Categorical, Continuous
from vertex_ai import spec
from vertex_ai.job import Submission
from vertex_ai.played import CANCELLED, TIMEOUT, Attempt, Played, lines, measurements

FIELDS = {"timestamp", "trial", "global_step", "checkpoint_path"}  # of a metric line, besides the metric
MISSING = object()


@dataclass(frozen=True)
class Judged:
    """A run of the container, what is wrong with it, and the objective that it measured, of a search the best one's.

    A problem may have several lines.  trials: that it trained to their end.
    """

    played: Played
    problems: list[str]
    objective: float | None
    trials: int = 1

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def judge(played: Played, metric: str, expected: DictConfig) -> Judged:
    """Everything that is wrong with a trial that has ended; of one that failed, what it said last.

    expected: the config that a local search would train with these values.
    """
    measured = measurements(played.metric_file, metric)
    objective = measured[-1][1] if measured else None
    if problem := cut_short(played):
        return Judged(played, [problem], objective)
    folder = Path(played.folder) if played.folder else None
    problems = [*_metric_file(played, metric)]
    if folder is not None:
        problems += [*artifacts_of(folder, metric, objective, "AIP_MODEL_DIR", "was reported last")]
        problems += [*arrived(folder, expected, played.values())]
    return Judged(played, problems, objective)


def cut_short(played: Played) -> str | None:
    """Why a run did not come to its own end with exit status 0."""
    last = played.attempts[-1] if played.attempts else None
    if last is None or last.ended == CANCELLED:
        return "ended with the job, before its own end"
    if last.ended == TIMEOUT:
        return _said(f"still ran after {played.seconds:.0f} s, its timeout", last)
    if last.failed:
        which = f"{last.failed} " if len(last.logs) > 1 else ""
        return _said(f"{which}{ended_with(last.status)}", last)
    return None


def ended_with(status: int) -> str:
    """An exit status in words."""
    said = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{said}, as where memory runs out" if status in (-9, 137) else said


def expected(this: Submission, played: Played) -> DictConfig:
    """The config that a local run trains with the values that the trial was sent."""
    if not this.tuning:
        return this.config
    assert this.plan is not None, "a tuning job searches"
    space, configs = this.plan.space, this.plan.configs
    chosen: dict[str, Any] = {}
    reader = spec.Reader(space, configs, this.spec["workerPoolSpecs"][0]["containerSpec"]["args"])
    for key, value in played.values().items():
        dimension = space[key]
        if isinstance(dimension, Categorical):
            texts = {spec.text_of(dimension, choice, reader): choice for choice in dimension.choices}
            chosen[key] = texts[value] if isinstance(value, str) else dimension.text(value)
        else:
            chosen[key] = float(value) if isinstance(dimension, Continuous) else int(value)
    return configs.trial(space, chosen)


def causes(judged: Sequence[Judged]) -> list[tuple[str, list[str]]]:
    """Each problem once, as the first trial tells it, with the trials that have it; numbers in it may differ."""
    found: dict[str, tuple[str, list[str]]] = {}
    for one in judged:
        for problem in one.problems:
            found.setdefault(re.sub(r"\d+", "0", problem), (problem, []))[1].append(one.played.id)
    return list(found.values())


def reckoning(
    judged: Sequence[Judged], how: str, trials: int, parallel: int, machines: int, price: float | None
) -> str:
    """What the whole job will take, by the seconds of the sound trials; an upper bound it is not.

    how: the trials ran here.  machines: of each trial.  price: of one machine's hour.
    """
    one = "trial" if trials > 1 else "run"
    took = [each.played.seconds for each in judged if each.sound]
    each = sum(took) / len(took)
    most = f" ({min(took):.1f} to {max(took):.1f})" if len(took) > 1 else ""
    hours, busy = each * math.ceil(trials / parallel) / 3600, each * trials * machines / 3600
    said = f"measured here, {how}: {each:.1f} s a {one}{most}\n"
    counts = f"{trials} trials, {parallel} at a time" if trials > 1 else "1 run"
    counts += f", {machines} machines each" if machines > 1 else ""
    money = f", {busy * price:.2f} at {price:g} an hour" if price else ""
    machine_hours = in_hours(busy).replace("hours", "machine hours")
    said += f"the whole job: {counts}: about {in_hours(hours)}, {machine_hours}{money}\n"
    return said + f"and for each {one} the minutes that its machine takes to start"


def in_hours(hours: float) -> str:
    """A time as people say it, and never as none."""
    return f"{max(hours, 0.01):.2f} hours" if hours < 10 else f"{hours:.0f} hours"


def _said(how: str, last: Attempt) -> str:
    """How an attempt ended and what it said last, most of it in the first line."""
    first, *rest = last.last_words() or ["it said nothing"]
    return "\n".join([f"{how}: {first.removeprefix('error: ')}", *rest])


def _metric_file(played: Played, metric: str) -> Iterator[str]:
    told, measured = lines(played.metric_file), measurements(played.metric_file, metric)
    if not told:
        yield "wrote no metric file; Vertex AI reads the one that CLOUD_ML_HP_METRIC_FILE names, and not stdout"
        return
    if not measured:
        tags = sorted({name for line in told for name in line if name not in FIELDS})
        remedy = f"say objective={metric}, or search.objective={tags[0]}" if tags else "none is in it"
        yield f"the metric came as {', '.join(tags) or 'nothing'}, and the job asks for {metric}; {remedy}"
        return
    steps = [step for step, _ in measured]
    wrong = next(((a, b) for a, b in itertools.pairwise(steps) if b <= a), None)
    if wrong:
        yield f"{metric}: step {wrong[1]} was reported after step {wrong[0]}; steps increase and never repeat"
    if not math.isfinite(measured[-1][1]):
        yield f"{metric}: {measured[-1][1]} is no number to search by"
    if played.id and (others := sorted({str(line.get("trial")) for line in told} - {played.id})):
        yield f"the metric file speaks of trial {', '.join(others)}, and this is trial {played.id}"


def artifacts_of(folder: Path, metric: str, objective: float | None, name: str, told: str) -> Iterator[str]:
    """What a run's folder lacks, and where its metric is not the objective.

    name: of the folder.  told: how the objective is known.
    """
    from alphard import artifacts

    known = (artifacts.METRICS, artifacts.MODEL, artifacts.HISTORY, artifacts.LOG, artifacts.CONFIG)
    there = {name for name in known if (folder / name).is_file() and (folder / name).stat().st_size}
    if missing := [name for name in known if name not in there]:
        where = f"holds {', '.join(sorted(there))}" if there else "holds none of a run's artifacts"
        yield f"{', '.join(missing)} missing; {name} {where}"
    if artifacts.METRICS in there:
        try:
            kept = json.loads((folder / artifacts.METRICS).read_text()).get(metric)
        except (ValueError, AttributeError):
            yield f"{artifacts.METRICS} is no JSON"
            return
        if objective is not None and (kept is None or not math.isclose(kept, objective, rel_tol=1e-9)):
            yield f"{metric}: {objective} {told}, and {artifacts.METRICS} says {kept}"


def arrived(folder: Path, expected: DictConfig, sent: Mapping[str, Any]) -> Iterator[str]:
    """Where the config that was trained is not the one that these values mean."""
    from alphard import artifacts

    try:
        trained = fingerprint(OmegaConf.load(folder / artifacts.CONFIG))
    except FileNotFoundError:
        return  # said already
    meant = fingerprint(expected)
    if meant.get("threads") is None:  # a run writes how many it took
        trained.pop("threads", None)
    different = [key for key in {**meant, **trained} if meant.get(key, MISSING) != trained.get(key, MISSING)]
    different = [key for key in different if key != "threads" or meant.get(key) is not None]
    for key in sorted(different, key=lambda key: key not in sent)[:6]:
        was = f"{key}: {sent[key]} was sent" if key in sent else f"{key}: {meant.get(key)!r} here, by configs/"
        yield f"{was}, and the trial trained with {trained.get(key)!r}"
