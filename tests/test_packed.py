"""`python train.py search=… search.engine=packed`: the study of the local engine, its trials trained as stacked models."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alphard.elsewhere import keep
from alphard.search.results import table
from tests.conftest import Done, Train, environment, run_train
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


@pytest.mark.more(minutes=4)
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


@pytest.mark.more
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


def test_what_a_search_killed_at_its_very_end_leaves_goes_with_the_same_line(packed: Done) -> None:
    study = packed.folder / "studies/mlp"
    kept = {path.name for path in (study / "trials").iterdir()}
    beaten = next(str(number) for number in range(12) if str(number) not in kept)
    (study / "trials" / beaten).mkdir()
    (study / "packs").mkdir()
    (study / "packs/dead-0.ckpt").write_bytes(b"")
    again = run_train(packed.folder, *LINE, PACKED)
    assert again.status == 0, again.err
    assert {path.name for path in (study / "trials").iterdir()} == kept
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


SMALL = (*FIXED, *SPACE, PACKED, "search.trials=6", "search.pack.keep=2")


@pytest.mark.more
def test_what_packs_with_nothing_trains_alone_and_one_line_says_why(train: Train) -> None:
    done = train(*SMALL, "+trainer.gradient_clip_val=1.0")
    assert done.status == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("packs: ")]
    assert line.startswith("packs: trainer.gradient_clip_val: ")
    study = done.folder / "studies/mlp"
    rows = rows_of(study)
    assert {row["state"] for row in rows.values()} == {"complete"}
    best = sorted(rows, key=lambda number: float(rows[number]["validation_loss"]))[:2]
    assert {int(path.name) for path in (study / "trials").iterdir()} == set(best)
    again = run_train(done.folder, *LINE[:-2], "+trainer.gradient_clip_val=1.0", "search.trials=6", "output_dir=local")
    assert again.status == 0, again.err
    theirs = rows_of(done.folder / "local")
    assert {n: row["validation_loss"] for n, row in rows.items()} == {
        n: row["validation_loss"] for n, row in theirs.items()
    }


@pytest.mark.more
def test_what_diverges_fails_alone(train: Train) -> None:
    line = (*SMALL, "search.algorithm=grid", "learning_rate=choice(1e-4,1e-3,1e30)", "optimizer=sgd", "epochs=3")
    line = (*line, "optimizer.momentum=0.9", "model.net.hidden=[8]")
    done = train(*line)
    assert done.status == 0, done.err
    rows = rows_of(done.folder / "studies/mlp")
    assert [rows[n]["state"] for n in range(3)] == ["complete", "complete", "failed"]
    assert "training diverged" in rows[2]["error"]
    assert re.search(r"^\[\d/3\] trial 2 failed .*training diverged", done.out, re.M)
    assert "training diverged" in (done.folder / "studies/mlp/trials/2/training.log").read_text()
    calm = train(*line, "learning_rate=choice(1e-4,1e-3)", "output_dir=calm")
    assert calm.status == 0, calm.err
    others = rows_of(done.folder / "calm")
    for number in (0, 1):
        assert others[number]["validation_loss"] == rows[number]["validation_loss"]
        weights = [
            (done.folder / place / f"trials/{number}/model.pt").read_bytes() for place in ("studies/mlp", "calm")
        ]
        assert weights[0] == weights[1]
    lost = train(*line, "learning_rate=choice(1e29,1e30)", "search.max_failures=0", "output_dir=lost")
    assert lost.status == 1
    assert "search.max_failures: 2 trials failed, 0 may" in lost.err


@pytest.mark.more
def test_trials_stop_by_their_own_patience_as_alone(train: Train) -> None:
    line = (*FIXED, *SPACE, "search.trials=8", "optimizer=adamw", "learning_rate=tag(log,interval(3e-3,3e-2))")
    line = (*line, "epochs=40", "patience=int(interval(1,4))", "min_delta=0.02", "model.net.hidden=[16]")
    packed, local = train(*line, PACKED), train(*line, "output_dir=local")
    assert (packed.status, local.status) == (0, 0), packed.err + local.err
    ours, theirs = rows_of(packed.folder / "studies/mlp"), rows_of(packed.folder / "local")
    stopped = [int(ours[number]["stopped_epoch"]) for number in range(8)]
    assert stopped == [int(theirs[number]["stopped_epoch"]) for number in range(8)]
    assert len(set(stopped)) > 2
    assert max(stopped) < 40


@pytest.mark.more
def test_the_hopeless_are_pruned_inside_a_pack_and_others_take_their_places(train: Train) -> None:
    line = (*FIXED, *SPACE, PACKED, "search.trials=30", "search.pack.size=10", "epochs=12", "optimizer=adamw")
    line = (*line, "search.pruner.kind=asha", "search.pruner.grace_epochs=2", "model.net.hidden=[8]")
    done = train(*line, "search.algorithm=tpe", "learning_rate=tag(log,interval(1e-5,1e-2))")
    assert done.status == 0, done.err
    rows = rows_of(done.folder / "studies/mlp")
    assert len(rows) == 30
    pruned = [row for row in rows.values() if row["state"] == "pruned"]
    assert 10 < len(pruned) < 28
    assert {row["stopped_epoch"] for row in pruned} <= {"2", "6"}
    assert all(row["seconds"] for row in pruned)
    assert {row["stopped_epoch"] for row in rows.values() if row["state"] == "complete"} == {"12"}
    names = {int(path.name) for path in (done.folder / "studies/mlp/trials").iterdir()}
    assert names == {number for number, row in rows.items() if row["state"] == "complete"} or len(names) == 10


@pytest.mark.more
def test_no_trial_begins_when_the_time_is_spent_and_what_had_not_begun_waits(train: Train, tmp_path: Path) -> None:
    # In packs of 8, for two of any size would take all the trials at once.
    line = (*SMALL, "epochs=10", "optimizer=adamw", "search.pack.size=8")
    spent = train(*line, "search.trials=4000", "search.time_budget=0.2")
    assert spent.status == 0, spent.err
    assert "search.time_budget: 0.2 minutes are spent" in spent.out
    begun = rows_of(tmp_path / "studies/mlp")
    assert 0 < len(begun) < 4000
    assert {row["state"] for row in begun.values()} == {"complete"}


@pytest.mark.more
@pytest.mark.parametrize("storage", ["null", "sqlite:///study.db"])
def test_more_trials_are_more_and_the_rest_stands(train: Train, storage: str, tmp_path: Path) -> None:
    line = (*SMALL, f"search.storage={storage}", "epochs=3", "optimizer=adamw")
    assert train(*line).status == 0
    begun = rows_of(tmp_path / "studies/mlp")
    more = train(*line, "search.trials=9")
    assert more.status == 0, more.err
    rows = rows_of(tmp_path / "studies/mlp")
    assert sorted(rows) == list(range(9))
    assert {n: row["validation_loss"] for n, row in rows.items() if n in begun} == {
        n: row["validation_loss"] for n, row in begun.items()
    }
    warm = train(*line, "search.trials=3", "search.warm_start=studies/mlp", "output_dir=studies/warm")
    assert warm.status == 0, warm.err
    assert f"warm start: {len(rows)} trials of studies/mlp are known; 0 lie outside" in warm.out


@pytest.mark.more
def test_results_report_winner_and_predictions_of_a_packed_study(packed: Done) -> None:
    study = packed.folder / "studies/mlp"
    alphard = Path(sys.executable).with_name("alphard")

    def call(*words: str) -> str:
        done = subprocess.run(
            [alphard, *words], cwd=packed.folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "12 (12 complete)" in call("results", "studies/mlp")
    report = (study / "report.html").read_text()
    assert "Learning curves" in report
    assert "of 12 trials" in report
    best = min(rows_of(study).values(), key=lambda row: float(row["validation_loss"]))
    said = call("retrain", "studies/mlp", "seeds=1", "baselines=false", "data.test_fraction=0.2")
    assert "in the search," in said
    # The winner on its own seed, alone, comes to what it came to in its pack.
    again = run_train(packed.folder, "--config-dir=studies/mlp", "experiment=mlp_best", "output_dir=again")
    assert again.status == 0, again.err
    alone = json.loads((packed.folder / "again/metrics.json").read_text())
    assert alone["validation_loss"] == pytest.approx(float(best["validation_loss"]), rel=1e-4)
    rows = packed.folder / "rows.csv"
    rows.write_text("\n".join([",".join(alone["feature_names"]), ",".join(["1"] * alone["features"])]) + "\n")
    told = call("predict", f"studies/mlp/trials/{best['trial']}", "rows.csv", "out=predictions.csv")
    assert told
    assert len((packed.folder / "predictions.csv").read_text().splitlines()) == 2
