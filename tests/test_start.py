"""From the command line to the first import of torch: what train.py does before a config is checked."""

import gc
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from alphard import imported
from tests.conftest import ROOT, environment, run_train

pytestmark = pytest.mark.hydra

# What numpy does with a signal that comes while it is imported: the exception is caught, another is raised.
SWALLOWS = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            try:
                os.kill(os.getpid(), signal.{name})
            except BaseException:
                raise ImportError("cannot load module more than once per process")

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("more", [[], ["-m", "seed=0,1"]])
def test_a_signal_that_an_import_swallows_still_ends_the_command(
    name: str, status: int, more: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SWALLOWS.format(name=name))
    work = tmp_path / "work"
    work.mkdir()
    overlay = [part for part in sys.path if part.endswith("hydra-1.4")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *more],
        cwd=work,
        env=environment(PYTHONPATH=":".join([str(tmp_path), *overlay])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, f"stopped by {name}\n")
    assert not list(work.iterdir())


def test_a_run_repeats_from_its_config_however_often_its_own_line_is_passed_on(tmp_path: Path) -> None:
    """Lightning starts its other processes with the words that train.py added to its own line."""
    (tmp_path / "theirs").mkdir()
    copy = (ROOT / "configs/config.yaml").read_text()
    (tmp_path / "theirs/config.yaml").write_text("seed: 1\n" + copy.partition("hydra:")[0].partition("seed: 0")[2])
    words = [
        "--config-path",
        str(tmp_path / "theirs"),
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "epochs=0",
    ]
    done = run_train(tmp_path, *words)
    assert done.status == 2
    assert "epochs: 0: should be greater" in done.err


def test_overrides_before_and_behind_a_flag_stay_in_one_piece(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    for words in (["epochs=0", "--config-path", str(tmp_path)], [f"--config-path={tmp_path}", "epochs=0"]):
        done = run_train(tmp_path, *words)
        assert done.status == 2
        assert "epochs: no such key" in done.err or "Could not override 'epochs'" in done.err


# After alphard.run has been imported: what of scipy is there; then what somebody finds who wants it after all.
LOOKED_FOR = """
import sys
import alphard.run
import torchmetrics
print("scipy.optimize" in sys.modules, "scipy.signal" in sys.modules)
import scipy.signal
from scipy.signal import firwin
print(scipy.signal is sys.modules["scipy.signal"], scipy.signal.firwin is firwin)
"""
# As a package does that torchmetrics imports where it is installed.
WANTED = """
import sys
import scipy
from alphard import unpatched
waiting = sys.modules["scipy.signal"] = unpatched._Waiting("scipy.signal")
from scipy.signal.windows import boxcar
from scipy.signal import firwin
import scipy.signal
print(boxcar(3).tolist(), firwin is scipy.signal.firwin, sys.modules["scipy.signal"] is not waiting)
"""


@pytest.mark.more
def test_a_run_starts_without_scipys_signals_and_leaves_them_whole() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKED_FOR], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False False\nTrue True\n", "")


def test_who_wants_them_while_another_stands_for_them_has_them() -> None:
    done = subprocess.run([sys.executable, "-c", WANTED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[1.0, 1.0, 1.0] True True\n", "")


def test_ready_numbers_are_read_without_pandas_and_columns_with_it() -> None:
    words = (
        "import sys, alphard.run, alphard.data as d; print('pandas' in sys.modules, d.Csv.__name__, hasattr(d, 'x'))"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False Csv False\n", "")


def test_what_is_imported_for_good_is_not_collected_and_what_comes_after_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brought.py").write_text("import gc\ncollecting, ring = gc.isenabled(), []\nring.append(ring)\n")
    (tmp_path / "torn.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    gc.unfreeze()
    try:
        with imported.for_good():
            brought = importlib.import_module("brought")
        assert not brought.collecting
        assert gc.isenabled()
        assert gc.get_freeze_count()
        gc.unfreeze()
        with imported.for_good():  # the next job of a multirun imports nothing; what is left of the last may go
            importlib.import_module("brought")
        assert not gc.get_freeze_count()
        with pytest.raises(ZeroDivisionError), imported.for_good():
            importlib.import_module("torn")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
