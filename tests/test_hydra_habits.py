"""Hydra as people know it, and not slower for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, Train, environment, run_train

pytestmark = pytest.mark.hydra


@pytest.mark.parametrize("flag", ["--help", "--cfg=job"])
def test_looking_imports_no_torch(flag: str, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *flag.split("=")]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "alphard.guard" in modules
    assert not modules & {"torch", "numpy", "pandas", "sklearn", "pytorch_lightning"}
    assert "learning_rate" in done.stdout
    assert not list(tmp_path.iterdir())


def test_cfg_job_prints_the_composed_config(train: Train) -> None:
    done = train("--cfg", "job", "optimizer=sgd", "learning_rate=0.5")
    assert done.status == 0, done.err
    config = yaml.safe_load(done.out)
    assert config["optimizer"]["_target_"] == "torch.optim.SGD"
    assert config["learning_rate"] == 0.5


def test_tab_completion_knows_groups_and_keys(train: Train) -> None:
    done = train("-sc", "query=bash", COMP_LINE="train.py data=", COMP_POINT="14")
    assert {"data=digits", "data=npz", "data=csv"} <= set(done.out.split())


@pytest.mark.parametrize("path", sorted((ROOT / "configs/experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_opens_with_its_command_its_time_and_its_score(path: Path) -> None:
    head = path.read_text().split("defaults:")[0]
    assert f"python train.py experiment={path.stem}" in head
    assert "seconds" in head
    assert "expect" in head


def test_a_local_config_is_taken_where_there_is_one(tmp_path: Path) -> None:
    local = tmp_path / "configs/local"
    local.mkdir(parents=True)
    (local / "default.yaml").write_text("# @package _global_\nepochs: 77\n")
    for path in (ROOT / "configs").iterdir():
        if path.name != "local":
            (tmp_path / "configs" / path.name).symlink_to(path)
    (tmp_path / "train.py").write_text((ROOT / "train.py").read_text())
    command = [sys.executable, str(tmp_path / "train.py"), "--cfg", "job"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert yaml.safe_load(done.stdout)["epochs"] == 77


@pytest.mark.more
def test_lightning_is_silent_and_a_users_warning_is_not(tmp_path: Path) -> None:
    names = "\n".join(f"name{i},{i % 2},{i}.5" for i in range(60))
    (tmp_path / "rows.csv").write_text(f"name,label,x\n{names}\n")
    done = run_train(tmp_path, "data=csv", "data.path=rows.csv", "data.target=label", "epochs=1", cold=True)
    assert done.status == 0, done.err
    (said,) = done.err.splitlines()
    assert said.startswith("warning: data.path: column name has 36 values in 36 rows")
    assert "GPU available" not in done.err + done.out


def test_any_argument_of_lightnings_trainer_is_reachable(train: Train) -> None:
    done = train(
        "+trainer.max_steps=23", "+trainer.gradient_clip_val=1.0", "+trainer.limit_val_batches=1.0", "output_dir=out"
    )
    assert done.status == 0, done.err
    assert "gradient_clip_val: 1.0" in (done.folder / "out/config.yaml").read_text()


def test_hydra_is_the_version_that_this_suite_was_called_for() -> None:
    import hydra

    overlaid = "hydra-1.4" in os.environ.get("PYTHONPATH", "")
    assert hydra.__version__.startswith("1.4" if overlaid or sys.version_info >= (3, 14) else "1.3")
