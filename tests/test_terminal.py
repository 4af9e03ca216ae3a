"""On a terminal: a bar while training lasts, and only the final lines."""

import os
import pty
import re
import select
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, WARM, environment
from tests.warm import run_forked


def seen_on_a_terminal(folder: Path, *arguments: str) -> str:
    """What `python train.py ARGUMENTS` writes to a terminal, escape sequences and all."""
    terminal, its_side = pty.openpty()
    said = folder / "said"
    said.mkdir()
    for name in ("out", "err"):
        (said / name).symlink_to(os.ttyname(its_side))
    where = environment(TERM="xterm", COLUMNS="100")
    process = WARM.Process(target=run_forked, args=(str(ROOT / "train.py"), arguments, str(folder), where, str(said)))
    process.start()
    until = time.monotonic() + 60
    while process.is_alive() and not select.select([terminal], [], [], 0.05)[0]:  # until it has opened its side
        assert time.monotonic() < until
    os.close(its_side)
    seen = b""
    while True:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
    os.close(terminal)
    process.join(30)
    assert process.exitcode == 0, seen.decode()
    return seen.decode()


def test_a_bar_and_the_final_lines(tmp_path: Path) -> None:
    seen = seen_on_a_terminal(tmp_path, "epochs=4", "output_dir=out")
    log = (tmp_path / "out/training.log").read_text()
    assert "4/4" in seen
    assert "epoch: 1" not in seen
    assert seen.count("validation_accuracy: 0.") == 1
    assert seen.rstrip().splitlines()[-1].startswith("validation_accuracy: 0.")
    assert "\x1b" not in log  # a bar's redrawing is nothing for a log
    assert log.splitlines()[-1] == seen.rstrip().splitlines()[-1].strip()


@pytest.mark.more
def test_a_search_shows_its_running_trials_and_then_the_result(tmp_path: Path) -> None:
    seen = seen_on_a_terminal(tmp_path, "search=mlp", "search.trials=3", "epochs=3", "data.fraction=0.3", "threads=1")
    assert "of 3 trials" in seen
    assert re.search(r"best 0\.\d{6} in trial \d", seen)
    assert "[1/3]" not in seen
    assert seen.rstrip().splitlines()[-1].startswith("validation_accuracy: 0.")
