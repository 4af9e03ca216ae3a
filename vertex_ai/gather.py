"""A job of Vertex AI as a study: a folder like a local search's, with its trials' values, states and artifacts.

Its journal is written anew each time, so that a job may be gathered while it runs, and again.
"""

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import TrialState

from alphard import arguments, guard
from alphard.compose import Refusals, first_line
from alphard.errors import UserError
from alphard.lookup import here
from alphard.search import results
from alphard.search.configs import Configs, group_choices
from alphard.search.journal import Journal
from alphard.search.optuna_seam import distribution
from alphard.search.settings import Settings
from alphard.search.storages import JOURNAL
from alphard.storage import Folder
from vertex_ai import left, reading
from vertex_ai.container import LOCAL
from vertex_ai.judged import Judge, Trial
from vertex_ai.left import Left, Trained

# Who works on what runs there: nobody whose death could be noticed here.
OWNER, FOREVER = "Vertex AI", 253402300799
FLAGS = (arguments.SWITCHES | arguments.VALUED | {*arguments.LONG}) - {"--package"}  # which may be a hyperparameter
MOST_LOST = 10_000  # trials that left nothing, before one that did
# What a job raises that is not built as the API says.
MISSHAPEN = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


class Gathering:
    """A tuning job, read: its space, and its configs as they are in this project.

    job:  in the REST API's form; without `state` and `trials` where only what was posted is known.
    base: its folder.
    to:   the study's folder.

    Raises UserError for a job that this project cannot have submitted, and where `to` is another study's.
    """

    def __init__(self, job: dict[str, Any], base: Folder, to: Path) -> None:
        self.job, self.base, self.to = job, base, to
        if (to / results.ABOUT).exists() and results.about(to).get("job", {}).get("folder") != base.path:
            raise UserError(f"{to}: holds another study than that of {base.path}; move it away")
        try:
            container = job["trialJobSpec"]["workerPoolSpecs"][0]["containerSpec"]
            self.trials, self.parallel = _count(job, "maxTrialCount", 1), _count(job, "parallelTrialCount", 1)
            self.max_failures = _count(job, "maxFailedTrialCount", 0)
            self._read(job["studySpec"], _said([str(word) for word in container.get("args", ())]))
        except UserError:
            raise
        except Refusals as refusal:
            raise _unfit(refusal) from None
        except MISSHAPEN as error:
            why = f"it has no {error}" if isinstance(error, LookupError) else first_line(error)
            raise UserError(f"{base.path}: is no job of ours: {why}; give one that alphard submitted") from None

    def _read(self, study: Mapping[str, Any], said: list[str]) -> None:
        folder, searched = here(), {*reading.keys(study)}
        # The last one wins: what the job itself says of a searched key was no trial's value.
        self.overrides = [word for word in said if word.partition("=")[0].lstrip("+~") not in searched]
        aside = (f"~{LOCAL}",) if (folder / "local").is_dir() else ()  # which is in no image
        configs = Configs(str(folder.absolute()), "config", (), (*aside, *self.overrides))
        self.choices = group_choices(configs.compose(hydra=True))
        self.configs = dataclasses.replace(configs, groups=frozenset(searched & {*self.choices}))
        self.read = reading.read(study, self.configs, said)

    def gather(self) -> list[Trial]:
        """Read what the trials left, and write the study; returns its trials by their numbers.

        Raises UserError where the job's folder cannot be read, or no trial has begun.
        """
        told = {int(one["id"]): one for one in self.job.get("trials", ())}
        lying = left.of_folder(self.base, max([self.trials + self.max_failures, *told]))
        if not lying and not told:
            raise UserError(f"{self.base.path}: no trial has left anything yet; say it again later")
        last = max([*lying, *told])
        if (lost := last - len({*lying, *told})) > MOST_LOST:
            remedy = "take away what no trial left"
            raise UserError(f"{self.base.uri(str(last))}: {lost} trials before it have left nothing; {remedy}")
        try:  # the service's list may be a little old
            trained = Trained(self.read.space, self.configs) if {*lying} - {*told} else None
        except Refusals as refusal:
            raise _unfit(refusal) from None
        judge = Judge(self.job, self.base, self.read, trained)
        trials = [judge.trial(id, told.get(id), self._left(id, lying)) for id in range(1, last + 1)]
        self._keep(trials, judge.best(trials))
        return trials

    def _left(self, id: int, lying: Mapping[int, Left]) -> Left:
        """What a trial left; of one that the bucket has forgotten, what was gathered earlier."""
        if id in lying:
            return lying[id]
        home = self.to / "trials" / str(id - 1)
        return Left({name: (home / name).read_bytes() for name in left.TEXTS if (home / name).is_file()})

    def _keep(self, trials: Sequence[Trial], best: Trial | None) -> None:
        """Write the study, each file whole; study.yaml, which makes one of the folder, comes last."""
        to = Folder(str(self.to), "studies")
        if best:
            self._fetch(best, to)
        for trial in trials:
            for name in left.TEXTS if trial.left.texts else ():
                path, content = f"trials/{trial.number}/{name}", trial.left.texts.get(name)
                if content is None:
                    to.remove(path)  # of an attempt before the one that is there now
                elif to.read(path) != content:
                    to.write(path, content)
        self.to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.to, prefix=".gathered-") as beside:
            self._journal(trials, Path(beside) / JOURNAL)
            os.replace(Path(beside) / JOURNAL, self.to / JOURNAL)
        to.write(results.ABOUT, yaml.safe_dump(self._about(), sort_keys=False).encode())

    def _fetch(self, best: Trial, to: Folder) -> None:
        """Copy what else the best trial left, unless that was done for the same metrics."""
        home = self.to / "trials" / str(best.number)
        same = to.read(f"trials/{best.number}/{left.METRICS}") == best.left.texts.get(left.METRICS)
        for name in best.left.names:
            if name not in left.TEXTS and not (same and (home / name).is_file()):
                self.base.fetch(f"{best.number + 1}/model/{name}", home / name)

    def _journal(self, trials: Sequence[Trial], path: Path) -> None:
        """Optuna's journal of these trials."""
        storage = optuna.storages.JournalStorage(Journal(path))
        direction = optuna.study.StudyDirection[self.read.direction.upper()]
        study = optuna.create_study(storage=storage, study_name=self.to.name, direction=direction)
        study.set_user_attr("warm", 0)
        # No search goes on with it here: its line is told this difference.
        study.set_user_attr("fingerprint", {"searched by": f"Vertex AI, {self.base.path}"})
        study.set_user_attr(f"owner {OWNER}", {"host": OWNER, "pid": 0, "until": FOREVER})
        for trial in trials:
            study.add_trial(
                optuna.trial.create_trial(
                    state=trial.state,
                    value=trial.value,
                    params=trial.chosen,
                    distributions={key: distribution(self.read.space[key]) for key in trial.chosen},
                    user_attrs=trial.about | ({"owner": OWNER} if trial.state == TrialState.RUNNING else {}),
                )
            )

    def _about(self) -> dict[str, Any]:
        """study.yaml, as a local search writes it, and `job`."""
        told: dict[str, Any] = {"folder": os.path.relpath(self.configs.folder, self.to), "name": "config", "extra": []}
        told |= {"overrides": [*self.overrides], "choices": self.choices, "groups": sorted(self.configs.groups)}
        settings = Settings(
            objective=self.read.objective,
            direction=self.read.direction,  # type: ignore[arg-type]  # the API's two goals
            algorithm=self.read.algorithm,  # type: ignore[arg-type]  # one of spec.ALGORITHMS
            trials=self.trials,
            parallel=self.parallel,
            max_failures=self.max_failures,
        )
        node = dataclasses.asdict(settings) | {"space": self.read.written}
        name = self.job.get("name")
        job = {"name": name if isinstance(name, str) else None, "folder": self.base.path}
        return {"configs": told, "overrides": self.overrides, "search": node, "job": job}


def _count(job: Mapping[str, Any], name: str, least: int) -> int:
    """A count of the job's, whose whole numbers may come as texts; TypeError for what is none."""
    if not re.fullmatch(r"[0-9]{1,9}", str(job.get(name, least))):
        raise TypeError(f"its {name} is no count")
    return max(least, int(job.get(name, least)))


def _said(words: list[str]) -> list[str]:
    """A job's arguments as overrides.  A folder's job is anybody's: what they reach is refused before it is composed.

    Raises UserError with what a sealed container would not take either.
    """
    if flags := [word for word in words if word.partition("=")[0] in FLAGS]:
        raise UserError(f"containerSpec.args: {flags[0]}: is Hydra's flag; a search's trials have none")
    guard.refuse([word for word in words if arguments.NATIVE.fullmatch(word)], sealed=True)
    said = arguments.rewrite(words, here())
    guard.refuse(said, sealed=True)
    return said


def _unfit(refusal: Exception) -> UserError:
    remedy = "gather it in the project that submitted it"
    return UserError(f"the job's arguments do not fit configs/ here: {first_line(refusal)}; {remedy}")
