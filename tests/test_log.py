"""training.log: what Python prints, from the beginning of the run, and nothing after its end."""

import logging
import sys
from pathlib import Path

import pytest

from alphard.log import Log


def test_what_was_said_before_the_file_was_named_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log() as log:
        print("before")
        print("aside", file=sys.stderr)
        log.open(tmp_path / "log")
        print("after")
        assert (tmp_path / "log").read_text() == "before\naside\nafter\n"  # line by line, for whoever follows it
    print("later")
    assert (tmp_path / "log").read_text() == "before\naside\nafter\n"
    assert capsys.readouterr() == ("before\nafter\nlater\n", "aside\n")


def test_a_log_that_was_never_opened_leaves_no_file(tmp_path: Path) -> None:
    with Log():
        print("refused")
    assert not list(tmp_path.iterdir())


def test_what_logging_writes_is_in_it(tmp_path: Path) -> None:
    handler = logging.StreamHandler(sys.stdout)
    logger = logging.getLogger("alphard.tests.log")
    logger.addHandler(handler)
    before = handler.stream
    with Log() as log:
        log.open(tmp_path / "log")
        logger.error("said by a logger")
    logger.removeHandler(handler)
    assert handler.stream is before
    assert (tmp_path / "log").read_text() == "said by a logger\n"


def test_a_stream_that_outlives_the_log_still_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log() as log:
        log.open(tmp_path / "log")
        kept = sys.stdout
    print("later", file=kept, flush=True)
    assert capsys.readouterr().out == "later\n"
    assert kept.encoding == sys.stdout.encoding
