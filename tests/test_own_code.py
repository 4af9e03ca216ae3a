"""The README's own models, as it writes them, in a copy of the project."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment
from tests.readme import copy_of_the_project

README = (ROOT / "README.md").read_text()
FILES = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", README, re.DOTALL)
LINES = re.findall(r"^\$ python (train\.py model=.*)$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the README's files in it."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("project"))
    for name, text in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def call(project: Path, line: str) -> subprocess.CompletedProcess[str]:
    """`python LINE` in the copy, whose packages come before the installed ones."""
    overlay = environment().get("PYTHONPATH")
    where = environment(PYTHONPATH=":".join(filter(None, [str(project / "src"), overlay])))
    command = [sys.executable, *line.split()]
    return subprocess.run(command, cwd=project, env=where, capture_output=True, text=True, check=False)


def test_the_readme_has_both_ways_and_a_search() -> None:
    assert len(FILES) == 5
    assert len(LINES) == 2


@pytest.mark.hydra
@pytest.mark.parametrize("line", [LINES[0], *(pytest.param(line, marks=pytest.mark.more) for line in LINES[1:])])
def test_an_own_model_trains(line: str, project: Path) -> None:
    done = call(project, f"{line} output_dir=out-{LINES.index(line)}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((project / f"out-{LINES.index(line)}/metrics.json").read_text())
    assert metrics["final_val_accuracy"] > 0.85
    assert 0.9 < metrics["validation_auroc"] <= 1


@pytest.mark.more
def test_an_own_models_mistakes_are_named(project: Path) -> None:
    done = call(project, "train.py model=wide model.net.width=wide +model.net.depth=3")
    assert done.returncode == 2
    assert "model.net.width: 'wide'" in done.stderr
    assert "model.net.depth: mine.Wide takes no such argument" in done.stderr


@pytest.mark.more
def test_an_exception_in_own_code_names_its_line(project: Path) -> None:
    (project / "src/mine/broken.py").write_text(
        "from mine import Wide\n\n\nclass Broken(Wide):\n    def forward(self, x):\n        return self.shortcut(x[:, :3])\n"
    )
    done = call(project, "train.py model=wide model.net._target_=mine.broken.Broken output_dir=broken")
    assert done.returncode == 1
    assert done.stderr.startswith("error: RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert "src/mine/broken.py:6" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.more
def test_a_name_outside_is_not_reached_through_an_own_package(project: Path) -> None:
    (project / "src/mine/alias.py").write_text("from os import system\n")
    done = call(project, "train.py model=wide model.net._target_=mine.alias.system")
    assert done.returncode == 2
    assert "alias" in done.stderr
    assert "not trusted" in done.stderr


@pytest.mark.more
def test_the_readmes_search_is_sound(project: Path) -> None:
    command = [str(Path(sys.executable).with_name("alphard")), "check", "search=mine"]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "and of 5 dimensions to search" in done.stdout


@pytest.mark.more
def test_a_model_that_ends_its_process_is_tried_once_more_and_the_search_goes_on(project: Path) -> None:
    (project / "src/mine/quits.py").write_text(
        "import os\n\nfrom mine import Wide\n\n\nclass Quits(Wide):\n"
        "    def forward(self, x):\n"
        "        os._exit(3) if self.hidden[0].out_features == 13 and self.training else None\n"
        "        return super().forward(x)\n"
    )
    (project / "configs/model/quits.yaml").write_text(
        "_target_: alphard.models.Classifier\nnet: {_target_: mine.quits.Quits, _partial_: true, width: 8}\n"
        "optimizer: ${optimizer}\nscheduler: ${scheduler}\n"
    )
    line = "train.py search=mine model=quits model.net.width=8,13,16 search.algorithm=grid search.parallel=1 epochs=1"
    line += " learning_rate=0.01 batch_size=64 optimizer=adamw threads=1 search.pruner.kind=none"
    done = call(project, line)
    assert done.returncode == 0, done.stderr
    assert "trial 1: its process ended, status 3; it is tried once more" in done.stdout, done.stdout
    assert "its process ended 2 times without a word, the last time with status 3" in done.stdout
    assert "3 (2 complete, 1 failed)" in done.stdout
