"""A study's journal: whole lines whatever process died while it wrote."""

import fcntl
import json
import subprocess
import sys

import pytest

from alphard.errors import UserError
from alphard.search import journal
from alphard.search.journal import Journal

LOGS = [{"op": n, "text": "é" * n} for n in range(20)]


@pytest.fixture
def path(tmp_path):
    Journal(tmp_path / "journal.log").append_logs(LOGS)
    return tmp_path / "journal.log"


def test_what_was_appended_is_read_from_any_line_on(path):
    one = Journal(path)
    assert list(one.read_logs(0)) == LOGS
    one.append_logs([{"op": 99}])
    assert list(one.read_logs(20)) == [{"op": 99}]
    assert list(one.read_logs(21)) == []
    assert list(Journal(path).read_logs(0)) == [*LOGS, {"op": 99}]


def test_a_write_torn_at_any_byte_costs_that_line_alone(path):
    whole = path.read_bytes()
    last = len(whole) - len(json.dumps(LOGS[-1], separators=(",", ":"))) - 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        torn = Journal(path)
        assert list(torn.read_logs(0)) == LOGS[:-1]
        torn.append_logs([{"op": 99}])
        assert list(torn.read_logs(19)) == [{"op": 99}]
        assert list(Journal(path).read_logs(0)) == [*LOGS[:-1], {"op": 99}]


def test_another_process_sees_a_torn_line_as_nothing_until_it_is_mended(path):
    reader = Journal(path)
    assert list(reader.read_logs(0)) == LOGS
    with path.open("ab") as file:
        file.write(b'{"op":')
    assert list(reader.read_logs(20)) == []
    Journal(path).append_logs([{"op": 99}])
    assert list(reader.read_logs(20)) == [{"op": 99}]


def test_what_is_held_is_read_at_once_here_and_elsewhere_in_one_piece(path):
    one, other = Journal(path), Journal(path)
    with one.held():
        one.append_logs([{"op": 20}])
        with one.held():
            one.append_logs([{"op": 21}, {"op": 22}])
        assert list(one.read_logs(0)) == [*LOGS, {"op": 20}, {"op": 21}, {"op": 22}]
        assert list(one.read_logs(22)) == [{"op": 22}]
        assert list(one.read_logs(23)) == []
        assert list(other.read_logs(0)) == LOGS
    assert list(other.read_logs(20)) == [{"op": 20}, {"op": 21}, {"op": 22}]
    other.append_logs([{"op": 23}])
    assert list(one.read_logs(21)) == [{"op": 21}, {"op": 22}, {"op": 23}]


def test_what_another_appended_before_a_hold_comes_before_what_is_held(path):
    one, other = Journal(path), Journal(path)
    assert list(one.read_logs(0)) == LOGS
    other.append_logs([{"op": 20}])
    with one.held():
        one.append_logs([{"op": 21}])
        assert list(one.read_logs(20)) == [{"op": 20}, {"op": 21}]
        assert list(one.read_logs(21)) == [{"op": 21}]
    assert list(Journal(path).read_logs(0)) == [*LOGS, {"op": 20}, {"op": 21}]


def test_what_was_held_is_written_though_an_error_ends_it(path):
    one = Journal(path)

    def fail() -> None:
        with one.held():
            one.append_logs([{"op": 20}])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(Journal(path).read_logs(0)) == [*LOGS, {"op": 20}]


def test_a_process_killed_while_it_holds_has_written_nothing_and_holds_no_longer(path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom alphard.search.journal import Journal\n"
        "one = Journal(Path(sys.argv[1]))\nwith one.held():\n"
        "    one.append_logs([{'op': 99}])\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
    Journal(path).append_logs([{"op": 20}])
    assert list(Journal(path).read_logs(0)) == [*LOGS, {"op": 20}]


def test_a_lock_ends_with_its_process(path):
    code = "import fcntl,sys,time; f=open(sys.argv[1]); fcntl.flock(f,2); print('held',flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
        Journal(path).append_logs([{"op": 99}])
    assert len(path.read_text().splitlines()) == 21


def test_a_lock_that_is_not_let_go_is_an_error(path, monkeypatch):
    monkeypatch.setattr(journal.lock, "__defaults__", (0.1,))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"search\.storage: .*locked by another process"):
            Journal(path).append_logs([{"op": 99}])


def test_a_line_that_is_no_json_is_named(path):
    path.write_bytes(path.read_bytes() + b"what is this\n")
    with pytest.raises(UserError, match=r"journal\.log:21"):
        list(Journal(path).read_logs(0))
