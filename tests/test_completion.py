"""Tab: what a shell completes of an `alphard` line, asked of it and seen in real shells."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alphard import completion
from alphard.cli import main
from alphard.subcommands import SUBCOMMANDS
from tests.conftest import ROOT, environment
from tests.container.engine import debian


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("re", ["rehearse", "results", "retrain"]),
        ("xyz", []),
        ("check da", ["data="]),
        ("check data=b", ["data=breast_cancer"]),
        ("check experiment=", ["experiment=titanic", "experiment=titanic_lesson"]),
        ("check se", ["search=", "seed="]),
        ("check model.net.d", ["model.net.dropout="]),
        ("check data=csv data.t", ["data.target=", "data.test_fraction="]),
        ("check score_test=", ["score_test=false", "score_test=true"]),
        ("check learning_rate=0", []),
        ("submit mach", ["machine_type="]),
        ("image b", ["base=", "build"]),
        ("image build d", ["dirty=", "disk=", "dry_run="]),
        ("retrain studies/mlp see", ["seed=", "seeds="]),
        ("retrain studies/mlp baselines=t", ["baselines=true"]),
        ("completion z", ["zsh"]),
        ("none --he", []),
        ("wait --he", ["--help"]),
    ],
)
def test_words_that_may_follow(line: str, found: list[str]) -> None:
    *before, prefix = line.split(" ")
    assert completion.complete(before, prefix) == found


def test_all_that_is_offered_of_a_line_may_be_said() -> None:
    for name, this in SUBCOMMANDS.items():
        offered = completion.complete([name], "")
        assert {f"{word}=" for word in this.words} <= {*offered}
        assert ("learning_rate=" in offered) == this.overrides
        assert ("price_per_hour=" in offered) == this.job


def test_studies_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies/mine-mlp").mkdir(parents=True)
    (tmp_path / "studies/mlp").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completion.complete(["results"], "studies/") == ["studies/mine-mlp", "studies/mlp"]
    assert completion.complete(["retrain"], "studies/ml") == ["studies/mlp"]
    assert completion.complete(["check"], "da") == []  # outside a project


def test_no_torch_is_loaded_for_a_tab() -> None:
    code = "import sys; from alphard import completion; completion.complete(['check'], ''); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_shell_of_another_kind_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsh"]) == 2
    assert "give bash or zsh; did you mean `bash`?" in capsys.readouterr().err


def typed(command: list[str], lines: list[str], until: str) -> str:
    """What an interactive shell has on its terminal once `until` is there; fails where that never comes."""
    terminal, its_side = pty.openpty()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    where = environment(TERM="dumb", PATH=path, PS1="$ ", HISTFILE="")
    process = subprocess.Popen(command, cwd=ROOT, env=where, stdin=its_side, stdout=its_side, stderr=its_side)
    os.close(its_side)
    seen, end = "", time.monotonic() + 120
    try:
        for line in lines:
            os.write(terminal, line.encode())
        while until not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                seen += re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", os.read(terminal, 65536).decode(errors="replace"))
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert until in seen, seen
    return seen


@pytest.mark.more
def test_bash_completes_a_line() -> None:
    ready = ['eval "$(alphard completion bash)"\n', "alphard check data=breast\t", "epochs=five\n"]
    seen = typed(["bash", "--norc", "--noprofile", "-i"], ready, "error: epochs: 'five'")
    assert "data=breast_cancer" in seen  # and no second problem was told


@pytest.mark.more
def test_zsh_completes_a_line() -> None:
    if not shutil.which("zsh"):
        debian("zsh")
    ready = ['eval "$(alphard completion zsh)"\n', "alphard check data=breast\t", "epochs=five\n"]
    seen = typed(["zsh", "-f", "-i"], ready, "error: epochs: 'five'")
    assert "data=breast_cancer" in seen  # and no second problem was told
