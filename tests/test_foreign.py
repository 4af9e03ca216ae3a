"""A config folder of somebody else's runs no code: what reaches Hydra's own node in it is refused before Hydra starts."""

import os
import shutil
from pathlib import Path

import pytest

from alphard import foreign
from alphard.errors import UserError
from alphard.hydra_seam import command_line
from tests.conftest import ROOT, run_train

pytestmark = pytest.mark.hydra

CONFIGS = ROOT / "configs"
TOUCH = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [CANARY]}}"
FACTORY = r"{version: 1, root: {level: INFO}, filters: {x: {(): os.mkdir, path: CANARY}}, formatters: {}, handlers: {}}"

# Each is a folder, as its files by their names: all that follows `config.yaml` runs code on plain Hydra 1.3, or would
# with what the rest of the folder could hold.
ATTACKS = {
    "callbacks": {"config.yaml": f"hydra: {{callbacks: {{x: {TOUCH}}}}}"},
    "quoted and escaped": {"config.yaml": f'"\\x68ydra": {{"callback\\x73": {{x: {TOUCH}}}}}'},
    "anchors": {"config.yaml": f"a: &a {{callbacks: {{x: {TOUCH}}}}}\nhydra: *a"},
    "merge keys": {"config.yaml": f"a: &a {{callbacks: {{x: {TOUCH}}}}}\nhydra: {{<<: *a}}"},
    "an interpolation": {"config.yaml": f"a: {{callbacks: {{x: {TOUCH}}}}}\nhydra: ${{a}}"},
    "an interpolation below": {"config.yaml": f"a: {{x: {TOUCH}}}\nhydra: {{callbacks: '${{a}}'}}"},
    "job_logging": {"config.yaml": f"hydra: {{job_logging: {FACTORY}}}"},
    "hydra_logging": {"config.yaml": f"hydra: {{hydra_logging: {FACTORY}}}"},
    "a handler's class": {"config.yaml": "hydra: {job_logging: {handlers: {x: {class: os.mkdir}}}}"},
    "launcher": {"config.yaml": f"hydra: {{launcher: {{x: {TOUCH}}}}}"},
    "sweeper": {"config.yaml": f"hydra: {{sweeper: {{_target_: mine.Sweeper, x: {TOUCH}}}}}"},
    "sweeper's params": {"config.yaml": "hydra: {sweeper: {params: {+hydra.job_logging.filters: 1}}}"},
    "searchpath": {"config.yaml": "hydra: {searchpath: ['file://elsewhere']}"},
    "env_set": {"config.yaml": "hydra: {job: {env_set: {LD_PRELOAD: x.so}}}"},
    "overrides": {"config.yaml": "hydra: {overrides: {task: ['+hydra.callbacks.x=1']}}"},
    "aliases": {"config.yaml": "hydra: {aliases: {lr: hydra.callbacks.x}}"},
    "a group's file, globally": {
        "config.yaml": "defaults: [a: b]",
        "a/b.yaml": f"# @package _global_\nhydra: {{callbacks: {{x: {TOUCH}}}}}",
    },
    "a package header": {"config.yaml": "defaults: [a: b]", "a/b.yaml": f"# @package hydra.callbacks\nx: {TOUCH}"},
    "a package header, spaced": {
        "config.yaml": "defaults: [a: b]",
        "a/b.yaml": f"\n #  @package   hydra\ncallbacks: {{x: {TOUCH}}}",
    },
    "a global package header": {"config.yaml": "{}", "a/b.yaml": f"# @package _global_.hydra.callbacks\nx: {TOUCH}"},
    "a package in the defaults": {"config.yaml": "defaults: [a@hydra.callbacks: b]", "a/b.yaml": f"x: {TOUCH}"},
    "a global package in the defaults": {
        "config.yaml": "defaults: [a@_global_.hydra.callbacks: b]",
        "a/b.yaml": f"x: {TOUCH}",
    },
    "a file in the defaults": {"config.yaml": "defaults: [b@hydra.callbacks]", "b.yaml": f"x: {TOUCH}"},
    "a package from an interpolation": {"config.yaml": "defaults: [{'a@${b}': c}]", "a/c.yaml": f"x: {TOUCH}"},
    "a folder called hydra": {"config.yaml": "defaults: [hydra/callbacks: b]", "hydra/callbacks/b.yaml": f"x: {TOUCH}"},
    "a launcher's option": {
        "config.yaml": "defaults: [override hydra/launcher: b]",
        "hydra/launcher/b.yaml": f"x: {TOUCH}",
    },
    "a logging option": {
        "config.yaml": "defaults: [override hydra/job_logging: plain]",
        "hydra/job_logging/plain.yaml": FACTORY,
    },
    "an option by an interpolation": {"config.yaml": "defaults: [{override hydra/job_logging: '${a}'}]"},
    "an option in another package": {"config.yaml": "defaults: [hydra/job_logging@hydra.callbacks: none]"},
    "a way out": {"config.yaml": "defaults: [../elsewhere/b]"},
    "a group's way out": {"config.yaml": "defaults: [a: ../../elsewhere/b]", "a/b.yaml": "{}"},
    "a way to the root": {"config.yaml": "defaults: [//tmp/elsewhere/b]"},
    "a group's way to the root": {"config.yaml": "defaults: [/: tmp/elsewhere/b]"},
    "a resolver in the defaults": {"config.yaml": "defaults: [{a: '${oc.env:HOME}'}]"},
    "deep": {"config.yaml": "{}", "a/b/c/d.yaml": f"hydra: {{callbacks: {{x: {TOUCH}}}}}"},
    "the old ending": {"config.yaml": "{}", "a/b.yml": f"hydra: {{callbacks: {{x: {TOUCH}}}}}"},
}


def fill(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files, in which CANARY stands for a path beside it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("CANARY", str(folder.parent / "canary")))
    return folder


def said_of(*words: str) -> list[str]:
    """What is wrong with the folders of a command line."""
    try:
        foreign.refuse(command_line(words), CONFIGS)
    except UserError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("flag", ["--config-path", "--config-dir", "-cd", "--config-d", "hydra.searchpath"])
def test_what_reaches_hydras_node_is_refused(name: str, flag: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "theirs", ATTACKS[name])
    words = [f"hydra.searchpath=[file://{folder}]"] if flag == "hydra.searchpath" else [flag, str(folder)]
    said = said_of(*words)
    assert said, name
    assert all(text.startswith(words[0]) or str(folder) in text for text in said)
    assert any(remedy in text for text in said for remedy in ("leave it out", "name a file in it"))


@pytest.mark.parametrize("name", ["callbacks", "job_logging", "a package in the defaults", "a folder called hydra"])
def test_train_py_runs_nothing_of_it(name: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "theirs", ATTACKS[name])
    done = run_train(tmp_path, f"--config-path={folder}", "--config-name=config")
    assert done.status == 2
    assert "can run code before the config is checked" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


def test_a_sweep_runs_nothing_of_it(tmp_path: Path) -> None:
    option = f"# @package _global_\nhydra: {{job_logging: {FACTORY}}}"
    folder = fill(tmp_path / "theirs", {"experiment/good.yaml": "{}", "experiment/bad.yaml": option})
    done = run_train(tmp_path, "-m", f"--config-dir={folder}", "experiment=good,bad")
    assert done.status == 2
    assert "experiment/bad.yaml: hydra.job_logging" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


# What is nobody's harm


def test_a_copy_of_our_configs_passes(tmp_path: Path) -> None:
    copy = shutil.copytree(CONFIGS, tmp_path / "mine")
    assert said_of(f"--config-path={copy}") == []
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    assert said_of(f"--config-path={copy}") == []
    assert said_of(f"--config-path={CONFIGS}") == said_of("--config-path=configs") == []


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {run: {dir: 'out/${now:%H}'}, sweep: {dir: x, subdir: '${hydra.job.num}'}, output_subdir: null}",
        "hydra: {job: {name: x, chdir: true}, verbose: [mine], mode: MULTIRUN, callbacks: {}, searchpath: []}",
        "defaults: [_self_, data: digits, optional local: mine, override hydra/job_logging: none, /model@net: mlp]",
        "defaults: [{a: '${data}'}, '${data}_${model}', {a/b@_global_: [c, d]}, {e: null}]",
        "model: {hydra: {callbacks: 1}}\nnote: 'hydra callbacks'",
        "run: '${hydra:runtime.cwd}'\nhydra_note: 1",
        "not: [yaml",
        "- a list",
        "",
    ],
)
def test_what_a_run_may_be_told_passes(text: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "theirs", {"config.yaml": text})
    assert said_of(f"--config-path={folder}") == []


def test_a_runs_own_hydra_folder_passes_unless_it_is_asked_for_hydras_node(tmp_path: Path) -> None:
    files = {"config.yaml": "seed: 1", "hydra.yaml": f"hydra: {{callbacks: {{x: {TOUCH}}}}}", "overrides.yaml": "[]"}
    folder = fill(tmp_path / ".hydra", files)
    assert said_of(f"--config-path={folder}", "--config-name=config") == []
    assert said_of(f"--config-path={folder}", "--config-name=hydra") != []
    fill(folder, {"config.yaml": "defaults: [hydra@_global_]"})
    assert said_of(f"--config-path={folder}", "--config-name=config") != []


def test_a_folder_too_large_to_look_through_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MOST_YAML", 3)
    folder = fill(tmp_path / "theirs", {f"{number}.yaml": "defaults: []" for number in range(5)})
    (problem,) = said_of(f"--config-path={folder}")
    assert "name a folder of configs alone" in problem


def test_links_are_followed(tmp_path: Path) -> None:
    away = fill(tmp_path / "away", ATTACKS["callbacks"])
    folder = fill(tmp_path / "theirs", {"config.yaml": "{}"})
    (folder / "a").symlink_to(away)
    (folder / "loop").symlink_to(folder)
    assert any("a/config.yaml" in text for text in said_of(f"--config-path={folder}"))


def test_the_folder_is_the_one_that_hydra_takes(tmp_path: Path) -> None:
    """Hydra takes `..` out of a relative --config-path by its text, and leaves an absolute one to the system."""
    deep = fill(tmp_path / "there/deep", {"config.yaml": "{}"})
    fill(tmp_path / "there/theirs", ATTACKS["callbacks"])
    (tmp_path / "link").symlink_to(deep)
    assert said_of(f"--config-path={tmp_path}/link/../theirs") != []
    relative = os.path.relpath(tmp_path, ROOT)
    assert said_of(f"--config-path={relative}/link/../there/theirs") != []


@pytest.mark.parametrize(
    "word",
    [
        "experiment=../../x",
        "+experiment=[titanic,../x]",
        "data@x=../y",
        "+a/b=..",
        "model='../x'",
        r"model=$\{oc.env\:X\}",
    ],
)
def test_a_group_stays_in_its_folder(word: str) -> None:
    (problem,) = said_of(word)
    assert problem.startswith(f"{word}: names a file outside its group")


@pytest.mark.parametrize(
    "word", ["output_dir=../x", "data.path=../rows.csv", "+note='a..b'", "output_dir=${oc.env:HOME}"]
)
def test_a_value_may_name_any_path(word: str) -> None:
    assert said_of(word) == []
