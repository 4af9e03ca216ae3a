"""A study in a folder elsewhere, as in a bucket: worked on in a folder of this machine, and carried there as it grows.

An object store knows neither locks nor appending.  So what lies there is always a study that a search could have left:
the folders of trials go there before the journal that tells of them, and are taken away after it.
"""

import contextlib
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alphard import rescue, signals
from alphard.errors import TrainingError, UserError
from alphard.search import brought
from alphard.search.results import ABOUT
from alphard.search.storages import JOURNAL
from alphard.storage import Folder

# Seconds between two copies, which is what a lost machine costs at most; and of the time, at most one part in SHARE.
EVERY, SHARE = 10.0, 5.0
CLAIM = ".search"  # there, whose study it is: the name of the search that began last
TEXTS = (".json", ".log", ".yaml", ".csv")  # where a trial says in which folder it is
State = tuple[int, int, int]  # a file's size, time and number on its disk


class _Another(UserError):
    """Somebody else has claimed the folder there."""


@dataclass
class _Moment:
    """What a study was at one moment.

    changed: a second name of each file that is not there yet, and its state, by its name in the study.
    journal: so many bytes of it.
    gone:    names that are there and no longer here.
    """

    changed: dict[str, tuple[Path, State]]
    journal: int
    gone: list[str]


class Carried:
    """Keeps `there` as `folder` is.

    Of two processes that do, the one that began later goes on, as a job does that was started again; the other ends.
    """

    def __init__(self, there: Folder, folder: Path) -> None:
        self.there, self.folder = there, folder
        self.known: dict[str, State] = {}
        self.told = 0  # bytes of the journal that are there
        self.claim = uuid.uuid4().hex.encode()
        self.due = 0.0
        self.thread: threading.Thread | None = None
        self.error: UserError | None = None
        self.other: _Another | None = None

    def fetch(self) -> None:
        """Bring the study that lies there, if one does.  Raises UserError where it cannot be read or written."""
        self.there.must_be_writable()
        found = brought.told(self.there)
        if ABOUT in found:
            brought.copy_files(self.there, self.folder)
            for name, content in found.items():
                Folder(str(self.folder)).write(name, content)
            self.known = {name: _state(path) for name, path in self._files()}
            self.told = len(found.get(JOURNAL, b""))

    def carry(self) -> None:
        """Begin to copy what has changed, if it is time; called by what writes the journal, between two lines of it.

        The first call claims the folder there: from it on, nothing of another search comes there.

        Raises UserError where another search has claimed it since, or it cannot be claimed.
        """
        if self.thread is not None and self.thread.is_alive():
            return
        if self.other:
            raise self.other
        if time.monotonic() >= self.due:
            if self.error:
                print(f"{self.error}; tried again", flush=True)
            if self.thread is None:
                self.there.write(CLAIM, self.claim)
            scratch = Path(tempfile.mkdtemp(dir=self.folder.parent))
            moment = self._now(scratch)
            self.thread = threading.Thread(target=self._copy, args=(moment, scratch), daemon=True)
            self.thread.start()

    def end(self) -> None:
        """Copy all that is left, of what was claimed.  Raises UserError where it cannot be, or is another's by now."""
        if self.thread is None:
            return
        self.thread.join()
        for _ in range(2):  # what failed once may have been the network
            if self.other is None:
                scratch = Path(tempfile.mkdtemp(dir=self.folder.parent))
                self._copy(self._now(scratch), scratch)
                if self.error is None:
                    break
        if error := self.other or self.error:
            raise error
        self.there.remove(CLAIM)

    def _now(self, scratch: Path) -> _Moment:
        changed: dict[str, tuple[Path, State]] = {}
        files = dict(self._files())
        for name, path in files.items():
            with contextlib.suppress(FileNotFoundError):  # a worker's checkpoint, which it has replaced just now
                state, beside = _state(path), scratch / str(len(changed))
                if self.known.get(name) != state:
                    _second_name(path, beside)
                    changed[name] = (beside, state)
        journal = self.folder / JOURNAL
        gone = [name for name in self.known if name not in files]
        return _Moment(changed, journal.stat().st_size if journal.exists() else 0, gone)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """What is carried, by its name in the study, but for the journal."""
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if name != JOURNAL and brought.is_ours(name) and path.is_file():
                yield name, path

    def _copy(self, moment: _Moment, scratch: Path) -> None:
        began = time.monotonic()
        try:
            self._write(moment)
        except _Another as error:
            self.other = error
        except (UserError, OSError) as error:
            self.error = error if isinstance(error, UserError) else TrainingError(f"{self.folder}: {error}")
        else:
            self.error = None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            now = time.monotonic()
            self.due = now + max(EVERY, SHARE * (now - began))

    def _write(self, moment: _Moment) -> None:
        self._must_be_ours()
        for name, (path, state) in moment.changed.items():
            if name != ABOUT:
                self.there.write(name, self._meant(path.read_bytes(), name))
                self.known[name] = state
        if moment.journal != self.told:
            with (self.folder / JOURNAL).open("rb") as file:
                journal = file.read(moment.journal)
            self._must_be_ours()
            self.there.write(JOURNAL, journal)
            self.told = moment.journal
        if ABOUT in moment.changed:  # it makes a study of the folder
            path, state = moment.changed[ABOUT]
            self.there.write(ABOUT, path.read_bytes())
            self.known[ABOUT] = state
        for name in moment.gone:
            self.there.remove(name)
            self.known.pop(name)

    def _meant(self, content: bytes, name: str) -> bytes:
        """What a file says of the folder here is meant of the one there, which stays."""
        if not name.endswith(TEXTS):
            return content
        return content.replace(str(self.folder).encode(), self.there.path.encode())

    def _must_be_ours(self) -> None:
        at, claim = f"{self.there.at}: {self.there.path}", self.there.read(CLAIM)
        if claim is None:
            self.known, self.told = {}, 0
            self.there.write(CLAIM, self.claim)
            raise TrainingError(f"{at}: what lay there has been taken away")
        if claim != self.claim:
            remedy = "this one ends; give output_dir=ANOTHER_FOLDER for one of its own"
            raise _Another(f"{at}: another search goes on with this study now; {remedy}")


@contextlib.contextmanager
def carried(there: Folder, name: str) -> Iterator[Carried]:
    """A study of this name that is worked on here, and lies `there` in the end, come what may.

    Raises TrainingError where it cannot be carried there; then it stays here, and the error says where.
    """
    scratch = Path(tempfile.mkdtemp(prefix="alphard-"))
    this = Carried(there, scratch / name)
    try:
        this.fetch()
        try:
            with brought.named(this.folder, there.path):
                yield this
        except BaseException as error:
            _end(this, error)
            raise
        _end(this, None)
    finally:
        if this.error is None:
            shutil.rmtree(scratch, ignore_errors=True)


def _end(this: Carried, raised: BaseException | None) -> None:
    """Copy what is left; what goes wrong in it is said, and takes not the place of what was raised before."""
    with signals.held():
        try:
            this.end()
        except UserError as error:
            how = rescue.copying(this.folder, this.there)
            where = f"\n  the study lies in {this.folder}; when it can be written: {how}" if this.error else ""
            if raised is None:
                raise TrainingError(f"{error}{where}") from error
            if error is not raised:
                print(f"{error}{where}", flush=True)


def _state(path: Path) -> State:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _second_name(path: Path, beside: Path) -> None:
    """The file under another name, which stays whatever becomes of the first."""
    try:
        os.link(path, beside)
    except FileNotFoundError:
        raise
    except OSError:  # a disk without links
        shutil.copyfile(path, beside)
