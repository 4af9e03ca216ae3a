"""Attacks through the real command, and as a tuner's arguments: none runs code, reads a secret or leaves a trace.

Each attack's payload would make the file CANARY, or say what the environment variable GEHEIM holds.
"""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, Done, run_train

pytestmark = pytest.mark.hydra

SECRET = "xyzzy-49152-plugh"
TOUCH = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [CANARY]}}"
CALL = "{_target_: os.system, command: 'touch CANARY'}"
FACTORY = r"{\(\): os.system, command: 'touch CANARY'}"
ROWS = ("data=csv", "data.path=rows.csv", "data.target=y", "epochs=1", "threads=1")

# Each is a command line.  CANARY is a path, THEIRS a folder of configs and files that somebody else wrote.
TARGETS = {
    "a function of os": ["model._target_=os.system"],
    "a function in a node": [f"model.net={CALL}"],
    "beside the nodes": [f"+callbacks.x={CALL}"],
    "a logger": [f"+logger.x={CALL}"],
    "nested": [f"+model.net.x={{y: {{z: {CALL}}}}}"],
    "in a list": [f"+model.net.x=[1, {CALL}]"],
    "in a list of lists": [f"+model.net.x=[[{CALL}]]"],
    "a method": [f"+model.x={TOUCH}"],
    "by _args_": ["+model.net._args_=[{_target_: os.system, _args_: ['touch CANARY']}]"],
    "partial": ["+callbacks.x={_target_: os.system, _partial_: true, command: 'touch CANARY'}"],
    "left to its constructor": [f"+model.net={{_target_: torch.nn.Identity, _recursive_: false, x: {CALL}}}"],
    "by a conversion": [f"+callbacks.x={{_target_: torch.nn.Identity, _convert_: object, x: {CALL}}}"],
    "as a callback's function": [
        f"+callbacks.x={{_target_: pytorch_lightning.callbacks.LambdaCallback, on_fit_start: {CALL}}}"
    ],
    "a trainer's plugin": [f"+trainer.plugins=[{CALL}]"],
    "a pickle of pandas": ["data._target_=pandas.read_pickle", "+data.filepath_or_buffer=THEIRS/evil.pkl"],
    "a pickle of torch": ["model._target_=torch.load", "+model.f=THEIRS/evil.pkl", "+model.weights_only=false"],
    "torch.hub": ["model._target_=torch.hub.load", "+model.repo_or_dir=THEIRS", "+model.source=local"],
    "an alias of the standard library": ["model._target_=logging.os.system", "+model.command='touch CANARY'"],
    "an alias in torch": ["model._target_=torch.nn.modules.module.torch.hub.load"],
    "an alias in Lightning": [
        "+callbacks.x={_target_: pytorch_lightning.callbacks.model_checkpoint.os.system, command: 'touch CANARY'}"
    ],
    "an alias in ours": ["+callbacks.x={_target_: alphard.data.sources.storage.os.system, command: 'touch CANARY'}"],
    "an alias in ours of a class": ["data._target_=alphard.data.sources.storage.Folder", "+data.path=CANARY"],
    "through a dunder": ["model._target_=torch.nn.Linear.__init__.__globals__"],
    "a function of torch.nn": ["model._target_=torch.nn.init.normal_"],
    "builtins": ["model._target_=builtins.eval", '+model.source=\'open("CANARY","w")\''],
    "subprocess": ["model._target_=subprocess.Popen", "+model.args=[touch,CANARY]"],
    "hydra's get_class": ["model._target_=hydra.utils.get_class", "+model.path=os.system"],
    "hydra's get_method": ["model._target_=hydra.utils.get_method", "+model.path=os.system"],
    "hydra's call": ["model._target_=hydra.utils.call", f"+model.config={CALL}"],
    "hydra's instantiate": ["model._target_=hydra.utils.instantiate", f"+model.config={CALL}"],
    "the command itself": ["model._target_=alphard.cli.main", "+model.arguments=[results,THEIRS]"],
    "a file of theirs": ["model._target_=evil.Net"],
    "a path for a name": ["model._target_=THEIRS/evil.py"],
    "a reference": ["+x=os.system", "model._target_=${x}"],
    "a reference in pieces": ["+x=os", "model._target_='${x}.system'"],
    "a reference to a node": [f"+x={CALL}", "model.net=${x}"],
    "the environment": ["model._target_=${oc.env:EVIL}"],
    "decoded": ["model.net=${oc.decode:${oc.env:NODE}}"],
    "created": ["+x={_target_: os.system}", "model.net='${oc.create:${x}}'"],
    "created, decoded": ["model.net='${oc.create:${oc.decode:${oc.env:NODE}}}'"],
    "selected": [f"+x={{y: {CALL}}}", "model.net='${oc.select:x.y}'"],
    "values of a dict": [f"+x={{y: {CALL}}}", "+model.net.x='${oc.dict.values:x}'"],
}
HYDRA = {
    "callbacks": ["+hydra.callbacks.x._target_=pandas.read_pickle", "+hydra.callbacks.x.path=THEIRS/evil.pkl"],
    "callbacks, whole": [f"+hydra.callbacks.x={TOUCH}"],
    "callbacks, by brackets": [f"+hydra[callbacks][x]={TOUCH}"],
    "callbacks, by a package": ["+experiment@hydra.callbacks=evil", "--config-dir=THEIRS/configs"],
    "the launcher": [f"+hydra.launcher.x={TOUCH}", "-m"],
    "the launcher's target": ["hydra.launcher._target_=os.system", "-m"],
    "the sweeper": [f"+hydra.sweeper.x={TOUCH}", "-m"],
    "the sweeper's params": ["+hydra.sweeper.params={hydra.callbacks.x._target_: os.system}", "-m"],
    "logging's factory": [f"+hydra.job_logging.filters.x={FACTORY}"],
    "logging's class": ["+hydra.job_logging.handlers.x={class: os.mkdir, path: CANARY}"],
    "logging, from outside": ["+hydra.job_logging.handlers.x.stream=ext://os.environ"],
    "Hydra's own logging": [f"+hydra.hydra_logging.formatters.x={FACTORY}"],
    "logging, from a group": ["hydra/job_logging=evil", "--config-dir=THEIRS/logging"],
    "a pickled run": ["--experimental-rerun=THEIRS/evil.pkl"],
    "a pickled run, abbreviated": ["--experimental", "THEIRS/evil.pkl"],
    "a searched package": ["hydra.searchpath=[pkg://evil]", "+experiment=evil"],
    "a searched folder": ["hydra.searchpath=[file://THEIRS/configs]", "experiment=evil"],
    "another config": ["--config-path=THEIRS/configs", "--config-name=evil"],
    "another config, in short": ["-cp", "THEIRS/configs", "-cn", "evil"],
    "another folder": ["--config-dir=THEIRS/configs", "experiment=evil"],
    "another folder, many times": ["--config-dir=THEIRS/configs", "-m", "experiment=evil,titanic"],
    "another folder's target": ["--config-dir=THEIRS/target", "model=evil"],
    "a name that leaves": ["--config-name=../theirs/configs/evil"],
    "an option that leaves": ["experiment=../../theirs/configs/experiment/evil"],
    "a bomb": ["--config-dir=THEIRS/bomb", "experiment=bomb"],
    "a bomb beside a number": ["--config-dir=THEIRS/bomb", "experiment=bomb", "seed=3"],
    "a ring": ["--config-dir=THEIRS/ring", "experiment=ring"],
}
FILES = {
    "an array of objects": ["data=npz", "data.train=THEIRS/objects.npz", "data.validation=THEIRS/objects.npz"],
    "a pickle for an npz": ["data=npz", "data.train=THEIRS/evil.pkl", "data.validation=THEIRS/evil.pkl"],
    "a pickle called npz": ["data=npz", "data.train=THEIRS/evil.npz", "data.validation=THEIRS/evil.npz"],
    "a pickle in an npz": ["data=npz", "data.train=THEIRS/inner.npz", "data.validation=THEIRS/inner.npz"],
    "an npz that unfolds": ["data=npz", "data.train=THEIRS/bomb.npz", "data.validation=THEIRS/bomb.npz"],
    "a pickle for a table": ["data=csv", "data.path=THEIRS/evil.pkl", "data.target=y"],
    "a pickle called parquet": ["data=csv", "data.path=THEIRS/evil.parquet", "data.target=y"],
    "a pickled preprocessing": [
        *("data=npz", "data.train=THEIRS/good.npz", "data.validation=THEIRS/good.npz"),
        "data.preprocessing=THEIRS/evil.pkl",
    ],
    "a preprocessing of other types": [
        *("data=npz", "data.train=THEIRS/good.npz", "data.validation=THEIRS/good.npz"),
        "data.preprocessing=THEIRS/evil.skops",
    ],
    "templates in a reference": ["data=csv", "data.path=reference://x::file://THEIRS/reference.json", "data.target=y"],
    "a cache beside": ["data=csv", "data.path=simplecache::file://THEIRS/rows.csv", "data.target=y"],
    "an archive": ["data=csv", "data.path=zip://rows.csv::file://THEIRS/rows.zip", "data.target=y"],
    "a repository": ["data=csv", "data.path=github://a:b@c/rows.csv", "data.target=y"],
    "a shell": ["data=csv", "data.path='ssh://localhost/`touch CANARY`.csv'", "data.target=y"],
    "a pipe": ["data=csv", "data.path='|touch CANARY'", "data.target=y"],
    "out through a cache": [*ROWS, "output_dir=simplecache::file://CANARY"],
    "a driver": [*ROWS, "search=mlp", "search.storage=mysql+evil://x/y"],
    "a database out of reach": [*ROWS, "search=mlp", "search.storage='sqlite:////nosuch/x.db'"],
    "a tracker": [*ROWS, "logger=mlflow", "logger.mlflow.tracking_uri=evil-plugin://x"],
}
SECRETS = {
    "a number": ["seed=${oc.env:GEHEIM}"],
    "a list": ["model.net.hidden=${oc.env:GEHEIM}"],
    "in a list": ["model.net.hidden='[8, ${oc.env:GEHEIM}]'"],
    "in pieces": ["model.net.hidden='a${oc.env:GEHEIM}b'"],
    "through a key": ["+x=${oc.env:GEHEIM}", "learning_rate=${x}"],
    "as a target": ["model._target_=${oc.env:GEHEIM}"],
    "as a part of a target": ["model._target_='torch.nn.${oc.env:GEHEIM}'"],
    "as a group's node": ["model=${oc.env:GEHEIM}"],
    "as nodes": ["~callbacks", "+callbacks.x=${oc.env:GEHEIM}"],
    "as a file": ["data=csv", "data.path='${oc.env:GEHEIM}.csv'", "data.target=y"],
    "as a column": ["data=csv", "data.path=rows.csv", "data.target=${oc.env:GEHEIM}"],
    "as a folder": [*ROWS, "output_dir='rows.csv/${oc.env:GEHEIM}'"],
    "decoded": ["model.net.hidden='${oc.decode:\"{a: ${oc.env:GEHEIM}}\"}'"],
    "to its constructor": ["+trainer.strategy=${oc.env:GEHEIM}"],
    "as a device": ["trainer.accelerator=${oc.env:GEHEIM}"],
    "as an objective": [*ROWS, "objective=${oc.env:GEHEIM}"],
    "as Hydra's folder": ["hydra.run.dir='rows.csv/${oc.env:GEHEIM}'"],
    "as a storage": [*ROWS, "search=mlp", "search.storage='mysql://x:${oc.env:GEHEIM}@h/y'"],
    "as a tracker": [*ROWS, "logger=mlflow", "logger.mlflow.tracking_uri='evil://${oc.env:GEHEIM}'"],
    "said in full": ["model.net.hidden=${oc.env:GEHEIM}", "debug=true"],
}
ATTACKS = {
    f"{kind}: {name}": line
    for kind, lines in {"target": TARGETS, "hydra": HYDRA, "file": FILES, "secret": SECRETS}.items()
    for name, line in lines.items()
}


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody else wrote: configs, pickles, arrays and archives."""
    home = tmp_path_factory.mktemp("hostile")
    folder, canary = home / "theirs", home / "canary"
    payload = pickle.dumps(Evil(canary))
    node = f"{{_target_: os.system, command: touch {canary}}}"
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    texts = {
        "configs/evil.yaml": f"defaults: [_self_]\nhydra: {{callbacks: {{x: {node}}}}}\n",
        "configs/experiment/evil.yaml": f"# @package _global_\nhydra: {{callbacks: {{x: {node}}}}}\nmodel: {{net: {node}}}\n",
        "target/model/evil.yaml": f"_target_: alphard.models.Classifier\nnet: {node}\n",
        "logging/hydra/job_logging/evil.yaml": f"version: 1\nfilters: {{x: {{(): os.system, command: touch {canary}}}}}\n",
        "bomb/experiment/bomb.yaml": f"# @package _global_\n{bomb}",
        "ring/experiment/ring.yaml": "# @package _global_\na: &a [*a]\n",
        "rows.csv": "a,y\n1,n\n2,m\n" * 50,
        "evil.py": f"open({str(canary)!r}, 'w')",
        "hubconf.py": f"open({str(canary)!r}, 'w')",
    }
    command = f"{{{{ lipsum.__globals__.os.system('touch {canary}') }}}}"
    texts["reference.json"] = json.dumps({"version": 1, "refs": {"x": [command]}, "templates": {"u": command}})
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("evil.pkl", "evil.npz", "evil.parquet"):
        (folder / name).write_bytes(payload)
    objects = np.array([Evil(canary)] * 4, dtype=object)
    np.savez(folder / "objects.npz", X_train=objects, y_train=objects, X_val=objects, y_val=objects)
    arrays = {"X": np.random.default_rng(0).random((60, 2)).astype(np.float32), "y": np.arange(60) % 2}
    np.savez(folder / "good.npz", **{f"{k}_{split}": v for k, v in arrays.items() for split in ("train", "val")})
    with zipfile.ZipFile(folder / "inner.npz", "w") as archive:
        for name in ("X_train", "y_train", "X_val", "y_val"):
            archive.writestr(f"{name}.npy", payload)
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("X_train", "y_train", "X_val", "y_val"):
            head = io.BytesIO()
            shape = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**10)}
            np.lib.format.write_array_header_1_0(head, shape)
            archive.writestr(f"{name}.npy", head.getvalue() + bytes(2**20))
    with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
        archive.writestr("rows.csv", texts["rows.csv"])
    with zipfile.ZipFile(folder / "evil.skops", "w") as archive:
        schema = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "os.system"}
        archive.writestr("schema.json", json.dumps({**schema, "protocol": 2, "_skops_version": "0.11"}))
    return folder


def spoken(line: list[str], folder: Path, **environment: str) -> list[str]:
    """What convert_command.sh makes of a tuner's arguments; the refusal's Done where it makes none."""
    python = folder.parent / "python"
    python.write_text(
        f'#!/bin/bash\n[[ ${{1##*/}} == train.py ]] || exec {sys.executable} "$@"\nshift; printf "%s\\0" "$@"\n'
    )
    python.chmod(0o755)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    outside |= {"PATH": f"{folder.parent}:{os.environ['PATH']}", **environment}
    done = subprocess.run(
        [ROOT / "convert_command.sh", *line], cwd=folder, env=outside, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(Done(done.returncode, "", done.stderr, folder))
    return done.stdout.split("\0")[:-1]


class Refused(Exception):
    """convert_command.sh said no."""

    def __init__(self, done: Done) -> None:
        self.done = done


def attacked(name: str, theirs: Path, tmp_path: Path, sealed: bool, way: str) -> Done:
    """An attack, carried out in a folder of its own.

    way: on train.py's own line; through convert_command.sh, as data or as words of Hydra's.
    """
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(theirs / "rows.csv", home)
    canary = theirs.parent / "canary"
    line = [word.replace("CANARY", str(canary)).replace("THEIRS", str(theirs)) for word in ATTACKS[name]]
    more = {"GEHEIM": SECRET, "EVIL": "os.system", "NODE": f"{{_target_: os.system, command: touch {canary}}}"}
    more |= {"ALPHARD_SEALED": "1"} if sealed else {}
    if way != "command":
        try:
            line = spoken(as_a_tuner(line) if way == "data" else line, home, **more)
        except Refused as refusal:
            return refusal.done
    return run_train(home, *line, **more)


def as_a_tuner(line: list[str]) -> list[str]:
    """The line as a tuner writes its values: `--key=value`, where it can."""
    return [word if word[0] in "-~" else f"--{word}" for word in line]


def must_be_harmless(done: Done, theirs: Path, debug: bool = False, plain: bool = False) -> None:
    """Nothing ran, one error was said, and no secret was left.  plain: the payload was a text, and no error."""
    assert not (theirs.parent / "canary").exists()
    assert done.status in ((0,) if plain else (1, 2)), (done.status, done.out, done.err)
    assert debug or "Traceback" not in done.err
    assert SECRET not in done.out + done.err
    for path in done.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert done.err.count("error: ") + done.err.count("convert_command.sh: ") == (not plain), done.err


# As a tuner's data a reference is a text, of which any folder may be called.
PLAIN = {"secret: as a folder"}
# On a user's own machine hydra.run.dir=${oc.env:SCRATCH}/x is a habit.
OWN = {"secret: as Hydra's folder"}
# One of each kind, for those who wait.
FEW = (
    *("target: in a list", "target: an alias in Lightning", "target: decoded", "hydra: callbacks, whole"),
    *(
        "hydra: a pickled run, abbreviated",
        "hydra: a bomb",
        "file: a pickle in an npz",
        "file: templates in a reference",
    ),
    *("secret: in pieces", "secret: to its constructor"),
)


@pytest.mark.parametrize("name", FEW)
def test_a_few_attacks_run_nothing(name: str, theirs: Path, tmp_path: Path) -> None:
    must_be_harmless(attacked(name, theirs, tmp_path, sealed=False, way="command"), theirs)


# On a user's own machine, and in the image as a tuner says it; ALPHARD_TEST_WAYS=all for each way in both.
WAYS = [("command", False), ("data", True), ("words", True)]
if os.environ.get("ALPHARD_TEST_WAYS") == "all":
    WAYS += [(way, not sealed) for way, sealed in WAYS]


@pytest.mark.more
@pytest.mark.parametrize(("way", "sealed"), WAYS)
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_runs(name: str, sealed: bool, way: str, theirs: Path, tmp_path: Path) -> None:
    if way == "data" and name in OWN:
        sealed = True
    done = attacked(name, theirs, tmp_path, sealed, way)
    plain = way == "data" and not done.status and name in PLAIN
    must_be_harmless(done, theirs, debug="debug=true" in ATTACKS[name], plain=plain)


def test_there_are_sixty_and_more() -> None:
    assert len(ATTACKS) > 60


def test_what_lies_in_the_output_folder_leads_nowhere_else(tmp_path: Path) -> None:
    """Links that somebody laid under a run's own names: what they lead to is never written, nor removed."""
    away, out = tmp_path / "away", tmp_path / "out"
    away.mkdir()
    out.mkdir()
    names = ("config.yaml", "metrics.json", "model.pt", "training.log", "eval_history.csv", "learning_curves.png")
    for name in names:
        (away / name).write_text("mine")
        (out / name).symlink_to(away / name)
    done = run_train(tmp_path, "epochs=1", "threads=1", "output_dir=out", "overwrite=true")
    assert done.status == 0, done.err
    assert {path.name: path.read_text() for path in away.iterdir()} == dict.fromkeys(names, "mine")
    assert not any((out / name).is_symlink() for name in names)


@pytest.mark.parametrize("name", ["../../away", "/tmp/away", "a/../../../away"])
def test_a_loggers_name_leads_out_of_no_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    line = ("epochs=1", "threads=1", "output_dir=out", "logger=csv", f"+logger.csv.name={name}")
    done = run_train(tmp_path / "home", *line)
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
    assert not Path("/tmp/away").exists()
    assert done.status == 2, done.out + done.err


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
@pytest.mark.parametrize("what", ["classes", "feature_names"])
def test_a_name_that_no_file_holds_is_refused_at_loading(what: str, name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {"X": random.random((60, 2)).astype(np.float32), "y": np.arange(60) % 2}
    names = {what: np.array([name, "other"])}
    for split in ("train", "val"):
        np.savez(tmp_path / f"{split}.npz", **{f"{key}_{split}": value for key, value in arrays.items()}, **names)
    done = run_train(tmp_path, "data=npz", "data.train=train.npz", "data.validation=val.npz", "output_dir=out")
    assert done.status == 2
    assert f"{what}: {name!a} holds a NUL, or half a character; rename it" in done.err
    assert not (tmp_path / "out").exists()


def test_no_name_acts_on_a_terminal(tmp_path: Path) -> None:
    rows = "a,b\x1b]0;owned\x07,y\n" + "".join(f"{n % 7},1,{'n' if n % 2 else 'm'}\n" for n in range(80))
    (tmp_path / "rows.csv").write_text(rows)
    line = ("data=csv", "data.path=rows.csv", "epochs=1", "threads=1")
    for target in ("y", "none"):
        done = run_train(tmp_path, *line, f"data.target={target}", f"output_dir={target}")
        assert "\x1b" not in done.out + done.err
        assert r"b\x1b]0;owned\x07" in done.err
