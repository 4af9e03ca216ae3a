"""Bad input through the real command: one clear error, non-zero, nothing trained, nothing left."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Train

X, Y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20) % 2


def npz(path: Path, suffix: str, X: object = X, y: object = Y) -> None:
    np.savez(path, allow_pickle=True, **{f"X_{suffix}": X, f"y_{suffix}": y})


def bad_train(**arrays: object) -> Callable[[Path], None]:
    return lambda folder: npz(folder / "t.npz", "train", **arrays)  # type: ignore[arg-type]


def with_value(value: float) -> np.ndarray:
    changed = X.copy()
    changed[3, 1] = value
    return changed


def truncated(folder: Path) -> None:
    whole = (folder / "t.npz").read_bytes()
    (folder / "t.npz").write_bytes(whole[: len(whole) // 2])


def foreign_run(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/config.yaml").write_text("learning_rate: 7\n")
    (folder / "out/model.pt").write_text("precious")


NPZ = ("data=npz", "data.train=t.npz", "data.validation=v.npz")
CSV = ("data=csv", "data.path=rows.csv", "data.target=label")

# name: arguments, what the error must say, what the folder holds beforehand
CASES: dict[str, tuple[tuple[str, ...], list[str], Callable[[Path], None] | None]] = {
    "misspelt key": (("learning_rat=0.1",), ["learning_rat", "did you mean `learning_rate`"], None),
    "misspelt deep key": (("model.net.dropot=0.1",), ["model.net.dropot", "`model.net.dropout`"], None),
    "all at once": (
        ("learning_rat=1", "optimizer=adamm", "epochs=0", "model.net.dropout=1.5"),
        ["4 problems", "learning_rat", "adamm", "epochs: 0", "model.net.dropout: 1.5"],
        None,
    ),
    "wrong type": (("epochs=many",), ["epochs: 'many'", "integer"], None),
    "true for a number": (("patience=true",), ["patience: True"], None),
    "negative learning rate": (("learning_rate=-1",), ["learning_rate: -1", "greater than 0"], None),
    "learning rate is no number": (("learning_rate=nan",), ["learning_rate: nan", "finite"], None),
    "zero epochs": (("epochs=0",), ["epochs: 0", "greater than or equal to 1"], None),
    "dropout": (("model.net.dropout=1.5",), ["model.net.dropout: 1.5", "less than 1"], None),
    "library's range": (("optimizer.eps=-1",), ["optimizer: torch.optim.AdamW refused", "epsilon"], None),
    "unknown group option": (("data=digitz",), ["data", "digitz", "`digits`", "synthetic"], None),
    "unknown argument": (("+optimizer.lrr=1",), ["optimizer.lrr", "no such argument", "`lr`"], None),
    "untrusted target": (("model.net._target_=os.system",), ["model.net._target_", "os.system is not trusted"], None),
    "not logged": (("objective=validation_acuracy",), ["objective", "`validation_accuracy`"], None),
    "no test split": (("score_test=true",), ["score_test", "data.test_fraction"], None),
    "value missing": (("data=csv",), ["data.path: is missing", "data.target: is missing"], None),
    "refers to itself": (("learning_rate=${learning_rate}",), ["learning_rate"], None),
    "refers to nothing": (("learning_rate=${nothing}",), ["learning_rate", "nothing"], None),
    "unreadable override": (("learning_rate=[1,",), ["learning_rate=[1,"], None),
    "npz missing": (("data=npz", "data.train=no.npz", "data.validation=v.npz"), ["data.train", "no.npz does not exist"], None),
    "npz array missing": (NPZ, ["data.train", "no array X_train", "X_val"], lambda f: npz(f / "t.npz", "val")),
    "rank": (NPZ, ["data.train", "3 dimensions"], bad_train(X=X.reshape(20, 2, 1))),
    "lengths": (NPZ, ["data.train", "20 rows and y 19"], bad_train(y=Y[:-1])),
    "NaN in X": (NPZ, ["data.train", "X[3, 1] is nan"], bad_train(X=with_value(np.nan))),
    "infinity in X": (NPZ, ["data.train", "X[3, 1] is inf"], bad_train(X=with_value(np.inf))),
    "NaN in y": (NPZ, ["data.train", "y[0] is not finite"], bad_train(y=np.full(20, np.nan))),
    "unseen label": (NPZ, ["data.validation", "label 9"], lambda f: npz(f / "v.npz", "val", y=np.full(20, 9))),
    "one class": (NPZ, ["data.train", "only one class, 0"], bad_train(y=np.zeros(20, int))),
    "npz empty": (NPZ, ["data.train", "t.npz is empty"], lambda f: (f / "t.npz").write_bytes(b"") and None),
    "npz truncated": (NPZ, ["data.train", "not a whole npz"], truncated),
    "npz pickled": (NPZ, ["data.train", "pickled"], bad_train(X=np.array([{"a": 1}] * 20, dtype=object))),
    "pickle": (NPZ, ["data.train", "pickle"], lambda f: (f / "t.npz").write_bytes(pickle.dumps([1])) and None),
    "csv column missing": (CSV, ["data.target", "no column label", "a, b"], lambda f: (f / "rows.csv").write_text("a,b\n1,2\n") and None),
    "csv empty": (CSV, ["data.path", "rows.csv is empty"], lambda f: (f / "rows.csv").write_text("") and None),
    "csv without rows": (CSV, ["data.path", "no rows"], lambda f: (f / "rows.csv").write_text("a,label\n") and None),
    "unknown scheme": (("data=csv", "data.path=nope://a/b.csv", "data.target=t"), ["data.path", "nope://"], None),
    "package missing": (("data=csv", "data.path=s3://a/b.csv", "data.target=t"), ["data.path", "not installed", "s3fs"], None),
    "output folder unwritable": (("output_dir=v.npz/out",), ["output_dir", "v.npz/out"], None),
    "output folder on an unknown scheme": (("output_dir=nope://a",), ["output_dir", "nope://"], None),
    "dashes on train.py": (("--learning_rate=0.1",), ["--learning_rate=0.1", "learning_rate=0.1; convert_command.sh"], None),
    "a sweep without -m": (("learning_rate=1e-3,1e-2",), ["learning_rate: 1e-3,1e-2", "add -m", "[1e-3,1e-2]"], None),
    "a trainer's argument without +": (("trainer.gradient_clip_val=1",), ["+trainer.gradient_clip_val=1 adds it"], None),
    "unquoted unicode": (("data=csv", "data.path=v.npz", "data.target=\u00e9"), ["data.target=\u00e9", "quote"], None),
    "a monitor that is not logged": (
        ("callbacks.early_stopping.monitor=val_loss",),
        ["callbacks: EarlyStopping.monitor", "val_loss", "validation_loss"],
        None,
    ),
    "another config's run": (("output_dir=out",), ["output_dir", "another config's run", "learning_rate: 7 there"], foreign_run),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused(name: str, train: Train, tmp_path: Path) -> None:
    arguments, said, prepare = CASES[name]
    npz(tmp_path / "t.npz", "train")
    npz(tmp_path / "v.npz", "val")
    if prepare:
        prepare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = train(*arguments)
    assert done.status == 2, done.out + done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    for words in said:
        assert words in done.err
    assert done.out == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_divergence_names_the_epoch_and_reports_nothing_false(train: Train, tmp_path: Path) -> None:
    done = train("learning_rate=1e9", "optimizer=sgd", "output_dir=out", CLOUD_ML_HP_METRIC_FILE=str(tmp_path / "m"))
    assert done.status == 1
    assert "validation_loss: nan in epoch 1" in done.err
    assert not (tmp_path / "out/metrics.json").exists()
    assert not (tmp_path / "m").exists()


def test_the_traceback_is_shown_on_request(train: Train) -> None:
    assert "Traceback" in train("epochs=0", "debug=true").err


def test_a_runs_own_config_has_no_options_to_choose(train: Train, tmp_path: Path) -> None:
    assert train("epochs=1", "output_dir=out").status == 0
    before = sorted(tmp_path.rglob("*"))
    done = train(f"--config-path={tmp_path}/out", "--config-name=config", "model=linear")
    assert done.status == 2
    assert "model: 'linear': give a _target_" in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_yaml_that_cannot_be_read_is_named(train: Train, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [")
    done = train(f"--config-path={tmp_path}", "--config-name=broken")
    assert done.status == 2
    assert "broken.yaml" in done.err
    assert "Traceback" not in done.err


def test_a_network_of_another_shape_is_refused_before_the_first_step(train: Train, tmp_path: Path) -> None:
    done = train(
        "model.net._target_=torch.nn.Flatten",
        "~model.net.hidden",
        "~model.net.activation",
        "~model.net.dropout",
        "~model.net.normalisation",
        "~model.net.residual",
        "output_dir=out",
    )
    assert done.status in (1, 2)
    assert "model" in done.err
    assert not (tmp_path / "out").exists()
