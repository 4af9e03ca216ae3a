"""No argument runs code before the config is checked, nor leads out of a sealed container's configs."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser  # the test asks Hydra itself what it takes for a flag
from hydra.core.override_parser.overrides_parser import OverridesParser

from alphard.errors import UserError
from alphard.guard import refuse

pytestmark = pytest.mark.hydra

TRAIN = Path(__file__).parents[1] / "train.py"

RUNS_CODE = [
    "+hydra.callbacks.x._target_=pandas.read_pickle",
    "++hydra.callbacks.x._target_=pandas.read_pickle",
    "hydra.callbacks.summary._target_=pandas.read_pickle",
    "hydra.callbacks.summary={_target_: pandas.read_pickle}",
    "+hydra.callbacks={x: {_target_: pandas.read_pickle}}",
    "hydra.callbacks=${anything}",
    "hydra.launcher=${anything}",
    "hydra.launcher=$\\{anything\\}",
    "hydra.sweeper='${anything}'",
    "+hydra.launcher.x=${anything}",
    "hydra={callbacks: {x: {_target_: pandas.read_pickle}}}",
    "+hydra={'callbacks': 1}",
    "++hydra={}",
    "hydra=${anything}",
    "hydra/callbacks=mine",
    "+hydra/callbacks=mine",
    "+hydra/callbacks@anywhere=mine",
    "+callbacks@hydra.callbacks=default",
    "+callbacks@hydra.callbacks.x=default",
    "+callbacks@_global_.hydra.callbacks=default",
    "+callbacks@_global_._global_.hydra=default",
    "+callbacks@hydra=default",
    "hydra[callbacks][x]=1",
    "hydra.callbacks[x]=1",
    "+hydra.launcher.x._target_=pandas.read_pickle",
    "+hydra.sweeper.x={_target_: pandas.read_pickle}",
    "+hydra.sweeper={x: [{_target_: pandas.read_pickle}]}",
    "+data@hydra.job_logging=digits",
    "+data@hydra.launcher=digits",
    "+data@_global_.hydra.sweeper.x=digits",
    "+hydra.sweeper.params={hydra.job_logging.handlers.x.class: pandas.read_pickle}",
    "+hydra.sweeper.params.+hydra/launcher=x,hydra",
]

REACHES_OUT = [
    *("--config-path=/tmp", "--config-path /tmp", "-cp /tmp", "-cp=/tmp", "--config-p=/tmp", "--config-p /tmp=x"),
    *("--config-dir=/tmp", "--config-dir /tmp", "-cd /tmp", "-cd=/tmp", "--config-d=/tmp"),
    *("hydra.searchpath=[file:///tmp]", "+hydra.searchpath=[pkg://x]", "hydra[searchpath]=[/tmp]", "~hydra.searchpath"),
    *("hydra/launcher=joblib", "+hydra/sweeper=optuna", "hydra.launcher.n_jobs=4", "hydra.sweeper.params={x: 1}"),
    *("+hydra.job.env_set.LD_PRELOAD=/tmp/x.so", "hydra.job.chdir=true", "hydra.mode=MULTIRUN", "hydra.sweep={dir: x}"),
    *(
        "hydra.output_subdir=x",
        "hydra.runtime.cwd=/tmp",
        "hydra.run={dir: x}",
        "~hydra.callbacks.summary",
        "~hydra/output",
    ),
    *(
        "experiment=../../tmp/mine",
        "experiment='../x'",
        "logger=[csv,../x]",
        "+a/b=../x",
        "data@x=../y",
        "experiment=..",
    ),
    *("hydra.run.dir=${oc.env:MINE}", r"hydra.job.name=\${oc.env:MINE}", "hydra.sweep.dir=${x}"),
    *("experiment=${oc.env:MINE}", r"experiment=$\{oc.decode\:.\}$\{oc.decode\:.\}/x", r"experiment=$\{oc.env:MINE}"),
]

# To a file outside its folder no name leads, sealed or not: --config-path says which folder.
OUTSIDE = [
    *("--config-name=../mine", "--config-name ../mine", "--config-name=/tmp/mine", "--config-n=../mine", "-cn=../mine"),
    *("--config-name ../../mine=x", "-cn ../../mine=x", "--config-n /tmp/mine=x", "--config-name ${oc.env:MINE}=x"),
    *("--config-name a/../../mine", "--config-name=.."),
]

HABITS = [
    *(
        "seed=1",
        "+trainer.gradient_clip_val=1.0",
        "~logger",
        "model.net.hidden=[8,8]",
        "callbacks=none",
        "note='a...b'",
    ),
    *("+callbacks.mine._target_=mine.Callback", "model._target_=mine.Model", "data.path=../rows.csv", "hydrate=1"),
    *("data.path=${oc.env:DATA}", "output_dir=/gcs/bucket/x", "patience=${epochs}", "-m", "--multirun", "--cfg=job"),
    *(
        "--cfg job",
        "--package=model",
        "--info=defaults",
        "--help",
        "--hydra-help",
        "--resolve",
        "--run",
    ),
    *(
        "--config-name=other",
        "-cn=other",
        "-cn other",
        "--config-name my/other.yaml",
        "experiment=mine",
        "--shell-completion",
        "-sc",
    ),
    *("hydra.run.dir=outputs/x", "+hydra.run.dir=x", "hydra.sweep.dir=x", "hydra.sweep.subdir=${hydra.job.num}"),
    *("hydra.job.name=x", "hydra.verbose=true", "hydra.verbose=[alphard]"),
    # What Lightning appends for its other processes.
    *('hydra.run.dir="outputs/2026-01-01/10-00-00"', "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"),
]


@pytest.mark.parametrize("argument", RUNS_CODE)
@pytest.mark.parametrize("sealed", [False, True])
def test_what_runs_code_is_always_refused(argument, sealed):
    with pytest.raises(UserError) as refusal:
        refuse(["seed=1", argument], sealed)
    [problem] = refusal.value.problems
    assert problem.startswith(f"{argument}: ")


@pytest.mark.parametrize("argument", REACHES_OUT)
def test_what_leaves_the_configs_is_refused_in_a_sealed_container_alone(argument):
    refuse(words(argument), sealed=False)
    with pytest.raises(UserError, match="ALPHARD_SEALED=1"):
        refuse(words(argument), sealed=True)


@pytest.mark.parametrize("argument", OUTSIDE)
@pytest.mark.parametrize("sealed", [False, True])
def test_no_name_leads_out_of_its_folder(argument, sealed):
    with pytest.raises(UserError, match=r"^--config-name=.*: names a file outside its folder"):
        refuse(words(argument), sealed)


@pytest.mark.parametrize("argument", ["--experimental-rerun=x", "--experimental x", "--e=x", "--e x=y"])
@pytest.mark.parametrize("sealed", [False, True])
def test_what_unpickles_is_always_refused(argument, sealed):
    with pytest.raises(UserError, match="unpickles a file"):
        refuse(["seed=1", *words(argument)], sealed)


def words(argument):
    """A flag and its value are two words, an override is one."""
    return argument.split(" ") if argument.startswith("-") else [argument]


@pytest.mark.parametrize("argument", HABITS)
@pytest.mark.parametrize("sealed", [False, True])
def test_hydras_habits_stay(argument, sealed):
    refuse(words(argument), sealed)


def test_every_refused_argument_is_named():
    with pytest.raises(UserError) as refusal:
        refuse(["hydra/launcher=joblib", "seed=1", "-cd=x", "--e=y"], sealed=True)
    named = ["--experimental-rerun=y", "--config-dir=x", "hydra/launcher=joblib"]
    assert [problem.split(":")[0] for problem in refusal.value.problems] == named


def test_what_hydra_cannot_read_is_told_in_a_line():
    with pytest.raises(UserError, match=r"^unrecognized arguments: --nonsense; --hydra-help lists"):
        refuse(["--nonsense"], sealed=False)
    with pytest.raises(UserError, match=r"expected one argument"):
        refuse(["--config-path"], sealed=False)


@pytest.mark.parametrize(
    ("flag", "sealed"), [("experimental_rerun", False), ("config_path", True), ("config_dir", True)]
)
def test_every_spelling_that_hydra_takes_for_a_flag_is_refused(flag, sealed):
    long = "--" + flag.replace("_", "-")
    short = {"config_path": "-cp", "config_dir": "-cd"}.get(flag, "--")
    spellings = {long[:end] for end in range(3, len(long) + 1)} | {short[:end] for end in range(2, len(short) + 1)}
    taken = {spelling for spelling in spellings if flag_set(flag, [spelling, "x"]) or flag_set(flag, [f"{spelling}=x"])}
    assert long in taken
    for spelling in taken:
        for arguments in ([spelling, "x"], [f"{spelling}=x"]):
            with pytest.raises(UserError):
                refuse(arguments, sealed)


def flag_set(flag, arguments):
    parser = get_args_parser()
    parser.error = fail
    try:
        return getattr(parser.parse_args(arguments), flag) == "x"
    except argparse.ArgumentError:
        return False


def fail(message):
    raise argparse.ArgumentError(None, message)


def test_every_key_of_hydras_grammar_that_names_the_callbacks_is_refused():
    parser = OverridesParser.create()
    places = [
        "hydra.callbacks",
        "hydra/callbacks",
        "hydra.callbacks.x",
        "hydra.callbacks.0",
        "hydra/callbacks/x",
        "hydra",
    ]
    keys = [f"{sign}{key}{at}" for sign in ("", "+", "++") for key in places for at in ("", "@x", "@x.y")]
    keys += [f"{sign}x@{prefix}{place}" for sign in ("", "+") for prefix in ("", "_global_.") for place in places]
    seen = 0
    for key in keys:
        try:
            parser.parse_override(f"{key}=1")
        except Exception:
            continue
        seen += 1
        with pytest.raises(UserError):
            refuse([f"{key}=1"], sealed=False)
    assert seen > 20


@pytest.mark.parametrize(
    "arguments",
    [
        ["+hydra.callbacks.x={_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [CANARY]}}"],
        ["+hydra.launcher.x={_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [CANARY]}}", "-m"],
        ["--experimental-r", "CANARY"],
    ],
)
def test_train_py_stops_before_hydra_acts(arguments, tmp_path):
    canary = tmp_path / "canary"
    done = subprocess.run(
        [sys.executable, TRAIN, *(argument.replace("CANARY", str(canary)) for argument in arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"ALPHARD_SEALED": ""},
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert arguments[0].split("=")[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("at", ["+hydra.job_logging.filters.x", "hydra.hydra_logging.handlers.x", "+hydra.job_logging"])
def test_a_logging_factory_is_refused_everywhere(at: str, sealed: bool) -> None:
    with pytest.raises(UserError, match="hydra"):
        refuse([rf"{at}={{\(\): os.system}}"], sealed)
