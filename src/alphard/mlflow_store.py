"""An MLflow store: reached or refused in seconds, and what its runs are told.

No torch here, for the process that leads a search looks as well.
"""

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphard.errors import UserError, masked

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOGGER = "alphard.loggers.MLflow"
STATE, ERROR, TRIAL, PARENT = "alphard.state", "alphard.error", "alphard.trial", "mlflow.parentRunId"
# MLflow's word for how a run ended.  A pruned trial did what was planned, as in Optuna's own callback; its tag says so.
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "killed": "KILLED", "failed": "FAILED"}
LONGEST = 500  # characters of a value, which every store takes
AT_ONCE = 100  # parameters in one call
# MLflow waits minutes for a server that is gone.
URI = "MLFLOW_TRACKING_URI"
HASTE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@dataclass(frozen=True)
class Place:
    """Where a run stands among others.  params: what is said of it before its settings."""

    experiment: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)


def client_of(uri: str | None, at: str) -> "MlflowClient":
    """A client of the store, whose tables are there.  Raises UserError at config path `at` where it cannot be used."""
    try:
        import mlflow
    except ModuleNotFoundError as error:
        said = f"{error}; pip install -c constraints.txt -e '.[mlflow]'"
        raise UserError(f"{at}: {said}") from None
    for name in ("mlflow", "alembic"):  # which tell of each table that they make
        logging.getLogger(name).setLevel(logging.WARNING)
    if os.environ.get(URI) == "":
        del os.environ[URI]  # none, as MLflow's own store takes it; Lightning's client would take it for a folder
    uri = uri or mlflow.get_tracking_uri()
    try:
        _must_be_a_database(uri)
        with _in_haste():
            client = mlflow.MlflowClient(uri)
            client.search_experiments(max_results=1)
    except Exception as error:  # MLflow, SQLAlchemy and the network raise what they like
        remedy = "name a store that is there, as in sqlite:///mlflow.db or http://HOST:5000, or leave out logger=mlflow"
        raise UserError(f"{at}.tracking_uri: {masked(uri)}: {short(error)}; {remedy}") from None
    return client


def experiment_of(client: "MlflowClient", name: str, at: str, artifact_location: str | None = None) -> str:
    """The id of the experiment called `name`, made if it is not there; UserError where it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        made: str = client.create_experiment(name, artifact_location)
        return made
    if found.lifecycle_stage == "deleted":
        remedy = f"mlflow experiments restore --experiment-id {found.experiment_id}, or choose another name"
        raise UserError(f"{at}.experiment_name: {name}: is deleted there; {remedy}")
    there: str = found.experiment_id
    return there


def log_params(client: "MlflowClient", run: str, params: Mapping[str, Any]) -> None:
    """Record parameters, under names and with values that MLflow takes."""
    from mlflow.entities import Param

    told = [Param(key_of(name), text_of(value)[:LONGEST]) for name, value in params.items()]
    for first in range(0, len(told), AT_ONCE):
        client.log_batch(run, params=told[first : first + AT_ONCE])


def end(client: "MlflowClient", run: str, state: str, error: str | None = None) -> None:
    """Say how a run ended: complete, pruned, killed or failed."""
    client.set_tag(run, STATE, state)
    if error:
        client.set_tag(run, ERROR, masked(error)[:5000])
    client.set_terminated(run, STATUS[state])


def runs_below(client: "MlflowClient", experiment: str, parent: str, trial: str | None = None) -> Iterator[Any]:
    """The nested runs of a parent, all or one trial's."""
    asked = f"tags.`{PARENT}` = '{parent}'" + (f" and tags.`{TRIAL}` = '{trial}'" if trial is not None else "")
    token = None
    while True:
        page = client.search_runs([experiment], asked, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def short(error: BaseException) -> str:
    """A library's error in a line, without the passwords in it; what the network said says most."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            error = cause
        cause = cause.__cause__ or cause.__context__
    return masked(f"{type(error).__name__}: {error}").strip().partition("\n")[0][:300]


def key_of(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", name)


def text_of(value: Any) -> str:
    """A value as YAML has it, in a line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _must_be_a_database(uri: str) -> None:
    """Raise where a SQLite file cannot be one, which MLflow would try for 100 seconds."""
    if not uri.startswith("sqlite:///"):
        return
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if path.is_dir():
        raise ValueError("is a folder")
    if path.exists():
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as file:
            file.execute("PRAGMA user_version")
            file.execute("SELECT count(*) FROM sqlite_master")
        if not os.access(path, os.W_OK):
            raise ValueError("may not be written by this user")
    near = next(parent for parent in path.absolute().parents if parent.exists())
    if not near.is_dir() or not os.access(near, os.W_OK):
        raise ValueError(f"{near} is no folder that this user may write to")


@contextlib.contextmanager
def _in_haste() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in HASTE}
    os.environ.update(HASTE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
