"""A study in PostgreSQL, with a real server: several terminals, a kill, a lost server, and no password anywhere."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.conftest import ROOT, environment, run_alphard
from tests.container.engine import debian
from tests.ports import free_port

pytestmark = [pytest.mark.more(minutes=3), pytest.mark.timeout(900)]

PLAIN, PASSWORD = "Zwoelf/geheim", "Zwoelf%2Fgeheim"  # the password, and how a URL says it
LINE = ("search=mlp", "data.fraction=0.2", "threads=1", "epochs=3", "search.algorithm=random", "search.initial=[]")
LINE += ("search.pruner.kind=none", "search.max_failures=0")
LEFT = {"config.yaml", "eval_history.csv", "metrics.json", "model.pt", "preprocessing.skops", "training.log"}


@dataclass
class Server:
    """A PostgreSQL of this test's own, on the loopback; `user` runs it, for it refuses to be root's."""

    programs: Path
    folder: Path
    port: int
    user: str | None

    def call(self, name: str, *arguments: str) -> None:
        command = [str(self.programs / name), *arguments]
        # Its own output would keep a pipe open for as long as the server lives.
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run(command, cwd=self.folder, user=self.user, stdout=said, stderr=said, check=False)
            said.seek(0)
            assert done.returncode == 0, said.read()

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.call(
            "pg_ctl", "start", "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options
        )

    def stop(self) -> None:
        self.call("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.folder / "data"))

    def url(self, password: str | None = PASSWORD) -> str:
        who = "alphard" if password is None else f"alphard:{password}"
        return f"postgresql+psycopg://{who}@127.0.0.1:{self.port}/postgres"


def programs() -> Path:
    """Where Debian's package has them, which root is given where it is missing; elsewhere, the PATH."""
    for _ in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "none")]
        if found[-1].exists():
            return found[-1].parent
        assert os.geteuid() == 0, "PostgreSQL is not installed: install the Debian package postgresql, or run as root"
        debian("postgresql")
    raise AssertionError("Debian's package postgresql has no initdb")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    place, user = programs(), "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="alphard-postgresql-"))
    made = Server(place, folder, free_port(), user)
    try:
        (folder / "password").write_text(PLAIN)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        access = ["-U", "alphard", "-A", "scram-sha-256", f"--pwfile={folder}/password"]
        made.call("initdb", "-D", str(folder / "data"), "--no-sync", *access)
        made.start()
        yield made
    finally:
        if (folder / "data/postmaster.pid").exists():
            made.stop()
        shutil.rmtree(folder)


def start(folder: Path, out: Path, *arguments: str, **more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(ROOT / "train.py"), *LINE, *arguments]
    with out.open("w") as said:
        return subprocess.Popen(command, cwd=folder, env=environment(**more), stdout=said, stderr=said)


def has_begun(out: Path, process: "subprocess.Popen[bytes]", trials: int) -> None:
    """Wait until the search has said so many trials' ends."""
    while out.read_text().count("\n[") < trials:
        with pytest.raises(subprocess.TimeoutExpired):  # it is not over
            process.wait(0.05)


def rows(study: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((study / "trials.csv").read_text().splitlines()))


def must_not_hold_the_password(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Zwoelf" not in content, path
            assert b"geheim" not in content, path


def test_two_terminals_one_of_them_killed_end_with_exactly_the_trials(server: Server, tmp_path: Path) -> None:
    line = ("search.trials=60", "search.parallel=1", f"search.storage={server.url()}", "output_dir=both")
    outs = [tmp_path / "one.txt", tmp_path / "two.txt"]
    one, two = (start(tmp_path, out, *line) for out in outs)
    has_begun(outs[0], one, 2)
    has_begun(outs[1], two, 2)
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    assert two.wait(600) == 0, outs[1].read_text()
    found = rows(tmp_path / "both")
    assert sorted(int(row["trial"]) for row in found) == list(range(60))
    assert {row["state"] for row in found} == {"complete"}
    assert len({row["learning_rate"] for row in found}) == 60
    assert sorted(int(path.name) for path in (tmp_path / "both/trials").iterdir()) == list(range(60))
    for row in found:  # nothing is torn, of the killed one's last trial neither
        home = tmp_path / "both/trials" / row["trial"]
        assert json.loads((home / "metrics.json").read_text())["final_val_accuracy"] == float(
            row["validation_accuracy"]
        )
        assert {path.name for path in home.iterdir()} == LEFT
    must_not_hold_the_password(tmp_path)
    again = start(tmp_path, tmp_path / "again.txt", *line)
    assert again.wait(300) == 0
    said = (tmp_path / "again.txt").read_text()
    assert said.splitlines()[-1] == outs[1].read_text().splitlines()[-1]
    assert "\n[" not in said


def test_a_search_killed_is_shown_and_gone_on_with_where_the_password_is_known(server: Server, tmp_path: Path) -> None:
    line = ("search.trials=40", "search.parallel=2", "output_dir=killed")
    out = tmp_path / "out.txt"
    process = start(tmp_path, out, *line, f"search.storage={server.url()}")
    has_begun(out, process, 2)
    process.kill()
    process.wait()
    unknown = run_alphard(tmp_path, "results", "killed")
    assert unknown.status == 2
    assert "no password supplied; study.yaml keeps none: set PGPASSWORD, or write ~/.pgpass" in unknown.err
    known = {"PGPASSWORD": PLAIN}
    shown = run_alphard(tmp_path, "results", "killed", **known)
    assert shown.status == 0, shown.err
    states = {row["state"] for row in rows(tmp_path / "killed")}
    assert "interrupted" in states
    assert "running" not in states
    # Without the password in the URL it is the same storage.
    process = start(tmp_path, out, *line, f"search.storage={server.url(None)}", **known)
    assert process.wait(600) == 0, out.read_text()
    assert sorted(int(row["trial"]) for row in rows(tmp_path / "killed")) == list(range(40))
    must_not_hold_the_password(tmp_path)


def test_a_server_that_goes_away_is_one_error_and_the_line_goes_on(server: Server, tmp_path: Path) -> None:
    line = ("search.trials=40", "search.parallel=2", "output_dir=lost", "search.storage=${oc.env:STUDY_DB}")
    out = tmp_path / "out.txt"
    process = start(tmp_path, out, *line, STUDY_DB=server.url())
    has_begun(out, process, 2)
    server.stop()
    try:
        assert process.wait(300) == 1, out.read_text()
        said = out.read_text()
        assert "Traceback" not in said
        errors = [each for each in said.splitlines() if each.startswith("error: ")]
        assert len(errors) == 1
        assert errors[0].startswith("error: search.storage: ${oc.env:STUDY_DB}: ")
        assert errors[0].endswith("; the same line goes on")
        refused = start(tmp_path, out, *line, STUDY_DB=server.url())
        assert refused.wait(300) == 2
        assert "error: search.storage: ${oc.env:STUDY_DB}: cannot be opened: " in out.read_text()
    finally:
        server.start()
    process = start(tmp_path, out, *line, STUDY_DB=server.url())
    assert process.wait(600) == 0, out.read_text()
    found = rows(tmp_path / "lost")
    assert sorted(int(row["trial"]) for row in found) == list(range(40))
    assert {row["state"] for row in found} == {"complete"}
    assert "${oc.env:STUDY_DB}" in (tmp_path / "lost/study.yaml").read_text()
    must_not_hold_the_password(tmp_path)


def test_a_wrong_password_is_not_repeated(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    for url in (
        server.url("geheimnis"),
        f"postgresql+psycopg://127.0.0.1:{server.port}/x?user=alphard&password=geheimnis",
    ):
        process = start(tmp_path, out, "search.trials=1", f"search.storage='{url}'")
        assert process.wait(300) == 2
        said = out.read_text()
        assert said.count("error: ") == 1
        assert "***" in said
        assert "password authentication failed" in said
        must_not_hold_the_password(tmp_path)
    assert not (tmp_path / "studies").exists()


def test_many_that_begin_at_once_make_the_tables_once(server: Server, tmp_path: Path) -> None:
    """As machines do, which share no folder: each finds the tables that another one makes."""
    code = "import sys; from pathlib import Path; from alphard.search.storages import storage_of\n"
    code += "print('ready', flush=True); sys.stdin.read(); storage_of(Path(), sys.argv[1]).get_all_studies()"
    known = {"host": "127.0.0.1", "port": server.port, "user": "alphard", "password": PLAIN}
    with psycopg.connect(dbname="postgres", autocommit=True, **known) as connection:
        connection.execute("CREATE DATABASE fresh")
    url = server.url().replace("/postgres", "/fresh")
    command = [sys.executable, "-c", code, url]
    pipe = subprocess.PIPE
    each = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for process in each:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in each:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate(timeout=120)[1] for process in each] == [""] * 4
    assert [process.returncode for process in each] == [0] * 4
    with psycopg.connect(dbname="fresh", **known) as connection:
        assert connection.execute("SELECT count(*) FROM version_info").fetchone() == (1,)
