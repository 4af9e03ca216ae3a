"""`alphard wait NAME`: follow a job of Vertex AI to its end; Ctrl-C leaves it running."""

from collections.abc import Sequence

from alphard.errors import UserError
from vertex_ai import settings
from vertex_ai.client import Client
from vertex_ai.follow import announce, follow
from vertex_ai.names import Name


def main(arguments: Sequence[str]) -> int:
    """Follow the job that the first word names; the exit status is 0 if it succeeded."""
    name, job = named(arguments, "wait")
    with Client.of(name, job.endpoint) as client:
        announce(name)
        return follow(client, name)


def named(arguments: Sequence[str], subcommand: str) -> tuple[str, settings.Job]:
    """The one job's name and the settings of a command line.  Raises UserError for other words."""
    names = [word for word in arguments if "=" not in word]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise UserError(f"alphard {subcommand}: wants one job's name, got {found}; alphard submit printed it")
    name = str(Name.of(names[0]))
    job, others = settings.read([word for word in arguments if "=" in word])
    if others:
        raise UserError(*(f"{word}: no setting of a job; vertex_ai/configs/job.yaml lists them" for word in others))
    return name, job
