"""`alphard cancel NAME`: ask for the end of a job of Vertex AI."""

from collections.abc import Sequence

from vertex_ai.client import Client
from vertex_ai.follow import is_over, words_of
from vertex_ai.wait_command import named


def main(arguments: Sequence[str]) -> int:
    """Cancel the job that the first word names; one that is over is left as it is."""
    name, job = named(arguments, "cancel")
    with Client.of(name, job.endpoint) as client:
        found = client.get(name)
        if is_over(found):
            print(f"the job is over already: {words_of(found.get('state'))}")
            return 0
        client.cancel(name)
    endpoint = f" endpoint={job.endpoint}" if job.endpoint else ""
    print("cancelling: what runs is ended, what was left already is kept")
    print(f"next: alphard wait {name}{endpoint}")
    return 0
