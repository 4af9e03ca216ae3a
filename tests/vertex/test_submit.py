"""`alphard submit`: what the job says, what is refused before anything is contacted, and what gcloud is given."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from alphard.cli import main
from tests.conftest import copied
from vertex_ai import job
from vertex_ai.client import as_message

GIVEN = ["project=p", "region=us-central1", "image=I", "base=gs://b/artifacts"]
LESSON = ["experiment=titanic_lesson", "search=titanic_lesson", "train=gs://b/data/train_data.npz"]
LESSON += ["val=gs://b/data/val_data.npz", *GIVEN, "staging=gs://b/staging"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own, to change and to call alphard in."""
    monkeypatch.chdir(copied(tmp_path, "configs", "vertex_ai/configs"))
    for name in ("AIP_MODEL_DIR", "VERTEX_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def dry(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str, str]:
    """What a dry run prints: the YAML, its first line, and stderr."""
    assert main(["submit", *words, "dry_run=true"]) == 0
    said = capsys.readouterr()
    return yaml.safe_load(said.out), said.out.splitlines()[0], said.err


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["submit", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_the_lessons_job(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body, head, said = dry(capsys, *LESSON)
    assert head.startswith(
        "# gcloud ai hp-tuning-jobs create --project=p --region=us-central1 --display-name=titanic_l"
    )
    study, trial = body["studySpec"], body["trialJobSpec"]
    assert study == {
        "metrics": [{"metricId": "validation_accuracy", "goal": "MAXIMIZE"}],
        "parameters": [
            {"parameterId": "epochs", "integerValueSpec": {"minValue": 100, "maxValue": 300}, "scaleType": "UNIT_LINEAR_SCALE"},
            {"parameterId": "learning_rate", "doubleValueSpec": {"minValue": 1e-4, "maxValue": 0.1}, "scaleType": "UNIT_LOG_SCALE"},
            {"parameterId": "patience", "integerValueSpec": {"minValue": 5, "maxValue": 20}, "scaleType": "UNIT_LINEAR_SCALE"},
            {"parameterId": "min_delta", "doubleValueSpec": {"minValue": 0.0, "maxValue": 0.01}, "scaleType": "UNIT_LINEAR_SCALE"},
        ],
    }  # fmt: skip
    assert (body["maxTrialCount"], body["parallelTrialCount"]) == (10, 2)
    (pool,) = trial["workerPoolSpecs"]
    assert pool["containerSpec"] == {
        "imageUri": "I",
        "args": ["experiment=titanic_lesson", "train=gs://b/data/train_data.npz", "val=gs://b/data/val_data.npz"],
    }
    assert trial["baseOutputDirectory"]["outputUriPrefix"].startswith(
        "gs://b/artifacts/titanic_lesson-titanic_lesson/20"
    )
    assert "10 trials, 2 at a time, each at most 6 hours: at most 60 machine hours" in said
    as_message(body, "hyperparameterTuningJobs")  # raises for what the API does not know


def test_without_a_search_a_custom_job(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *GIVEN,
        "learning_rate=0.01",
        "accelerator=NVIDIA_TESLA_T4",
        "accelerator_count=2",
        "spot=true",
        "disk=200",
    ]
    words += ["restart=false", "timeout=0.5", "labels.team=a", "environment.NAME=some value", "price_per_hour=0.5"]
    words += ["replicas=3", "trainer=ddp", "service_account=x@p.iam", "network=projects/1/global/networks/n"]
    body, head, said = dry(
        capsys, *words, "tensorboard=projects/p/locations/l/tensorboards/1", "machine_type=n1-highmem-8"
    )
    assert head.startswith("# gcloud ai custom-jobs create")
    assert "--labels=team=a" in head
    first, second = body["workerPoolSpecs"]
    assert first["machineSpec"] == {
        "machineType": "n1-highmem-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2,
    }  # fmt: skip
    assert (first["replicaCount"], second["replicaCount"]) == (1, 2)
    assert second["containerSpec"] == first["containerSpec"]
    assert first["containerSpec"]["args"] == ["learning_rate=0.01", "trainer=ddp"]
    assert first["containerSpec"]["env"] == [{"name": "NAME", "value": "some value"}]
    assert first["diskSpec"] == {"bootDiskSizeGb": 200}
    assert body["scheduling"] == {"timeout": "1800s", "strategy": "SPOT", "disableRetries": True}
    assert (body["serviceAccount"], body["network"]) == ("x@p.iam", "projects/1/global/networks/n")
    assert body["tensorboard"] == "projects/p/locations/l/tensorboards/1"
    assert "1 run, at most 0.5 hours on 3 machines: at most 1.5 machine hours, 0.75 at 0.5 an hour" in said
    as_message({"displayName": "x", "jobSpec": body}, "customJobs")


def test_own_settings_stand_in_local_yaml(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "vertex_ai/configs/local.yaml").write_text(
        "project: 123\nregion: europe-west4\nimage: i:1\nstaging: gs://bucket\nlabels: {cost: 7}\n"
    )
    body, head, _ = dry(capsys, "region=us-east1", "search=mlp", "search.trials=3", "name=mine")
    assert "--project=123 --region=us-east1" in head
    assert body["displayName"].startswith("mine-20")
    assert body["labels"] == {"cost": "7"}
    assert body["trialJobSpec"]["baseOutputDirectory"]["outputUriPrefix"].startswith("gs://bucket/alphard/mlp/20")
    assert body["maxTrialCount"] == 3


def test_the_container_trains_what_train_py_would(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the search's file and configs/local say besides travels in the arguments."""
    local = project / "configs/local/default.yaml"
    local.parent.mkdir()
    local.write_text("# @package _global_\nweight_decay: 0.5\nmodel: {net: {hidden: [32, 16]}}\noptimizer: {lr: 0.1}\n")
    search = project / "configs/search/own.yaml"
    search.write_text(
        "# @package _global_\ndefaults: [default, {override /data: breast_cancer}]\nbatch_size: 16\npatience: ${epochs}\n"
        "search: {objective: validation_loss, direction: minimize, space: {learning_rate: 'interval(0.1, 0.2)'}}\n"
    )
    body, _, _ = dry(capsys, *GIVEN, "search=own", "seed=4")
    args = body["trialJobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"]
    assert args[:2] == ["seed=4", "data=breast_cancer"]
    assert sorted(args[2:]) == sorted(
        ["batch_size=16", "weight_decay=0.5", "patience=${epochs}", "model.net.hidden=[32,16]", "optimizer.lr=0.1", "objective=validation_loss"]
    )  # fmt: skip
    assert body["studySpec"]["metrics"] == [{"metricId": "validation_loss", "goal": "MINIMIZE"}]


def test_a_bucket_may_be_named_like_the_study(project: Path) -> None:
    made = job.of_line([*GIVEN[:3], "base=gs://training-jobs/alphard/"])
    assert made.base.startswith("gs://training-jobs/alphard/train/20")


def test_variables_that_the_job_sets_may_be_referred_to(project: Path) -> None:
    given = [*GIVEN, "environment.KIND=relu", "model.net.activation=${oc.env:KIND}"]
    made = job.of_line(given)
    assert "model.net.activation=${oc.env:KIND}" in made.spec["workerPoolSpecs"][0]["containerSpec"]["args"]


def test_a_variable_of_this_machine_alone_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIND", "relu")
    said = refused(capsys, *GIVEN, "model.net.activation=${oc.env:KIND}")
    assert "model.net.activation: ${oc.env:KIND}: KIND is not set where the job runs; give environment.KIND=…" in said


def test_a_key_of_the_training_s_own_is_no_setting_of_the_job(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "configs/experiment/clash.yaml").write_text("# @package _global_\ntimeout: 3\npatience: ${timeout}\n")
    said = refused(capsys, *GIVEN, "experiment=clash", "timeout=5")
    assert "timeout: the job and the training both have this key" in said


@pytest.mark.parametrize(
    "prefix", ["['${seed}', 'a,b']", r"'\${seed}'", r"'C:\x\${seed}'", r"'a ${seed} end\'", '{x.y: 2}', '{a b: 1}', "{'': z}"]
)  # fmt: skip
def test_what_only_a_logger_is_told_arrives_or_is_refused(prefix: str, project: Path) -> None:
    """A run's fingerprint knows no loggers, and they are trained beside all the same."""
    from omegaconf import OmegaConf

    from alphard.errors import UserError

    local = project / "configs/local/default.yaml"
    local.parent.mkdir()
    local.write_text(f"# @package _global_\ndefaults: [override /logger: csv]\nlogger: {{csv: {{prefix: {prefix}}}}}\n")
    try:
        made = job.of_line(GIVEN)
    except UserError as error:
        assert "logger.csv.prefix" in str(error)  # noqa: PT017  either is right, and nothing else
        return
    args = made.spec["workerPoolSpecs"][0]["containerSpec"]["args"]
    shutil.rmtree(project / "configs/local")
    from alphard.compose import compose

    there = OmegaConf.to_container(compose(project / "configs", args).logger.csv, resolve=False)
    assert there["prefix"] == yaml.safe_load(prefix)  # type: ignore[index,call-overload]


def test_ignored_by_name_in_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, said = dry(capsys, *GIVEN, "search=mlp")
    assert said.splitlines()[0] == "ignored on Vertex AI, where they have no counterpart: initial, pruner"


def test_all_that_is_missing_is_named_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "search=mlp", "epochs=zero")
    assert all(f"\n  {name}: is missing; give {name}=…" in said for name in ("project", "region", "image", "base"))
    assert "epochs: 'zero'" in said


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["regon=x"], "regon: neither the training nor a job has this key; did you mean `region`?"),
        (["learning_rat=1"], "learning_rat: no such key; did you mean `learning_rate`?"),
        (["timeout=long"], "timeout: 'long': should be a valid number"),
        (["replicas=0"], "replicas: 0: should be greater than or equal to 1"),
        (["base=/tmp/x"], "base: /tmp/x: Vertex AI writes to Cloud Storage; give gs://BUCKET/FOLDER"),
        (["region=here"], "region: here: give one region, as in europe-west4"),
        (["output_dir=gs://b/x"], "output_dir: gs://b/x: leave it out; base=gs://"),
        (["environment.AIP_MODEL_DIR=x"], "environment.AIP_MODEL_DIR: is set by Vertex AI"),
        (["labels.Team=x"], "labels.Team: x: labels are of small letters"),
        (["tensorboard=x"], "tensorboard: x: needs service_account"),
        (["timeout=0.0001"], "timeout: 0.0001: is in hours, and less than a minute"),
        (["environment.A-B=x"], "environment.A-B: is no variable's name"),
        (["environment.SM_HPS=x"], "environment.SM_HPS: is set by Vertex AI"),
        (
            ["model.net.activation=${oc.env:UNSET_HERE}"],
            "UNSET_HERE",
        ),
        (["endpoint=here"], "endpoint: here: give an address"),
        (["search=mlp", "search.algorithm=qmc"], "search.algorithm: qmc: Vertex AI has no counterpart"),
        (["search=mlp", "epochs=interval(1.5,3)"], "epochs: interval(1.5,3): the key is searched in whole numbers"),
        (["search=mlp,titanic_lesson"], "a search is not swept"),
        (
            ["search=mlp", "objective=nonsense"],
            "objective: nonsense: this search says another, search.objective: validation_",
        ),
        (["trainer=gpu"], "trainer.accelerator: gpu: the job's machines have no accelerator; give one"),
        (
            ["data=csv", "data.path=nope/rows.csv", "data.target=y"],
            "data.path: nope/rows.csv: lies on this machine, or now",
        ),
        (["--config-dir=x"], "--config-dir=x: give overrides alone"),
        (["hydra.job.chdir=true"], "hydra.job.chdir"),
        (
            ["data=csv", "data.path=rows.csv", "data.target=y"],
            "data.path: rows.csv: lies on this machine, or nowhere",
        ),
    ],
)
def test_bad_input(words: list[str], names: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "rows.csv").write_text("x,y\n1,a\n2,b\n")
    assert names in refused(capsys, *GIVEN, *words)
    assert sorted(path.name for path in project.iterdir()) == ["configs", "rows.csv", "vertex_ai"]


def test_a_broken_local_yaml_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "vertex_ai/configs/local.yaml").write_text("regio: x\ndisk: [1\n")
    assert "vertex_ai/configs/local.yaml:" in refused(capsys, *GIVEN)
    (project / "vertex_ai/configs/local.yaml").write_text("regio: x\n")
    assert "regio: a job has no such setting; did you mean `region`?" in refused(capsys, *GIVEN)


def test_a_grid_has_as_many_trials_as_combinations(project: Path) -> None:
    words = [
        *GIVEN,
        "search=mlp",
        "search.algorithm=grid",
        "search.parallel=9",
        "learning_rate=0.1",
        "epochs=choice(3,4)",
    ]
    made = job.of_line([*words, "model.net.dropout=choice(0.0,0.1)", "model.net.hidden=choice([8])", "optimizer=adamw"])
    assert (made.job["maxTrialCount"], made.job["parallelTrialCount"]) == (4, 4)
    assert made.job["studySpec"]["algorithm"] == "GRID_SEARCH"


@pytest.mark.more  # a cold start
def test_no_cloud_library_is_imported_for_a_dry_run(project: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from alphard.cli import main; s = main(sys.argv[1:]); sys.exit(s or 'google.cloud.aiplatform_v1' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "submit", *GIVEN, "dry_run=true"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
