"""`python train.py search=…` as a user calls it: a table, a winner that repeats, a study that goes on."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from alphard.search.owner import Owner
from alphard.search.results import table
from alphard.search.storages import storage_of
from tests.conftest import ROOT, Done, Train, environment, run_train

SMALL = ("data.fraction=0.2", "threads=1", "search.parallel=1", "search.trials=3", "search.pruner.kind=none")
FAST = (*SMALL, "search=mlp", "epochs=2")


def trials_of(study: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((study / "trials.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One search, which several tests look at."""
    return run_train(tmp_path_factory.mktemp("searched"), *FAST, "optimizer=adamw", "score_test=true")


@pytest.mark.hydra
def test_a_search_ends_with_its_table_its_artifacts_and_its_objective(searched: Done) -> None:
    assert searched.status == 0, searched.err
    study = searched.folder / "studies/mlp"
    rows = trials_of(study)
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert len(re.findall(r"^\[\d/3\] trial \d complete", searched.out, re.M)) == 3
    values = [float(row["validation_accuracy"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert searched.out.splitlines()[-1] == f"validation_accuracy: {values[0]:.6f}"
    for row in rows:
        folder = study / "trials" / row["trial"]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["final_val_accuracy"] == float(row["validation_accuracy"])
        assert metrics["learning_rate"] == float(row["learning_rate"])
        assert "epoch: 2" in (folder / "training.log").read_text()
        assert {"model.pt", "eval_history.csv", "config.yaml"} <= {path.name for path in folder.iterdir()}
    first = next(row for row in rows if row["trial"] == "0")
    assert (first["learning_rate"], first["model.net.dropout"]) == ("0.001", "0.1")
    assert not list(study.glob(".owner-*"))
    assert not (searched.folder / "outputs").exists()
    assert not (searched.folder / "multirun").exists()


def test_no_test_metric_is_computed_while_searching(searched: Done) -> None:
    """Not even where the line asks for it: the test split is the retrained winner's."""
    files = [path for path in (searched.folder / "studies").rglob("*") if path.is_file() and path.suffix != ".pt"]
    text = searched.out + "".join(path.read_text(errors="replace") for path in files)
    assert not re.search(r"test_(?:loss|accuracy|f1)", text)


@pytest.mark.hydra
def test_the_winner_repeats_bitwise(searched: Done) -> None:
    study = searched.folder / "studies/mlp"
    best = trials_of(study)[0]["trial"]
    done = run_train(searched.folder, "--config-dir=studies/mlp", "experiment=mlp_best", "output_dir=again")
    assert done.status == 0, done.err
    kept = (study / "trials" / best / "model.pt").read_bytes()
    assert (searched.folder / "again/model.pt").read_bytes() == kept


def test_results_as_a_data_frame(searched: Done) -> None:
    frame = table(searched.folder / "studies/mlp")
    assert list(frame["trial"].astype(str)) == [row["trial"] for row in trials_of(searched.folder / "studies/mlp")]
    assert frame["near_best"].iloc[0]
    assert {"learning_rate", "model.net.hidden", "model.net.dropout", "stopped_epoch", "seconds"} <= {*frame.columns}
    assert frame["model.net.hidden"].map(type).eq(list).all()


def test_said_again_it_shows_the_result_and_trains_nothing_and_with_more_trials_it_goes_on(searched: Done) -> None:
    study = searched.folder / "studies/mlp"
    before = {path: path.stat().st_mtime_ns for path in study.glob("trials/*/*")}
    line = (*FAST, "optimizer=adamw", "score_test=true")
    killed = Owner(study)  # once its last trial was told
    known = optuna.load_study(study_name="mlp", storage=storage_of(study, None))
    known.set_user_attr(f"owner {killed.name}", killed.word())
    killed._file.close()
    again = run_train(searched.folder, *line)
    assert not list(study.glob(".owner-*"))
    assert (again.status, again.out.splitlines()[-1]) == (0, searched.out.splitlines()[-1])
    assert {path: path.stat().st_mtime_ns for path in study.glob("trials/*/*")} == before
    more = run_train(searched.folder, *line, "search.trials=4")
    assert more.status == 0, more.err
    assert sorted(row["trial"] for row in trials_of(study)) == ["0", "1", "2", "3"]
    assert before.items() <= {path: path.stat().st_mtime_ns for path in study.glob("trials/*/*")}.items()


def test_another_search_in_the_same_folder_is_refused_with_the_difference(searched: Done) -> None:
    other = run_train(searched.folder, *FAST, "optimizer=adamw", "score_test=true", "batch_size=32")
    assert other.status == 2
    assert "batch_size: 64 there, 32 here" in other.err


@pytest.mark.more
def test_two_searches_of_one_seed_are_the_same(train: Train) -> None:
    for name in "ab":
        done = train(
            *FAST, "search.trials=5", "search.pruner.kind=asha", "search.pruner.grace_epochs=1", f"output_dir={name}"
        )
        assert done.status == 0, done.err
    drop = {"seconds"}
    a, b = ([{k: v for k, v in row.items() if k not in drop} for row in trials_of(done.folder / n)] for n in "ab")
    assert a == b
    assert any(row["state"] == "pruned" for row in a)


@pytest.mark.more
def test_a_pruned_trial_ends_at_once_keeps_its_history_and_counts(train: Train) -> None:
    space = (
        "learning_rate=1e-2,1e-9",
        "search.algorithm=grid",
        "optimizer=adamw",
        "model.net.dropout=0",
        "model.net.hidden=[64]",
    )
    done = train(
        *SMALL,
        *space,
        "search=mlp",
        "epochs=6",
        "search.initial=[]",
        "search.pruner={kind: asha, grace_epochs: 2, reduction: 2}",
    )
    assert done.status == 0, done.err
    good, bad = trials_of(done.folder / "studies/mlp")
    assert (good["state"], bad["state"], bad["stopped_epoch"]) == ("complete", "pruned", "2")
    history = (done.folder / "studies/mlp/trials" / bad["trial"] / "eval_history.csv").read_text().splitlines()
    assert len(history) == 1 + 2
    assert "2 (1 complete, 1 pruned)" in done.out


@pytest.mark.more
def test_trials_that_raise_are_recorded_and_the_search_goes_on(train: Train) -> None:
    """A learning rate of 1e30 diverges."""
    space = (
        "learning_rate=1e-2,1e30,1e-3",
        "search.algorithm=grid",
        "optimizer=sgd",
        "optimizer.momentum=0.9",
        "model.net.dropout=0",
        "model.net.hidden=[8]",
    )
    done = train(*SMALL, *space, "search=mlp", "epochs=2", "search.initial=[]")
    assert done.status == 0, done.err
    rows = {row["learning_rate"]: row for row in trials_of(done.folder / "studies/mlp")}
    assert rows["1e+30"]["state"] == "failed"
    assert "training diverged" in rows["1e+30"]["error"]
    assert [rows[rate]["state"] for rate in ("0.01", "0.001")] == ["complete"] * 2
    ended = train(
        *SMALL, *space, "search=mlp", "epochs=2", "search.initial=[]", "search.max_failures=0", "output_dir=other"
    )
    assert ended.status == 1
    assert "search.max_failures: 1 trials failed, 0 may; trial 1 said: " in ended.err


@pytest.mark.more
def test_what_exists_only_with_a_choice_is_passed_only_then(train: Train, tmp_path: Path) -> None:
    done = train(
        *SMALL,
        "search=mlp",
        "epochs=1",
        "search.algorithm=random",
        "search.trials=4",
        "search.initial=[{optimizer: sgd}, {optimizer: adamw}]",
    )
    assert done.status == 0, done.err
    rows = {row["trial"]: row for row in trials_of(tmp_path / "studies/mlp")}
    assert rows["0"]["optimizer"] == "sgd"
    assert 0.5 <= float(rows["0"]["optimizer.momentum"]) <= 0.99
    assert (rows["1"]["optimizer"], rows["1"]["optimizer.momentum"]) == ("adamw", "")
    for row in rows.values():
        config = yaml.safe_load((tmp_path / "studies/mlp/trials" / row["trial"] / "config.yaml").read_text())
        assert ("momentum" in config["optimizer"]) == (row["optimizer"] == "sgd")
        assert "search" not in config


@pytest.mark.more
def test_another_studys_trials_are_learnt_from(train: Train, tmp_path: Path) -> None:
    assert train(*FAST, "search.algorithm=random", "search.trials=4", "output_dir=studies/broad").status == 0
    broad = trials_of(tmp_path / "studies/broad")
    done = train(
        *FAST, "search.warm_start=studies/broad", "search.trials=2", "optimizer=adamw", "output_dir=studies/fine"
    )
    assert done.status == 0, done.err
    inside = sum(row["optimizer"] == "adamw" for row in broad)
    assert f"warm start: {inside} trials of studies/broad are known; {4 - inside} lie outside this space" in done.out
    assert sorted(row["trial"] for row in trials_of(tmp_path / "studies/fine")) == ["0", "1"]
    refused = train(
        *FAST,
        "search.warm_start=studies/broad",
        "search.objective=validation_loss",
        "search.direction=minimize",
        "output_dir=studies/other",
    )
    assert refused.status == 2
    assert "search.warm_start: studies/broad is to maximize validation_accuracy" in refused.err


@pytest.mark.more
def test_ctrl_c_ends_cleanly_and_says_the_line_that_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *FAST, "search.trials=200", "search.parallel=2"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if re.match(r"\[3/", line):
            break
    process.send_signal(signal.SIGINT)
    out = process.stdout.read()
    assert process.wait(60) == 130
    said = r"^(\d+) of 200 trials are finished; the same line goes on:\n  python .*train\.py data\.fraction=0\.2"
    finished = re.search(said, out, re.M)
    assert finished
    assert int(finished[1]) < 60, "it trains on"
    assert "--multirun" not in out
    process.stdout.close()
    running = subprocess.run(["pgrep", "-f", "alphard.search import worker.*"], capture_output=True, check=False).stdout
    assert str(process.pid).encode() not in running


def test_a_plain_multirun_stays_hydras_own(train: Train) -> None:
    done = train("-m", "epochs=1", "threads=1", "learning_rate=1e-3,1e-2", "data.fraction=0.2")
    assert done.status == 0, done.err
    assert not (done.folder / "studies").exists()
    assert len(list(done.folder.glob("multirun/*/*/trials/*"))) == 2


def test_the_config_of_a_search_is_shown_and_not_searched(train: Train) -> None:
    done = train("search=mlp", "--cfg", "job")
    assert done.status == 0, done.err
    assert yaml.safe_load(done.out)["search"]["space"]["epochs"] == "int(interval(10, 40))"
    assert not (done.folder / "studies").exists()


@pytest.mark.more
def test_a_study_is_not_gone_on_with_in_another_storage(train: Train, tmp_path: Path) -> None:
    line = (*FAST, "search.trials=1", "optimizer=adamw")
    assert train(*line, "search.storage=sqlite:///x.db").status == 0
    for other in (["search.storage=sqlite:///y.db"], []):
        done = train(*line, *other, "search.trials=2")
        assert done.status == 2
        assert "search.storage: the study in studies/mlp is kept in sqlite:///x.db; say the same" in done.err
    assert not (tmp_path / "y.db").exists()


@pytest.mark.more
def test_where_every_trial_fails_the_search_has_failed(train: Train) -> None:
    space = ("learning_rate=1e30,1e31", "search.algorithm=grid", "optimizer=sgd", "optimizer.momentum=0.9")
    done = train(
        *SMALL, *space, "search=mlp", "epochs=2", "search.initial=[]", "model.net.dropout=0", "model.net.hidden=[8]"
    )
    assert done.status == 1
    assert "error: search: all 2 trials failed; the first said: validation_" in done.err
    assert "2 (2 failed)" in done.out
