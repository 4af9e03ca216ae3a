"""Jobs on Vertex AI, by Google's own client: created exactly once, looked at, listed, cancelled.

A job is a plain dict in the REST API's JSON form, in and out.  What fails for a moment is tried again with growing
pauses; what fails for good becomes one error with Google's words and a remedy.  Google's client is imported when the
first Client is made, for that takes a second.
"""

import functools
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from alphard.errors import Interrupted, TrainingError, UserError
from vertex_ai import service_errors
from vertex_ai.names import Name

T = TypeVar("T")
Job = dict[str, Any]
Jobs = list[Job]

METHODS = {"hyperparameterTuningJobs": "hyperparameter_tuning_job", "customJobs": "custom_job"}
GROWTH = 30  # the longest pause, in first ones
LOOKS = 4  # for a job whose creation was not answered


class Client:
    """The service in one project and region.

    endpoint: another address of it; http://HOST:PORT means REST and no credentials.
    patience: seconds for which a call that fails for a moment is tried again.
    pause:    seconds before the first further try; later ones are up to 30 times as long.
    timeout:  seconds that one answer may take.

    Raises UserError where Google's client is not installed.
    """

    def __init__(
        self,
        project: str,
        region: str,
        endpoint: str | None = None,
        *,
        patience: float = 600.0,
        pause: float = 1.0,
        timeout: float = 60.0,
    ) -> None:
        service_errors.must_be_installed()
        self.project, self.region, self.endpoint = project, region, endpoint
        self.patience, self.pause, self.timeout = patience, pause, timeout

    @classmethod
    def of(cls, name: str, endpoint: str | None = None) -> "Client":
        """The client for a job that has a name."""
        job = Name.of(name)
        return cls(job.project, job.region, endpoint)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_service" in vars(self):
            self._service.transport.close()

    def create(self, job: Job, kind: str) -> Job:
        """Post the job; the resource, with its name.

        It is there once, even where the answer is lost: a job with this displayName and output folder is taken for it,
        so these must be its own.
        """
        message = as_message(job, kind)
        posted = False

        def attempt() -> Job:
            nonlocal posted
            if posted and (there := self._look(job, kind)):
                return there
            posted = True
            return as_dict(self._call("create", kind, {"parent": self._parent, METHODS[kind]: message}))

        try:
            return self._persist("create the job", attempt)
        except (Interrupted, TrainingError):
            if posted:
                where = f"--project={self.project} --region={self.region} --filter='displayName={job['displayName']}'"
                group = "hp-tuning-jobs" if kind == "hyperparameterTuningJobs" else "custom-jobs"
                print(f"the job may be there nevertheless; see: gcloud ai {group} list {where}", file=sys.stderr)
            raise

    def get(self, name: str) -> Job:
        """The resource as it is now, or was a moment ago."""
        kind = Name.of(name).kind
        return self._persist(f"get {name}", lambda: as_dict(self._call("get", kind, {"name": name})))

    def list(self, kind: str, filter: str = "") -> Jobs:
        """The region's jobs of this kind, without their trials; filter as in `display_name="mine"`."""
        return self._persist(f"list {kind}", lambda: self._list(kind, filter))

    def cancel(self, name: str) -> None:
        """Ask for the job's end; it comes some time later."""
        kind = Name.of(name).kind
        self._persist(f"cancel {name}", lambda: self._call("cancel", kind, {"name": name}))

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    @functools.cached_property
    def _service(self) -> Any:
        """Google's client.  Its credentials are tried here, for its own complaint about them comes late and veiled."""
        import google.auth
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.auth.transport.requests import Request
        from google.cloud.aiplatform_v1.services.job_service import JobServiceClient

        endpoint = (self.endpoint or f"{self.region}-aiplatform.googleapis.com").rstrip("/")
        if endpoint.startswith("http://"):
            options = ClientOptions(api_endpoint=endpoint)
            nobody: Any = AnonymousCredentials
            return JobServiceClient(credentials=nobody(), transport="rest", client_options=options)
        credentials: Any
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        credentials.refresh(Request())
        options = ClientOptions(api_endpoint=endpoint.removeprefix("https://"))
        return JobServiceClient(credentials=credentials, client_options=options)

    def _call(self, verb: str, kind: str, request: dict[str, Any]) -> Any:
        method = f"{verb}_{METHODS[kind]}{'s' if verb == 'list' else ''}"
        return getattr(self._service, method)(request=request, retry=None, timeout=self.timeout)

    def _list(self, kind: str, chosen: str) -> Jobs:
        return [as_dict(one) for one in self._call("list", kind, {"parent": self._parent, "filter": chosen})]

    def _look(self, job: Job, kind: str) -> Job | None:
        """The resource of a job that was posted and perhaps arrived; it may come into the list a little later."""
        for pause in [0.0, *itertools.islice(self._pauses(), LOOKS - 1)]:
            time.sleep(pause)
            for one in self._list(kind, f'display_name="{job["displayName"]}"'):
                if one["displayName"] == job["displayName"] and _folder(one) == _folder(job):
                    return one
        return None

    def _pauses(self) -> Iterator[float]:
        """Seconds, twice as many each time, a little apart from those of other clients."""
        for doubled in itertools.count():
            yield self.pause * min(2.0**doubled, GROWTH) * random.uniform(0.8, 1.0)  # noqa: S311

    def _persist(self, what: str, attempt: Callable[[], T]) -> T:
        """Try until it succeeds, fails for good, or `patience` is over."""
        from google.api_core.exceptions import RetryError
        from google.api_core.retry import retry_target

        told = False

        def on_error(error: Exception) -> None:
            nonlocal told
            if not told:
                limit = f"trying again for at most {self.patience:.0f} s"
                print(f"could not {what}: {service_errors.words(error)}; {limit}", file=sys.stderr, flush=True)
            told = True

        try:
            result: T = retry_target(
                attempt, service_errors.is_transient, self._pauses(), timeout=self.patience, on_error=on_error
            )
            return result
        except UserError:
            raise
        except RetryError as error:
            raise service_errors.lasting(error.cause, what) from error
        except Exception as error:
            raise service_errors.final(error, what, self.project, self.region) from error


def as_message(job: Job, kind: str) -> Any:
    """The job as the service's own message.

    Raises UserError for what the API does not know: a field, an enum's value, a duration or number of another form.
    """
    from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob
    from google.protobuf import json_format

    message: Any = {"hyperparameterTuningJobs": HyperparameterTuningJob, "customJobs": CustomJob}[kind]()
    try:
        json_format.ParseDict(job, type(message).pb(message))
    except json_format.ParseError as error:
        problem = str(error).splitlines()[0].rpartition(" field: ")[2].rstrip(". ")
        raise UserError(f"the job: the API would not take it: {problem}") from None
    return message


def as_dict(message: Any) -> Job:
    """A message in JSON form; an enum's value that has no name here stays a number."""
    from google.protobuf import json_format

    found: Job = json_format.MessageToDict(type(message).pb(message))
    return found


def _folder(job: Job) -> Any:
    spec = job.get("trialJobSpec") or job.get("jobSpec") or {}
    return spec.get("baseOutputDirectory", {}).get("outputUriPrefix")
