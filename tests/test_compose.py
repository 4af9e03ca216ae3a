"""What Hydra refuses, in words that say what would be right."""

from pathlib import Path

import pytest

from alphard.compose import Refusals, check_sweep, compose, refused
from alphard.errors import UserError
from alphard.hydra_seam import command_line
from alphard.refusals import illegible
from tests.conftest import ROOT, copied, run_train

pytestmark = pytest.mark.hydra

CONFIGS = ROOT / "configs"


def said(*words: str) -> list[str]:
    """The problems of a command line that Hydra refuses."""
    line = command_line(words)
    with pytest.raises(Refusals) as refusal:
        compose(CONFIGS, line.overrides)
    return list(refused(CONFIGS, line, refusal.value).problems)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("lr=0.1", "lr: no such key; did you mean `learning_rate`?"),
        ("dropout=0.1", "dropout: no such key; did you mean `model.net.dropout`?"),
        ("hidden=[3]", "hidden: no such key; did you mean `model.net.hidden`?"),
        ("model.hidden=[3]", "model.hidden: no such key; did you mean `model.net.hidden`?"),
        ("model.net.drpout=0.1", "model.net.drpout: no such key; did you mean `model.net.dropout`?"),
        ("epoch=3", "epoch: no such key; did you mean `epochs`?"),
        ("data.path=x.csv", "data.path: no such key; data=csv has it: data=csv data.path=x.csv"),
        ("optimizer.momentum=0.9", "optimizer.momentum: no such key; optimizer=sgd has it: optimizer=sgd optimizer."),
        ("trainer.foo=3", "trainer.foo: no such key; +trainer.foo=3 adds it, where pytorch_lightning.Trainer takes it"),
        ("zzz=3", "zzz: no such key; --cfg job shows them all"),
        ("optimizer=null", "optimizer: there is no option null. The options are adam, adamw, sgd"),
        ("search.trials=3", "search.trials: no such key; choose a search first: search=mlp"),
        ("search=mpl", "search: there is no option mpl; did you mean `mlp`?"),
        ("model.net=[1]", "model.net: [1]: should be {key: value}"),
        ("model.net.hidden={a: 1}", "model.net.hidden: {a: 1}: should be a list; [{a: 1}] is one of {key: value}"),
        ("seed=interval(1e-3,abc)", "seed: interval(1e-3,abc): the end of interval is no number"),
        ("seed=choise(1,2)", "seed: choise(1,2): there is no choise(…); did you mean `choice`?"),
        ("seed=a (b", "seed=a (b: Hydra cannot read this: "),
        ("foo", "foo: is no override; write key=value, as in seed=1"),
    ],
)
def test_the_key_that_was_meant_is_said(word: str, problem: str) -> None:
    (one,) = said(word)
    assert one.startswith(problem)


def test_a_class_of_ones_own_may_take_a_key_that_another_option_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alphard.compose.own_packages", lambda: frozenset({"mine"}))
    ours, theirs = (
        "+data.noise=1 adds it, where mine.Moons takes it",
        "data=synthetic has it: data=synthetic data.noise=1",
    )
    assert f"data.noise: no such key; {ours}; {theirs}" in said("data._target_=mine.Moons", "data.noise=1")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["search=mpl", "search.trials=3", "search.folder=x"], "search: there is no option mpl"),
        (["data=cvs", "data.path=rows.csv"], "data: there is no option cvs"),
    ],
)
def test_what_follows_from_an_option_that_is_not_there_is_not_said(words: list[str], problem: str) -> None:
    (one,) = said(*words)
    assert one.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("search: [a\nb: {", "broken.yaml:2: not YAML: "),
        ("defaults: [nonesuch]", "{group}: broken: "),
    ],
)
@pytest.mark.parametrize("group", ["search", "model"])
def test_a_file_that_cannot_be_composed_is_told_from_one_that_is_not_there(
    group: str, text: str, problem: str, tmp_path: Path
) -> None:
    configs = copied(tmp_path, "configs") / "configs"
    (configs / group / "broken.yaml").write_text(text)
    for words in ([f"{group}=broken"], [f"{group}=broken", "seed=1"], ["-m", f"{group}=broken"]):
        line = command_line(words)
        with pytest.raises(Refusals) as refusal:
            compose(configs, line.overrides)
        (one,) = refused(configs, line, refusal.value).problems
        assert problem.format(group=group) in one
        assert "there is no option" not in one


def test_an_option_that_is_nowhere_is_told_with_those_of_all_folders(tmp_path: Path) -> None:
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/rows_best.yaml").write_text("# @package _global_\nseed: 3\n")
    nested = "# @package _global_\ndefaults: [override /optimizer: sdg]\n"
    (tmp_path / "own/experiment/nested.yaml").write_text(nested)
    for words, problem in (
        (
            ["experiment=row_best"],
            "experiment: there is no option row_best; did you mean `rows_best`? The options are ",
        ),
        (
            ["experiment=nested"],
            "optimizer: there is no option sdg; did you mean `sgd`? The options are adam, adamw, sgd",
        ),
    ):
        done = run_train(tmp_path, "--config-dir=own", *words)
        assert (done.status, done.out) == (2, "")
        assert problem in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (["learning_rat=1,2"], ["learning_rat: no such key; did you mean `learning_rate`?"]),
        (
            ["optimizer=adam,sdg"],
            ["optimizer: there is no option sdg; did you mean `sgd`? The options are adam, adamw, sgd"],
        ),
        (["seed=0,a"], ["seed: 'a': should be a valid integer"]),
        (["+foo=1,2"], ["foo: no setting has this name, and nothing refers to it"]),
        (["seed=0,1", "learning_rat=1,2"], ["learning_rat: no such key; did you mean `learning_rate`?"]),
    ],
)
def test_a_sweeps_mistakes_are_said_once_before_it_begins(words: list[str], problems: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check_sweep(CONFIGS, command_line(["-m", *words]))
    assert list(caught.value.problems) == problems


def test_a_sweep_that_is_sound_or_an_interval_passes() -> None:
    check_sweep(CONFIGS, command_line(["-m", "seed=0,1", "optimizer=adam,sgd"]))
    check_sweep(CONFIGS, command_line(["-m", "learning_rate=interval(0,1)"]))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ["--cfg", "job", "-m"],
            "Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified",
        ),
        (["--resolve"], "The --resolve flag can only be used"),
        (["--nonsense"], "unrecognized arguments: --nonsense; --hydra-help lists"),
        (["-patience=3"], "-patience=3: train.py speaks Hydra's syntax, patience=3"),
        (["-m", "learning_rat=1,2"], "learning_rat: no such key"),
        (["optimizer=null"], "optimizer: there is no option null"),
    ],
)
def test_train_py_says_one_line_and_leaves_nothing(words: list[str], problem: str, tmp_path: Path) -> None:
    done = run_train(tmp_path, *words)
    assert done.status == 2
    assert done.err.startswith(f"error: {problem}")
    assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"epochs: 1 # \xff", "byte 12 is no text in UTF-8"),
        (b"7\n", "holds '7' alone"),
        (b"# @package\nepochs: 1\n", "# @package: is no header"),
        (b"# @package _global_\ndefaults: [2.5]\n", "defaults: 2.5: is neither"),
        (b"epochs: [1\n", "not YAML: "),
    ],
)
def test_a_file_that_hydra_refuses_without_its_name_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_bytes(content)
    (tmp_path / "experiment/sound.yaml").write_text("# @package _global_\nepochs: 3\n")
    (problem,) = illegible(tmp_path)
    assert problem.startswith(f"{tmp_path}/experiment/mine.yaml:")
    assert said in problem
