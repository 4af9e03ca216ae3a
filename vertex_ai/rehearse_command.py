"""`alphard rehearse`: the job that `alphard submit` would send, run here for nothing, and a verdict."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alphard.errors import Interrupted, UserError
from alphard.storage import Folder
from vertex_ai import rehearsal_view, search_verdict, verdict, whole_search
from vertex_ai.engine import Engine
from vertex_ai.job import Submission, of_line
from vertex_ai.places import place_for
from vertex_ai.played import Played
from vertex_ai.rehearsal_view import View, seen
from vertex_ai.verdict import Judged

COUNT = re.compile(r"\+{0,2}search\.trials=(.*)")
TRIALS = 4  # they show each form in which the service may write a value
ALIKE = 2  # attempts that end in the same words show that a third would too
FOLDER = Path("outputs/rehearsals")
HOME = "/tmp"  # noqa: S108  the image's
CREDENTIALS = ".config/gcloud/application_default_credentials.json"  # where Google's libraries look in a home


def main(arguments: Sequence[str]) -> int:
    """Rehearse what `key=value…` say; 0 where the job may be submitted, 1 where it may not."""
    count, words = count_of(arguments)
    this = of_line(words, needed=())
    if this.settings.dry_run or this.settings.wait:
        raise UserError("alphard rehearse: dry_run and wait are alphard submit's; leave them out")
    if count is not None and this.plan is None:
        raise UserError(f"search.trials: {count}: nothing is searched; choose a search with search=…")
    return rehearse(Rehearsal(this, count))


def count_of(arguments: Sequence[str]) -> tuple[int | None, list[str]]:
    """How many trials to rehearse, by `search.trials=`, and the words without it, which say how many the job has."""
    count, words = None, []
    for word in arguments:
        match = COUNT.fullmatch(word)
        if match is None:
            words.append(word)
        elif not re.fullmatch(r"[1-9]\d*", match[1]):
            raise UserError(f"search.trials: {match[1]}: give the number of trials to rehearse, 1 or more")
        else:
            count = int(match[1])
    return count, words


@dataclass
class Rehearsal:
    """What is rehearsed, and how.

    count: of trials to train; None is TRIALS, or fewer where the job has fewer.
    root:  the project's folder, whose convert_command.sh runs where no container can.

    trials: of the whole job.  asked: of the rehearsal.  begun: runs of the container, each of which is judged.
    """

    this: Submission
    count: int | None = None
    root: Path = field(default_factory=Path.cwd)

    def __post_init__(self) -> None:
        self.job: dict[str, Any] = dict(self.this.job)
        self.trials = self.this.trials
        self.asked = self.count or min(self.trials, TRIALS)
        self.parallel = int(self.job.get("parallelTrialCount", 1))
        pools = self.this.spec["workerPoolSpecs"]
        self.machines = sum(int(pool["replicaCount"]) for pool in pools)
        self.image: str | None = pools[0]["containerSpec"].get("imageUri")
        self.tuning = self.this.tuning
        self.metric = str(self.this.config.objective)
        if self.tuning:
            self.metric = self.job["studySpec"]["metrics"][0]["metricId"]
            self.job["maxTrialCount"] = self.asked
        elif self.this.plan:
            self.asked = replace(self.this.plan.settings, trials=self.asked).total(self.this.plan.space)
            self.job = whole_search.rehearsed(self.job, self.asked)
        self.begun = self.asked if self.tuning else 1

    def judge(self, played: Played) -> Judged:
        """Everything that is wrong with a run that has ended."""
        if self.this.plan and not self.tuning:
            return search_verdict.judge(played, self.this.plan, self.asked)
        return verdict.judge(played, self.metric, verdict.expected(self.this, played))

    def reckoning(self, judged: Sequence[Judged], how: str) -> str:
        """What the whole job will take.  how: the runs that were judged ran here."""
        price = self.this.settings.price_per_hour
        if self.this.plan and not self.tuning:
            return search_verdict.reckoning(judged[0], how, self.trials, self.this.settings.timeout, price)
        return verdict.reckoning(judged, how, self.trials, self.parallel, self.machines, price)


def rehearse(it: Rehearsal) -> int:
    """Run the job in a folder of its own and tell the verdict; returns the exit status."""
    folder = _folder(it.this)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(it.parallel, it.begun, max(1, cores // it.machines))
    threads = max(1, cores // (most * it.machines))
    place = place_for(it.image, it.root, [folder], data_of(it.this), threads, host=it.machines > 1)
    Folder(str(folder)).write("job.json", (json.dumps(it.job, indent=2) + "\n").encode())
    rehearsal_view.announce(it, place, folder, most)
    with View(it) as view:
        engine = Engine(
            it.job, str(folder), place, folder, parallel=most, alike=ALIKE, began=view.began, ended=view.ended
        )
        try:
            engine.run()
        except Interrupted:
            print(f"the trials are ended; what they said lies in {seen(folder)}", flush=True)
            raise
    rehearsal_view.table(it, view.judged)
    how = f"{most} at a time on {cores} cores" if it.tuning else f"on {cores} cores"
    return rehearsal_view.conclude(it, view.judged, folder, how)


def data_of(this: Submission) -> dict[str, Path]:
    """What a container reads of this machine, by the path that it knows it by: data, and for gs:// your credentials."""
    paths = [line.partition(": ")[2] for line in this.local_paths]
    found = {path: Path(path).expanduser() for path in paths}
    if "gs://" in " ".join(this.spec["workerPoolSpecs"][0]["containerSpec"]["args"]):
        own = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or f"~/{CREDENTIALS}"
        found[f"{HOME}/{CREDENTIALS}"] = Path(own).expanduser()
    return {inside: path for inside, path in found.items() if path.exists()}


def _folder(this: Submission) -> Path:
    """A new folder for this rehearsal; UserError where none can be made."""
    above = FOLDER.absolute() / this.study
    time = this.base.rpartition("/")[2]
    try:
        above.mkdir(parents=True, exist_ok=True)
        for number in range(1, 100):
            folder = above / (time if number == 1 else f"{time}-{number}")
            if not folder.exists():
                folder.mkdir()
                return folder
    except OSError as error:
        raise UserError(f"{FOLDER}: {above} cannot be written: {error.strerror}; call alphard where it can") from None
    raise UserError(f"{FOLDER}: {above / time} is there a hundred times; remove some")
