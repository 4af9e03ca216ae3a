"""The `alphard` command's skeleton, and `alphard check`."""

import subprocess
import sys
from pathlib import Path

import pytest

from alphard.cli import SUBCOMMANDS, main
from tests.conftest import ROOT


def test_help_lists_every_subcommand_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, (_, _, example) in SUBCOMMANDS.items():
        assert f"  {name}" in said
        assert example in said


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_an_example_is_a_line_of_the_subcommand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert SUBCOMMANDS[name][2].startswith(f"alphard {name}")
    assert main([name, "--help"]) == 0
    assert SUBCOMMANDS[name][2] in capsys.readouterr().out


def test_a_misspelt_subcommand_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chek"]) == 2
    assert "`check`" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, alphard.cli; alphard.cli.main(['--help']); sys.exit(bool({'torch', 'hydra'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_check_tells_every_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["check", "learning_rat=1", "epochs=0"]) == 2
    said = capsys.readouterr().err
    assert "`learning_rate`" in said
    assert "epochs: 0" in said
    assert main(["check", "model=linear"]) == 0


def test_check_outside_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 2
    assert "configs/config.yaml" in capsys.readouterr().err
