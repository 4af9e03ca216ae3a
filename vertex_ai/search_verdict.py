"""Whether a rehearsed search, which one container ran whole, left its study and its best trial, and what all will take.

Such a job has no metric file: its study says what the trials measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from alphard.errors import UserError
from alphard.search import results
from alphard.search.checking import place
from alphard.search.plan import Plan
from alphard.search.storages import FINISHED
from vertex_ai import verdict, whole_search
from vertex_ai.played import Played
from vertex_ai.verdict import Judged


def judge(played: Played, plan: Plan, asked: int) -> Judged:
    """Everything that is wrong with a search that has ended; of one that failed, what it said last.

    plan:  what the best trial's config is held against.
    asked: trials of the study.
    """
    if problem := verdict.cut_short(played):
        return Judged(played, [problem], None)
    assert played.folder is not None, "a rehearsal's job has a folder"
    folder = Path(played.folder)
    if not (folder / results.ABOUT).is_file():
        there = ", ".join(sorted(path.name for path in folder.glob("*"))) or "nothing"
        return Judged(played, [f"{results.ABOUT} missing; AIP_MODEL_DIR holds {there}, and no study"], None)
    try:
        said, trials = results.load(folder)
        problems = [*_another(said, plan)]
    except UserError as error:
        return Judged(played, [*error.problems], None)
    finished = [trial for trial in trials if trial.state in FINISHED]
    best = results.best_of(results.ranked(finished, plan.settings.direction))
    problems += [*_counted(finished, plan, asked)]
    if best is None:
        return Judged(played, [*problems, "the study has no complete trial, and so no best one"], None, len(finished))
    if not problems:
        problems = [*_of_best(folder / "trials" / str(best.number), best, plan)]
    return Judged(played, problems, best.value, len(finished))


def _another(said: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """Where the study searched something else, as one of an image that is older than the configs does."""
    node, settings, space = said["search"], plan.settings, results.space_of(said)
    if (node["direction"], node["objective"]) != (settings.direction, settings.objective):
        theirs, ours = f"{node['direction']} {node['objective']}", f"{settings.direction} {settings.objective}"
        yield f"search.objective: the study is to {theirs}, and by configs/ here to {ours}"
    there, here = ({each.key: each for each in searched} for searched in (space, plan.space))
    for dimension in whole_search.others(space, plan.space):
        theirs = str(there.get(dimension.key, "nothing of it"))
        yield f"{place(dimension)}: {dimension} here, by configs/, and the study has {theirs}"
    for key in there.keys() - here.keys():
        yield f"{place(there[key])}: {there[key]} in the study, and nothing of it here, by configs/"


def _counted(finished: Sequence[FrozenTrial], plan: Plan, asked: int) -> Iterator[str]:
    if len(finished) != asked and plan.settings.time_budget is None:
        yield f"the study has {len(finished)} trials that ended, and {asked} were asked for"
    for trial in finished:
        if trial.state == TrialState.FAIL:
            yield f"trial {trial.number} failed: {trial.user_attrs.get('error', 'it said nothing')}"


def _of_best(folder: Path, best: FrozenTrial, plan: Plan) -> Iterator[str]:
    metric, name = plan.settings.objective, f"{folder.parent.name}/{folder.name}, the best trial's folder,"
    yield from verdict.artifacts_of(folder, metric, best.value, name, "is the best trial's value in the study")
    expected = plan.configs.trial(plan.space, best.params)
    yield from verdict.arrived(folder, expected, plan.space.values(best.params))


def reckoning(it: Judged, how: str, trials: int, timeout: float, price: float | None) -> str:
    """What the whole search may take, by the seconds of the one that was rehearsed.

    No more is promised than that its time grows with its trials at most: packs of more trials take less for each.

    how: it ran here.  timeout: hours.  price: of an hour.
    """
    times = max(1.0, trials / it.trials)
    hours = it.played.seconds * times / 3600
    money = f", {hours * price:.2f} at {price:g} an hour" if price else ""
    said = f"measured here, {how}: {it.played.seconds:.1f} s for {it.trials} trials\n"
    bound = f"at most {times:.4g} times that where all are like these, {verdict.in_hours(hours)}{money}"
    said += f"the whole job: 1 run of {trials} trials in packs: {bound}\n"
    if hours > timeout:
        said += f"more than its timeout={timeout:g}; rehearse more trials, for fuller packs take less for each\n"
    return said + "and the minutes that its machine takes to start"
