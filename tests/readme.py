"""The README's console lines, and a copy of the project in which a reader would type them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, copied, environment

TEXT = (ROOT / "README.md").read_text()


def blocks(section: str) -> list[str]:
    """The console blocks below the heading `section`, up to the next of its level."""
    below = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```console\n(.*?)^```", below, re.DOTALL | re.MULTILINE)


def lines(*sections: str) -> list[str]:
    """What is typed in these sections, line by line."""
    found = (re.findall(r"^\$ (.*)$", block, re.MULTILINE) for section in sections for block in blocks(section))
    return [line for each in found for line in each]


def copy_of_the_project(folder: Path) -> Path:
    """What a clone has, but for tests and image."""
    return copied(folder, "configs", "src", "vertex_ai/configs", "train.py", "pyproject.toml")


def typed(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """The line as a shell with .venv active takes it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    where = environment(PATH=path, PYTHONPATH=f"{folder}/src:{os.environ.get('PYTHONPATH', '')}")
    del where["PYTHONWARNINGS"]  # a reader has none set
    return subprocess.run(["bash", "-c", line], cwd=folder, env=where, capture_output=True, text=True, check=False)
