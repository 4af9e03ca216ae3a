"""The `alphard` command's skeleton, and `alphard check`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from alphard.cli import main
from alphard.subcommands import SUBCOMMANDS
from tests.conftest import ROOT, copied


def test_help_lists_every_subcommand_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, this in SUBCOMMANDS.items():
        assert f"  {name}" in said
        assert this.example in said


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_help_lists_its_words_and_an_example_of_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    this = SUBCOMMANDS[name]
    assert f"alphard {name}" in this.example
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert this.example in said
    assert all(f"  {word}=" in said for word in this.words)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_an_example_says_no_word_that_is_not_listed(name: str) -> None:
    this = SUBCOMMANDS[name]
    said = {word.partition("=")[0] for word in this.example.split() if "=" in word}
    assert this.overrides or this.job or said <= {*this.words}


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


@pytest.mark.parametrize("words", [["check"], ["prepare", "out=there"]])
def test_a_bomb_in_the_configs_is_refused_before_they_are_composed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(tmp_path, "configs")
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    (tmp_path / "configs/experiment/bomb.yaml").write_text("# @package _global_\n" + "\n".join(lines))
    monkeypatch.chdir(tmp_path)
    assert main([*words, "experiment=bomb"]) == 2
    assert re.search(r"configs/experiment/bomb\.yaml: means more by its aliases", capsys.readouterr().err)


def test_check_outside_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 2
    assert "configs/config.yaml" in capsys.readouterr().err
