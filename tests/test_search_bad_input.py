"""A search that makes no sense is refused through the real command, before its first trial, and leaves no folder."""

import fcntl
from pathlib import Path

import pytest

from tests.conftest import Train

SPACE = """
# @package _global_
defaults: [default]
epochs: 1
search:
  trials: 3
  parallel: 1
  objective: validation_accuracy
  space: {space}
"""

# What the search says before it starts a process: what a space says, what a command line says.
SPACES = [
    ("{}", "search.space: there is nothing to search"),
    ("null", "search.space: None; give {key: sweep}"),
    ('{learning_rate: "interval(1e-1, 1e-4)"}', "search.space.learning_rate: interval(1e-1, 1e-4) is upside down; write interval(0.0001, 0.1)"),
    ('{learning_rate: "tag(log, interval(0, 0.1))"}', "search.space.learning_rate: tag(log, interval(0, 0.1)) interval(0, 0.1) with tag log starts at 0; a log scale needs a positive start"),
]  # fmt: skip
LINES = [
    (["search.trials=0"], "search.trials: 0: should be greater than or equal to 1"),
    (["search.trials=many"], "search.trials: 'many': should be a valid integer"),
    (["search.direction=up"], "search.direction: 'up': should be 'maximize' or 'minimize'"),
    (["+search.trails=3"], "search.trails: a search has no such setting; did you mean `trials`?"),
    (["search.space.learning_rate=interval(1e-3,1e-2)"], "a dimension is narrowed by its own path: learning_rate='interval(1e-3,1e-2)'"),
    (["search.space.learning_rate=1e-3,1e-2"], "a dimension is narrowed by its own path: learning_rate='1e-3,1e-2'"),
    (["search.trials=2,3"], "search.trials=2,3: a search's own settings are not swept; give one value"),
    (["learning_rate=interval(1e-2,1e-3)"], "learning_rate: interval(1e-2,1e-3) is upside down"),
    (["output_dir=gs://bucket/study"], "output_dir: gs://bucket/study: a study is a folder on a disk"),
    (["overwrite=true"], "overwrite: true: a study is never overwritten"),
]  # fmt: skip

# What its first worker says, who knows the config, the data and the model: some seconds each.
CHECKED_SPACES = [
    ('{lerning_rate: "interval(0.1, 0.2)"}', "search.space.lerning_rate: no such key; did you mean `learning_rate`?"),
    ('{epochs: "choice(few, many)"}', "search.space.epochs: choice(few, many): 'few': should be a valid integer"),
    ('{epochs: "interval(10, 40)"}', "search.space.epochs: interval(10, 40): the key takes whole numbers; write int(interval(10, 40))"),
    ('{learning_rate: "interval(-0.1, 0.1)"}', "search.space.learning_rate: interval(-0.1, 0.1): -0.1: should be greater than 0"),
    ('{optimizer: "choice(adamw, adamax)"}', "search.space.optimizer: choice(adamw, adamax): "),
    ('{optimizer: "choice(adamw, sgd)", optimizer.momentum: "interval(0.5, 0.9)"}', "search.space.optimizer.momentum: no such key"),
    ('{optimizer: "choice(adamw, sgd)", when: {optimizer=adamw: {optimizer.momentum: "interval(0.5, 0.9)"}}}', "search.space.when.optimizer=adamw.optimizer.momentum: no such key"),
]  # fmt: skip
CHECKED_LINES = [
    (["search.algorithm=grid"], "search.space.learning_rate: tag(log, interval(0.001, 0.1)): a grid has no intervals of floats"),
    (["search.objective=validation_acuracy"], "objective: the model logs no validation_acuracy at validation; did you mean `validation_accuracy`?"),
    (["search.storage=postgresql://nobody@127.0.0.1:1/none"], "search.storage: postgresql://nobody@127.0.0.1:1/none: cannot be opened"),
    (["search.storage=somewhere"], "search.storage: somewhere: cannot be opened"),
    (["search.initial=[{learning_rate: 3}]"], "search.initial[0].learning_rate: 3 lies outside tag(log, interval(0.001, 0.1))"),
    (["search.initial=[{learning_rat: 0.01}]"], "search.initial[0].learning_rat: is no dimension of this space; did you mean `learning_rate`?"),
    (["search.warm_start=studies/none"], "search.warm_start: studies/none: holds no study"),
    (["epochs=interval(1,2)"], "search.space.epochs: interval(1, 2): the key takes whole numbers; write int(interval(1, 2))"),
    (["epochs=-3"], "epochs: -3: should be greater than or equal to 1"),
    (["data=csv", "data.path=none.csv", "data.target=y"], "data.path: none.csv does not exist"),
]  # fmt: skip


def mine(folder: Path, space: str = '{learning_rate: "tag(log, interval(1e-3, 1e-1))"}') -> list[str]:
    """A search of the user's own, in a folder of configs added to the project's."""
    (folder / "own/search").mkdir(parents=True)
    (folder / "own/search/mine.yaml").write_text(SPACE.strip().format(space=space))
    return ["--config-dir=own", "search=mine", "threads=1", "data.fraction=0.2"]


def refused(done, said: str) -> None:
    assert said in done.err, done.err
    assert done.status == 2, done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert not (done.folder / "studies").exists()


more = [pytest.param(*case, marks=pytest.mark.more) for case in CHECKED_SPACES]


@pytest.mark.parametrize(("space", "said"), SPACES + more)
def test_a_space_that_makes_no_sense(space: str, said: str, train: Train, tmp_path: Path) -> None:
    refused(train(*mine(tmp_path, space)), said)


lines = [pytest.param(*case, marks=pytest.mark.more) for case in CHECKED_LINES]


@pytest.mark.parametrize(("more", "said"), LINES + lines)
def test_a_line_that_makes_no_sense(more: list[str], said: str, train: Train, tmp_path: Path) -> None:
    refused(train(*mine(tmp_path), *more), said)


def test_an_option_that_is_not_there(train: Train) -> None:
    refused(train("search=mpl"), "search: there is no option mpl; did you mean `mlp`?")


def test_all_problems_of_a_space_are_said_at_once(train: Train, tmp_path: Path) -> None:
    done = train(*mine(tmp_path, '{learning_rate: "interval(-1, 1)", lerning: "interval(0, 1)", batch_size: "1.5,8"}'))
    refused(done, "error: 3 problems")


@pytest.mark.more
def test_a_storage_that_another_process_keeps_locked(train: Train, tmp_path: Path) -> None:
    line = [*mine(tmp_path), "search.trials=1"]
    assert train(*line).status == 0
    with (tmp_path / "studies/mine/journal.log").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = train(*line, "search.trials=2")
    assert done.status == 2
    assert "search.storage: studies/mine/journal.log has been locked by another process for 10 s" in done.err


@pytest.mark.more
def test_a_folder_that_is_no_study(train: Train, tmp_path: Path) -> None:
    line = mine(tmp_path)
    (tmp_path / "studies/mine").mkdir(parents=True)
    (tmp_path / "studies/mine/study.yaml").write_text("what: ever")
    (tmp_path / "studies/mine/journal.log").write_text("what ever\n")
    done = train(*line)
    assert done.status == 2
    assert "journal.log:1 is no line of a study's journal" in done.err
