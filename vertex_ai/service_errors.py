"""What the service or the way to it complains about: what passes, and what needs a remedy."""

import re
from typing import Any

from alphard.errors import TrainingError, UserError

PASSING = (429, 500, 502, 503, 504)
LOGIN = "gcloud auth application-default login"


def must_be_installed() -> None:
    """Raises UserError where Google's client is missing."""
    try:
        import google.cloud.aiplatform_v1  # noqa: F401
    except ImportError as error:
        missing = f"Google's client is not installed ({error})"
        raise UserError(f"{missing}; it is an extra: pip install 'alphard[vertex]'") from None


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed a little later."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import TransportError

    if isinstance(error, GoogleAPICallError):
        return error.code in PASSING and not _of_credentials(error)
    lost = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, TransportError)
    return isinstance(error, lost) or bool(getattr(error, "retryable", False))


def words(error: object) -> str:
    """What Google, or the connection, says, on one line."""
    import requests
    from google.auth.exceptions import TransportError

    if isinstance(error, requests.RequestException | TransportError):
        # The innermost says it without the layers' names.
        while inner := getattr(error, "__cause__", None) or getattr(error, "__context__", None):
            error = inner
        return f"the connection failed: {error or type(error).__name__}"
    said = [re.sub(r"^(GET|POST) http\S+: ", "", str(getattr(error, "message", None) or error))]
    for detail in getattr(error, "details", None) or []:
        # gRPC brings messages, REST their JSON.
        for one in getattr(detail, "field_violations", ()):
            said.append(f"{one.field}: {one.description}")
        for one in detail.get("fieldViolations", ()) if isinstance(detail, dict) else ():
            said.append(f"{one.get('field')}: {one.get('description')}")
    if code := getattr(error, "code", None):
        said.insert(0, f"{int(code)}")
    return " ".join(" ".join(said).split()) or type(error).__name__


def lasting(error: object, what: str) -> TrainingError:
    """For what has been tried again for long enough."""
    quota = getattr(error, "code", None) == 429
    remedy = "a quota is used up: wait, or ask for more in the console" if quota else "is the network up?"
    return TrainingError(f"could not {what}: {words(error)}; {remedy}")


def final(error: Exception, what: str, project: str, region: str) -> UserError:
    """For what will not pass by itself: Google's words and a remedy."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAuthError) or _of_credentials(error):
        return UserError(f"could not {what}: no credentials that Google accepts ({words(error)}); call `{LOGIN}`")
    if not isinstance(error, GoogleAPICallError):
        return TrainingError(f"could not {what}: {type(error).__name__}: {words(error)}")
    remedy = {
        400: "mend what it names; alphard submit … dry_run=true shows the job",
        403: f"the account needs the role roles/aiplatform.user in {project}, and the project its API: "
        f"gcloud services enable aiplatform.googleapis.com --project={project}",
        404: f"are the project {project}, the region {region} and the job's number right?",
    }
    said = f"could not {what}: {words(error)}"
    code: Any = error.code
    return UserError(f"{said}; {remedy[code]}") if code in remedy else TrainingError(said)


def _of_credentials(error: Exception) -> bool:
    """gRPC wraps a refused refresh in a 503."""
    if getattr(error, "code", None) == 401:
        return True
    said = str(error)
    return "metadata from plugin failed" in said and ("Reauthentication" in said or "RefreshError" in said)
