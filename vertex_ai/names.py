"""The name of a job on Vertex AI, and where it is to be seen."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from alphard.errors import UserError

KINDS = TUNING, CUSTOM = ("hyperparameterTuningJobs", "customJobs")
PATTERN = re.compile(rf"projects/([^/\s]+)/locations/([a-z0-9-]+)/({'|'.join(KINDS)})/(\d+)")


@dataclass(frozen=True)
class Name:
    """`projects/P/locations/L/KIND/N`, in its parts.  The service may give the project by its number."""

    project: str
    region: str
    kind: str
    number: str

    @classmethod
    def of(cls, text: str) -> "Name":
        """Raises UserError for anything that is not a job's name."""
        match = PATTERN.fullmatch(text.strip().strip("/"))
        if not match:
            shape = "projects/PROJECT/locations/REGION/hyperparameterTuningJobs/NUMBER (or …/customJobs/NUMBER)"
            raise UserError(f"{text}: is no job's name; give {shape}, as alphard submit printed it")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.region}/{self.kind}/{self.number}"


def console_url(name: str) -> str:
    """The job's page in Google's console."""
    job = Name.of(name)
    return (
        "https://console.cloud.google.com/agent-platform"
        f"/locations/{job.region}/training/{job.number}?project={job.project}"
    )


def logs_url(name: str) -> str:
    """What all containers of the job print, in Google's Logs Explorer."""
    job = Name.of(name)
    query = f'resource.type="ml_job"\nresource.labels.job_id="{job.number}"'
    return f"https://console.cloud.google.com/logs/query;query={quote(query, safe='')}?project={job.project}"
