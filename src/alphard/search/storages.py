"""Where a study's trials are kept: a journal in its folder, or any storage of Optuna's by its URL."""

import contextlib
import re
import weakref
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from alphard.documents import judged
from alphard.errors import UserError, masked
from alphard.search.journal import PATIENCE, Journal

JOURNAL = "journal.log"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
TABLES = 20  # more than Optuna makes in a database


class InJournal(optuna.storages.JournalStorage):
    """Optuna's storage in a journal of ours."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        super().__init__(journal)


def in_bulk(storage: optuna.storages.BaseStorage) -> contextlib.AbstractContextManager[None]:
    """Inside, what is written to a journal waits, to be written in one piece; a database is written to one by one."""
    return storage.journal.held() if isinstance(storage, InJournal) else contextlib.nullcontext()


def storage_of(folder: Path, url: str | None) -> optuna.storages.BaseStorage:
    """The study's storage; UserError where it cannot be opened."""
    try:
        if url is None:
            folder.mkdir(parents=True, exist_ok=True)
            with judged(f"search.storage: {folder / JOURNAL}", "a search", "restore the file"):
                return InJournal(Journal(folder / JOURNAL))
        return _database(url)
    except UserError:
        raise
    except Exception as error:  # a database's driver raises what it likes
        remedy = f"; write sqlite:///{url} for a file" if url and "://" not in url else ""
        if "no password supplied" in str(error):
            aside = "study.yaml keeps none" if (folder / "study.yaml").exists() else "none stands in the URL"
            remedy = f"; {aside}: set PGPASSWORD, or write ~/.pgpass"
        raise UserError(
            f"search.storage: {masked(url or str(folder))}: cannot be opened: {said(error)}{remedy}"
        ) from None


def name_in(storage: optuna.storages.BaseStorage, folder: Path) -> str:
    """What the study of `folder` is called: as the folder is, but for one in a journal, whose folder may be renamed."""
    known = storage.get_all_studies() if isinstance(storage, InJournal) else []
    return known[0].study_name if len(known) == 1 else folder.name


def said(error: Exception) -> str:
    """What a storage's driver said, as one line without a password."""
    cause = error.__cause__ or error
    return masked(str(cause).strip().split("\n")[0]) or type(cause).__name__


def stored(url: Any) -> Any:
    """A storage's URL as a file may keep it: without its password, so that its driver looks where it always does.

    A reference, as `${oc.env:STUDY_DB}`, stays as it is.
    """
    if not isinstance(url, str):
        return url
    url = re.sub(r"(?<=://)([^:/@]*):(?!\$\{)[^@]*@", r"\1@", url)
    return re.sub(r"&password=(?!\$\{)[^&]*|(?<=\?)password=(?!\$\{)[^&]*&?", "", url)


def _database(url: str) -> optuna.storages.BaseStorage:
    """Optuna's storage in a database, whose connections end with it."""
    database = _with_tables(url)
    weakref.finalize(database, database.engine.dispose)
    return optuna.storages.get_storage(database)  # with a cache of the trials that have ended


def _with_tables(url: str) -> optuna.storages.RDBStorage:
    """Of several that begin at once and make the same tables, each finds those that it was too late for."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    # SQLite locks the whole file, and would wait 5 s for another process; a URL may say otherwise, ?timeout=90.
    patient = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") and "timeout=" not in url else {}
    for _ in range(TABLES):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=patient)
        except (IntegrityError, ProgrammingError):
            continue
        except OperationalError as error:
            if "already exists" not in str(error):  # as SQLite says it
                raise
    return optuna.storages.RDBStorage(url, engine_kwargs=patient)
