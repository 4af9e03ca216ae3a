"""`python train.py search=… search.engine=packed`: the study of the local engine, its trials trained as stacked models."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from alphard.elsewhere import keep
from alphard.search.results import table
from tests.conftest import Done, run_train
from tests.in_process import config_of, run_here

# Rates at which a single run on one and on two threads agrees as well, and no dropout, whose noise is another's.
SPACE = ("learning_rate=interval(1e-4,1e-3)", "model.net.hidden=choice([16],[8])", "optimizer=adamw,sgd")
SPACE += ("model.net.dropout=0", "epochs=int(interval(2,4))", "data.fraction=0.3", "threads=1", "search.initial=[]")
FIXED = ("search=mlp", "search.algorithm=random", "search.pruner.kind=none", "search.parallel=1")
FIXED += ("search.objective=validation_loss", "search.direction=minimize")
LINE = (*FIXED, *SPACE, "search.trials=12", "search.pack.keep=3")
PACKED = "search.engine=packed"


def rows_of(study: Path) -> dict[int, dict[str, str]]:
    rows = csv.DictReader((study / "trials.csv").read_text().splitlines())
    return {int(row["trial"]): row for row in rows}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One search in packs, which several tests look at."""
    return run_train(tmp_path_factory.mktemp("packed"), *LINE, PACKED)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The same on the local engine."""
    return run_train(tmp_path_factory.mktemp("local"), *LINE)


def test_the_same_line_is_the_same_study_with_the_same_results(packed: Done, local: Done) -> None:
    assert (packed.status, local.status) == (0, 0), packed.err + local.err
    ours, theirs = (rows_of(done.folder / "studies/mlp") for done in (packed, local))
    assert sorted(ours) == sorted(theirs) == list(range(12))
    chosen = ("learning_rate", "model.net.hidden", "optimizer", "optimizer.momentum", "epochs", "state")
    for number, row in ours.items():
        assert [row[name] for name in chosen] == [theirs[number][name] for name in chosen]
        assert float(row["validation_loss"]) == pytest.approx(float(theirs[number]["validation_loss"]), rel=1e-4)
        assert row["stopped_epoch"] == theirs[number]["stopped_epoch"]
    assert packed.out.splitlines()[-1].startswith("validation_loss: ")
    frame = table(packed.folder / "studies/mlp")
    assert list(frame.columns) == list(table(local.folder / "studies/mlp").columns)


def test_one_line_says_what_splits_the_packs(packed: Done) -> None:
    lines = [line for line in packed.out.splitlines() if line.startswith("packs: ")]
    assert len(lines) == 1, packed.out
    assert "model.net.hidden" in lines[0]
    assert "optimizer" in lines[0]


def test_the_best_trials_have_folders_like_those_of_the_local_engine(packed: Done, local: Done) -> None:
    ours, theirs = (done.folder / "studies/mlp" for done in (packed, local))
    best = [number for number, _ in sorted(rows_of(ours).items(), key=lambda item: float(item[1]["validation_loss"]))]
    assert {int(path.name) for path in (ours / "trials").iterdir()} == set(best[:3])
    for number in best[:3]:
        one, other = ours / "trials" / str(number), theirs / "trials" / str(number)
        assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
        known, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (one, other))
        assert list(known) == list(expected)
        assert known["validation_loss"] == float(rows_of(ours)[number]["validation_loss"])
        same = ("best_epoch", "stopped_epoch", "epochs", "features", "classes", "resolved_sha256", "logged", "device")
        assert {k: known.get(k) for k in same} == {k: expected.get(k) for k in same}
        assert (one / "config.yaml").read_bytes() == (other / "config.yaml").read_bytes()
        head = [(folder / "eval_history.csv").read_text().splitlines()[0] for folder in (one, other)]
        assert head[0] == head[1]
        weights = [torch.load(folder / "model.pt", weights_only=True) for folder in (one, other)]
        assert list(weights[0]) == list(weights[1])
        for name, tensor in weights[0].items():
            assert torch.allclose(tensor, weights[1][name], rtol=1e-3, atol=1e-5), name
        assert re.search(r"epoch: 2\nvalidation_", (one / "training.log").read_text())


def test_the_same_line_again_prints_the_result_and_another_engine_is_refused(packed: Done) -> None:
    study = packed.folder / "studies/mlp"
    before = (study / "trials.csv").read_bytes()
    again = run_train(packed.folder, *LINE, PACKED, "search.pack.keep=5", "search.parallel=2")
    assert again.status == 0, again.err
    assert "12 (12 complete)" in again.out
    refused = run_train(packed.folder, *LINE)
    assert refused.status == 2
    assert "search.engine: 'packed' there, 'local' here" in refused.err
    assert (study / "trials.csv").read_bytes() == before
    assert not list(study.glob(".owner-*"))
    assert not (study / "packs").exists()


def test_what_is_kept_of_a_training_elsewhere_is_what_the_run_would_have_left(tmp_path: Path) -> None:
    ran = run_here(tmp_path / "ran", "epochs=3", "data.fraction=0.2", "model.net.hidden=[8]", lean=True)
    weights = torch.load(tmp_path / "ran/model.pt", weights_only=True)
    rows = list(csv.DictReader((tmp_path / "ran/eval_history.csv").read_text().splitlines()))
    rows = [{k: int(v) if k == "epoch" else float(v) for k, v in row.items()} for row in rows]
    logged = {name: ran.metrics[name] for name in ran.metrics["logged"]}
    config = config_of("threads=1", "epochs=3", "data.fraction=0.2", "model.net.hidden=[8]")
    keep(config, str(tmp_path / "kept"), weights, rows, ran.metrics["best_epoch"], logged)
    names = {path.name for path in (tmp_path / "ran").iterdir()}
    assert {path.name for path in (tmp_path / "kept").iterdir()} == names
    for name in names - {"training.log", "metrics.json", "eval_history.csv", "preprocessing.skops"}:
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "ran" / name).read_bytes(), name
    one, other = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("kept", "ran"))
    assert one | {"model_uri": ""} == other | {"model_uri": ""}
