"""`alphard submit`: the training, or its search, as a job on Vertex AI."""

import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from alphard.errors import UserError
from alphard.faults import told
from alphard.storage import Folder
from vertex_ai import job
from vertex_ai.job import Submission

JOB_FILE = "job.json"  # in the job's folder, so that the folder alone tells what it was


def main(arguments: Sequence[str]) -> int:
    """Submit what `key=value…` say; dry_run=true prints it for gcloud, wait=true follows it to its end."""
    this = job.of_line(arguments)
    if this.settings.dry_run:
        print(_for_gcloud(this), end="")
        _say(this)
        return 0
    _must_be_seen(this)
    from vertex_ai.client import Client, as_message
    from vertex_ai.follow import announce, come_back, follow

    assert this.settings.project is not None
    assert this.settings.region is not None
    with Client(this.settings.project, this.settings.region, this.settings.endpoint) as client:
        as_message(this.job, this.kind)  # what the API would not take is refused before anything is written
        _claim(this)
        _say(this)
        name = client.create(this.job, this.kind)["name"]
        announce(name)
        print(f"base:    {this.base}", flush=True)
        if this.settings.wait:
            return follow(client, name)
        print(come_back(name, this.settings.endpoint))
    return 0


def _for_gcloud(this: Submission) -> str:
    """The job as YAML, headed by the command that takes it."""
    what = "hp-tuning-jobs" if this.tuning else "custom-jobs"
    command = ["gcloud", "ai", what, "create", f"--project={this.settings.project}", f"--region={this.settings.region}"]
    command += [f"--display-name={this.job['displayName']}", "--config=job.yaml"]
    labels = ",".join(f"{key}={value}" for key, value in this.settings.labels.items())
    # What gcloud reads for a custom job is its CustomJobSpec alone.
    body = this.job if this.tuning else this.job["jobSpec"]
    command += [f"--labels={labels}"] if labels and not this.tuning else []
    body = json.loads(json.dumps(body))  # no node shared, for which YAML would write an alias
    return f"# {shlex.join(command)}\n" + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)


def _say(this: Submission) -> None:
    """On stderr: what is ignored there, and what the job may cost at most."""
    if this.ignored:
        print(f"ignored on Vertex AI, where they have no counterpart: {', '.join(this.ignored)}", file=sys.stderr)
    for path in this.local_paths:
        print(f"{path} lies on this machine, where no job sees it; put it into a bucket, gs://…", file=sys.stderr)
    print(at_most(this), file=sys.stderr)


def at_most(this: Submission) -> str:
    """The number of trials, and the machine hours and money that the job cannot exceed, by its timeout."""
    job = this.settings
    hours = job.replicas * job.timeout * (this.trials if this.tuning else 1)
    machines = f" on {job.replicas} machines" if job.replicas > 1 else ""
    bound = f"at most {job.timeout:g} hours{machines}: at most {hours:g} machine hours"
    money = f", {hours * job.price_per_hour:.2f} at {job.price_per_hour:g} an hour" if job.price_per_hour else ""
    if this.tuning:
        return f"{this.trials} trials, {this.job['parallelTrialCount']} at a time, each {bound}{money}"
    return f"1 run{f' of {this.trials} trials in packs' if this.plan else ''}, {bound}{money}"


def _must_be_seen(this: Submission) -> None:
    """Raise UserError where the job's machines could not read the data."""
    if this.local_paths:
        remedy = (
            "lies on this machine, or nowhere; put it into a bucket, where the job sees it, and give its gs:// path"
        )
        raise UserError(*(f"{path}: {remedy}" for path in this.local_paths))


def _claim(this: Submission) -> None:
    """Make the job's folder this job's: refused where anything lies in it."""
    folder = Folder(this.base, "base")
    try:
        there = folder.fs.ls(folder.path, detail=False, refresh=True)
    except FileNotFoundError:
        there = []
    except Exception as error:  # a bucket's client raises what it likes
        raise UserError(f"base: {folder.path} cannot be read: {told(error, folder.path)}") from None
    if there:
        raise UserError(f"base: {folder.path} is not empty; wait a second, or give another folder")
    folder.write(JOB_FILE, _json(this.job))


def _json(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=2) + "\n").encode()
