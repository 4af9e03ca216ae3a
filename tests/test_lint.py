"""The Dockerfile and the shell scripts pass their linters, as Python passes ruff."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("*.sh", ".ci/*", "benchmarks/**/*", "tests/**/*", "vertex_ai/**/*")
LINTERS = (["shellcheck"], ["shfmt", "--diff", "--indent=2"])


def shell_scripts() -> list[Path]:
    """Every file of ours that a shell reads: by its name, or by its first line."""
    found = [path for place in PLACES for path in sorted(ROOT.glob(place)) if path.is_file()]
    return [path for path in found if path.suffix == ".sh" or (path.suffix == "" and _shebang(path))]


def _shebang(path: Path) -> bool:
    with path.open("rb") as file:
        return re.match(rb"#!.*\b(ba)?sh\b", file.readline()) is not None


def complaints(*command: str) -> str:
    """What a linter of this environment says; "" if nothing."""
    tool = shutil.which(command[0], path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    assert tool, f"{command[0]} is not installed: pip install -e '.[dev]'"
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr or ("" if done.returncode == 0 else f"{command[0]} exited {done.returncode}")


def test_dockerfile() -> None:
    assert complaints("hadolint", "--no-color", "Dockerfile") == ""


@pytest.mark.parametrize("linter", LINTERS, ids=lambda linter: linter[0])
@pytest.mark.parametrize("script", shell_scripts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shell_script(linter: list[str], script: Path) -> None:
    assert complaints(*linter, str(script)) == ""


def test_every_script_is_found_and_may_be_executed() -> None:
    assert ROOT / "convert_command.sh" in shell_scripts()
    assert [path for path in shell_scripts() if not os.access(path, os.X_OK)] == []
