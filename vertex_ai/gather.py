"""A job of Vertex AI as a study: a folder like a local search's, with its trials' values, states and artifacts.

Its journal is written anew each time, so that a job may be gathered while it runs, and again.
"""

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import TrialState

from alphard import arguments
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
            self._read(job["studySpec"], arguments.rewrite([str(word) for word in container.get("args", ())], here()))
        except (KeyError, IndexError) as error:
            raise UserError(f"the job has no {error}; what alphard submits has") from None
        except Refusals as refusal:
            remedy = "gather it in the project that submitted it"
            raise UserError(f"the job's arguments do not fit configs/ here: {first_line(refusal)}; {remedy}") from None

    def _read(self, study: Mapping[str, Any], said: list[str]) -> None:
        if flags := [word for word in said if word.startswith("-")]:
            raise UserError(f"containerSpec.args: {flags[0]}: is Hydra's flag; a search's trials have none")
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
        lying = left.of_folder(self.base)
        told = {int(one["id"]): one for one in self.job.get("trials", ())}
        if not lying and not told:
            raise UserError(f"{self.base.path}: no trial has left anything yet; say it again later")
        # The service's list may be a little old.
        trained = Trained(self.read.space, self.configs) if {*lying} - {*told} else None
        judge = Judge(self.job, self.base, self.read, trained)
        last = max([*lying, *told])
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
            trials=int(self.job.get("maxTrialCount", 1)),
            parallel=int(self.job.get("parallelTrialCount", 1)),
            max_failures=int(self.job.get("maxFailedTrialCount", 0)),
        )
        node = dataclasses.asdict(settings) | {"space": self.read.written}
        job = {"name": self.job.get("name"), "folder": self.base.path}
        return {"configs": told, "overrides": self.overrides, "search": node, "job": job}
