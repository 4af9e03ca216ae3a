"""`alphard results JOB`: what a job of Vertex AI found, gathered into a study's folder and shown.

JOB is its name, projects/…/hyperparameterTuningJobs/N or …/customJobs/N, or its folder, gs://…/STUDY/TIME.  A study by
its folder's URL is brought here likewise; of one run, as a job's training or by its folder's URL, its scores and report
are shown.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alphard import run_page
from alphard.errors import UserError
from alphard.search import brought, report
from alphard.storage import Folder, is_url
from vertex_ai import settings
from vertex_ai.follow import words_of
from vertex_ai.gather import Gathering
from vertex_ai.judged import Trial
from vertex_ai.names import Name
from vertex_ai.submit_command import JOB_FILE

STUDIES = Path("studies")
SETTING = re.compile(r"[\w.+~-]+=")


def main(arguments: Sequence[str]) -> int:
    """Gather and show the job that a word names; the other words are a job's settings."""
    names = [word for word in arguments if not SETTING.match(word)]
    given, others = settings.read([word for word in arguments if word not in names])
    problems = [f"{word}: is no setting of a job; alphard results takes endpoint=…" for word in others]
    if len(names) != 1:
        problems.append(f"alphard results: {' '.join(names) or 'no job'}: give one job's name or folder")
    if problems:
        raise UserError(*problems)
    if not is_url(names[0]):
        return _show(*of_service(names[0], given.endpoint))
    run = Folder(names[0], "folder")
    if _job_file(run) is not None:
        return _show(*of_folder(names[0]))
    if brought.holds_study(run):
        return _bring(run, STUDIES / run.path.rpartition("/")[2], None)
    if run_page.holds_run(run):
        return _show_run(run)
    return _show(*of_folder(names[0]))


def _show(job: dict[str, Any], base: Folder, to: Path) -> int:
    """Gather the trials of a tuning job, or bring what a custom job has made, a study or a run, and show it.

    Raises UserError where there is nothing.
    """
    if "studySpec" not in job:
        there = Folder(base.uri("model"), base.at)
        if brought.holds_study(there):
            return _bring(there, to, job.get("name"))
        if run_page.holds_run(there):
            return _show_run(there)
        raise UserError(f"{job.get('name', base.path)}: has left nothing in {there.path} yet; say it again later")
    trials = Gathering(job, base, to).gather()
    _say(job, base, to, trials)
    report.show_whole(to)
    return 0


def _show_run(run: Folder) -> int:
    run_page.show(run)
    return 0


def _bring(there: Folder, to: Path, job: str | None) -> int:
    brought.home(there, to, job)
    print(f"{there.path} -> {to}")
    report.show_whole(to)
    return 0


def of_service(text: str, endpoint: str | None) -> tuple[dict[str, Any], Folder, Path]:
    """A job that the service tells of, its folder and its study's.  Raises UserError where there is none."""
    name = Name.of(text)
    from vertex_ai.client import Client

    with Client.of(str(name), endpoint) as client:
        job = client.get(str(name))
    folder = _folder(job)
    if folder is None:
        raise UserError(f"{name}: has no baseOutputDirectory, so that it left nothing; alphard submit gives one")
    # A job of a grid or of one trial may have begun none.
    return {"trials": [], "name": str(name)} | job, Folder(folder, "baseOutputDirectory"), STUDIES / name.number


def of_folder(url: str) -> tuple[dict[str, Any], Folder, Path]:
    """The same for a job whose folder alone is asked.  Raises UserError for a folder that is no job's."""
    base = Folder(url, "folder")
    content = _job_file(base)
    try:
        job = json.loads(content) if content is not None else None
    except (ValueError, RecursionError):
        job = None
    if not isinstance(job, dict):
        none = "is not there, so this is no job's folder, nor is it a study's or a run's"
        what = none if content is None else "is no job's"
        raise UserError(f"{base.uri(JOB_FILE)} {what}; give gs://…/STUDY/TIME, or the job's name, projects/…")
    known = {key: value for key, value in job.items() if key not in ("trials", "state")}
    return known, base, STUDIES / "-".join(base.path.split("/")[-2:])


def _job_file(base: Folder) -> bytes | None:
    try:
        return base.read(JOB_FILE)
    except UserError:
        raise
    except Exception as error:  # a bucket's client raises what it likes
        raise UserError(f"{base.path}: cannot be read: {str(error).splitlines()[0]}") from None


def _folder(job: Mapping[str, Any]) -> str | None:
    spec = job.get("trialJobSpec") or job.get("jobSpec") or {}
    folder: str | None = spec.get("baseOutputDirectory", {}).get("outputUriPrefix")
    return folder.rstrip("/") if folder else None


def _say(job: Mapping[str, Any], base: Folder, to: Path, trials: Sequence[Trial]) -> None:
    """What was gathered, and from where."""
    state = f"{words_of(job['state'])}, " if "state" in job else ""
    most = job.get("maxTrialCount", len(trials))
    print(f"{base.path}: {state}{len(trials)} of {most} trials -> {to}; trial n here is trial n + 1 there")
    lost = Counter(bool(trial.left.texts) for trial in trials)[False]
    if lost:
        print(f"{lost} left nothing, or nothing yet")
    where = base.uri("N/model")
    print(f"config, metrics, history and log of each are here, of the best all artifacts; the others' lie in {where}")
