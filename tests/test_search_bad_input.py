"""A search that makes no sense is refused through the real command, before its first trial, and leaves no folder."""

import fcntl
from pathlib import Path

import pytest

from alphard.errors import UserError
from alphard.hydra_seam import command_line
from alphard.search import plan
from alphard.search.chosen import must_be_one
from tests.conftest import ROOT, Train, copied

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
    ('{learning_rate: "interval(1e-1, 1e-4)"}', "search.space.learning_rate: interval(1e-1, 1e-4): is upside down; write interval(0.0001, 0.1)"),
    ('{learning_rate: "tag(log, interval(0, 0.1))"}', "search.space.learning_rate: tag(log, interval(0, 0.1)): starts at 0; a log scale needs a positive start"),
]  # fmt: skip
LINES = [
    (["search.trials=0"], "search.trials: 0: should be greater than or equal to 1"),
    (["search.trials=many"], "search.trials: 'many': should be a valid integer"),
    (["search.direction=up"], "search.direction: 'up': should be 'maximize' or 'minimize'"),
    (["+search.trails=3"], "search.trails: a search has no such setting; did you mean `trials`?"),
    (["search.space.learning_rate=interval(1e-3,1e-2)"], "a dimension is narrowed by its own path: learning_rate='interval(1e-3,1e-2)'"),
    (["search.space.learning_rate=1e-3,1e-2"], "a dimension is narrowed by its own path: learning_rate='1e-3,1e-2'"),
    (["search.trials=2,3"], "search.trials=2,3: a search's own settings are not swept; give one value"),
    (["learning_rate=interval(1e-2,1e-3)"], "learning_rate: interval(1e-2,1e-3): is upside down"),
    (["learning_rate=interval(1e-3,abc)"], "learning_rate: interval(1e-3,abc): the end of interval is no number"),
    (["search.pruner=asha"], "search.pruner: 'asha': is no {key: value}; give search.pruner.kind=asha"),
    (["search.engine=pakced"], "search.engine: 'pakced': should be 'local' or 'packed'"),
    (["search.engine=packed", "search.pack.size=0"], "search.pack.size: 0: should be greater than or equal to 2"),
    (["search.engine=packed", "search.pack.size=1"], "search.pack.size: 1: should be greater than or equal to 2"),
    (["search.engine=packed", "search.pack.size=1", "search.storage=sqlite:///s.db"], "search.pack.size: 1: should be greater than or equal to 2"),
    (["search.engine=packed", "search.pack.size=1", "search.storage=postgresql://u@h/d"], "search.pack.size: 1: should be greater than or equal to 2"),
    (["search.engine=packed", "search.pack.memory=-1"], "search.pack.memory: -1: should be greater than 0"),
    (["search.engine=packed", "search.pack.keep=0"], "search.pack.keep: 0: should be greater than or equal to 1"),
    (["search.engine=packed", "+search.pack.sise=8"], "search.pack.sise: a search has no such setting; did you mean `size`?"),
    (["search.pack=32"], "search.pack: 32: is no {key: value}; give {size, memory, keep}"),
    (["output_dir=gs:/bucket/study"], "output_dir: gs:/bucket/study: is no URL; give gs://bucket/study"),
    (["search.folder='gs://'"], "search.folder: gs://: is no URL; give gs://BUCKET/FOLDER"),
    (["output_dir=nosuch://host/study"], "output_dir: nosuch://host/study: nothing is known that opens nosuch://"),
    (["overwrite=true"], "overwrite: true: a study is never overwritten"),
]  # fmt: skip

# What is known without the data and the model.
AGREED_SPACES = [
    ('{optimizer: "choice(adamw, sgdd)"}', "search.space.optimizer: choice(adamw, sgdd): there is no option sgdd; did you mean `sgd`? The options are adam, adamw, sgd"),
    ('{optimizer: "interval(0, 1)"}', "search.space.optimizer: interval(0, 1): optimizer is a config group; give choice(adam, adamw, sgd)"),
]  # fmt: skip
AGREED_LINES = [
    (["search.algorithm=grid"], "search.space.learning_rate: tag(log, interval(0.001, 0.1)): a grid has no intervals of floats"),
    (["search.initial=[{learning_rate: 3}]"], "search.initial[0].learning_rate: 3: lies outside tag(log, interval(0.001, 0.1))"),
    (["search.initial=[{learning_rat: 0.01}]"], "search.initial[0].learning_rat: is no dimension of this space; did you mean `learning_rate`?"),
    (["search.initial=[{learning_rat: 0.01}]", "learning_rate=0.1", "epochs=1,2"], "search.initial[0].learning_rat: is no dimension of this space; did you mean `learning_rate`?"),
    (["search.initial=[{epochs: 1}]"], "search.initial[0].epochs: is no dimension of this space"),
]  # fmt: skip

# What its first worker says, who knows the config, the data and the model: some seconds each.
CHECKED_SPACES = [
    ('{lerning_rate: "interval(0.1, 0.2)"}', "search.space.lerning_rate: no such key; did you mean `learning_rate`?"),
    ('{epochs: "choice(few, 3)"}', "search.space.epochs: choice(few, 3): 'few': should be a valid integer"),
    ('{epochs: "interval(10, 40)"}', "search.space.epochs: interval(10, 40): the key takes whole numbers; write int(interval(10, 40))"),
    ('{learning_rate: "interval(-0.1, 0.1)"}', "search.space.learning_rate: interval(-0.1, 0.1): -0.1: should be greater than 0"),
    ('{optimizer: "choice(adamw, sgd)", optimizer.momentum: "interval(0.5, 0.9)"}', "search.space.optimizer.momentum: optimizer=adamw has no such key; write it under when: {optimizer=sgd: {…}}"),
    ('{model: "choice(mlp, linear)", model.net.hidden: "choice([8], [9])"}', "search.space.model.net.hidden: model=linear has no such key; write it under when: {model=mlp: {…}}"),
    ('{model.net.hidden: "choice([8], [9])", model: "choice(linear, mlp)"}', "search.space.model.net.hidden: model=linear has no such key; write it under when: {model=mlp: {…}}"),
    ('{optimizer: "choice(adamw, adam, sgd)", optimizer.betas: "choice([0.9, 0.99])"}', "search.space.optimizer.betas: "),
    ('{optimizer: "choice(adamw, sgd)", model: "choice(mlp, linear)", when: {model=mlp: {model.net.dropout: "interval(0, 1.5)"}}}', "search.space.when.model=mlp.model.net.dropout: interval(0, 1.5): 1.5: "),
    ('{model.net.act: "choice(gelu, relu)"}', "search.space.model.net.act: no such key; a dimension needs a key that the config has: add `act: …` to model.net in "),
    ('{model.net.activaton: "choice(gelu, relu)"}', "search.space.model.net.activaton: no such key; did you mean `model.net.activation`?"),
    ('{model.net.zoom: "choice(1, 2)"}', "search.space.model.net.zoom: no such key; a dimension needs a key that the config has: add `zoom: …` to model.net in "),
    ('{model: "choice(linear)", model.net.zoom: "choice(1, 2)"}', "add `zoom: …` to model.net in "),
    ('{optimiser.lr: "choice(1, 2)"}', "search.space.optimiser.lr: no such key; did you mean `optimizer.lr`?"),
    ('{zzz: "choice(1, 2)"}', "search.space.zzz: no such key; --cfg job shows them all"),
    ('{optimizer: "choice(adamw, sgd)", when: {optimizer=adamw: {optimizer.momentum: "interval(0.5, 0.9)"}}}', "search.space.when.optimizer=adamw.optimizer.momentum: no such key; optimizer=sgd has it: write it under when: {optimizer=sgd: {…}}"),
]  # fmt: skip
CHECKED_LINES = [
    (["search.objective=validation_acuracy"], "objective: the model logs no validation_acuracy at validation; did you mean `validation_accuracy`?"),
    (["search.storage=postgresql://nobody@127.0.0.1:1/none"], "search.storage: postgresql://nobody@127.0.0.1:1/none: cannot be opened"),
    (["search.storage=somewhere"], "search.storage: somewhere: cannot be opened"),
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


more = [pytest.param(*case, marks=pytest.mark.more) for case in CHECKED_SPACES[:3]]


@pytest.mark.parametrize(("space", "said"), SPACES + AGREED_SPACES + more)
def test_a_space_that_makes_no_sense(space: str, said: str, train: Train, tmp_path: Path) -> None:
    refused(train(*mine(tmp_path, space)), said)


lines = [pytest.param(*case, marks=pytest.mark.more) for case in CHECKED_LINES]


@pytest.mark.parametrize(("more", "said"), LINES + AGREED_LINES + lines)
def test_a_line_that_makes_no_sense(more: list[str], said: str, train: Train, tmp_path: Path) -> None:
    refused(train(*mine(tmp_path), *more), said)


def checked(folder: Path, space: str, *overrides: str) -> int:
    """What `alphard check` says of a search over `space`: what the first worker would."""
    copied(folder, "configs")
    (folder / "configs/search/mine.yaml").write_text(SPACE.strip().format(space=space))
    return of(folder, "search=mine", *overrides)


def of(folder: Path, *overrides: str) -> int:
    return len(plan.checked(folder / "configs", overrides).space.dimensions)


@pytest.mark.parametrize(("space", "said"), CHECKED_SPACES)
def test_a_space_that_does_not_fit_the_config(space: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        checked(tmp_path, space)
    assert said in str(error.value)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    "space",
    [
        '{model: "choice(mlp, linear)", when: {model=mlp: {model.net.hidden: "choice([8], [9])"}}, optimizer: "choice(adam, sgd)"}',
        '{optimizer: "choice(sgd)", optimizer.momentum: "interval(0.5, 0.9)"}',  # though the config's own has none
        '{seed: "choice(0, 1)", when: {seed=0: {model: "choice(mlp, linear)"}, seed=1: {model.net.hidden: "choice([8])"}}}',
    ],
)  # fmt: skip
def test_a_space_whose_every_trial_has_its_keys_is_sound(space: str, tmp_path: Path) -> None:
    assert checked(tmp_path, space)


def test_the_files_initial_values_give_way_to_the_command_line(tmp_path: Path) -> None:
    initial = "search.initial=[{learning_rate: 1e-3, epochs: 15}]"
    space = '{learning_rate: "tag(log, interval(1e-4, 1e-1))", epochs: "int(interval(10, 20))"}'
    copied(tmp_path, "configs")
    (tmp_path / "configs/search/mine.yaml").write_text(SPACE.strip().format(space=space))
    for line in (["learning_rate=0.01"], ["learning_rate=interval(1e-2,1e-1)"], ["epochs=10"], ["epochs=range(16,18)"]):
        assert of(tmp_path, "search=mine", initial, *line)
    with pytest.raises(UserError, match="seed: is no dimension"):
        of(tmp_path, "search=mine", "search.initial=[{seed: 1}]", "learning_rate=0.01")
    with pytest.raises(UserError, match="epocs: is no dimension of this space; did you mean `epochs`"):
        of(tmp_path, "search=mine", "search.initial=[{epocs: 15}]", "epochs=10")


def test_an_option_that_is_not_there(train: Train) -> None:
    refused(train("search=mpl"), "search: there is no option mpl; did you mean `mlp`?")
    refused(train("search=mpl", "search.folder=x"), "error: search: there is no option mpl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search.trials=3"], "search.trials: no such key; choose a search first: search=mlp"),
        (["+search.trials=3"], "search: {'trials': 3}: no search is chosen; choose one first, as in search=mlp"),
        (["search=[mlp]"], "search: [mlp]: a search is chosen by one name; give search=mlp"),
        (["trainer=[1]"], "trainer: [1]: an option is a word; the options are auto, cpu, ddp, gpu"),
        (["-m", "trainer=[cpu,1],gpu"], "trainer: [cpu,1],gpu: an option is a word; the options are auto"),
        (["search=mlp", "logger=[2]"], "logger: [2]: an option is a word; the options are csv, mlflow, none, tensorboard"),
        (["search=default"], "search: default: is what others start from; choose search=mlp"),
        (["search=mlp,default"], "search: mlp,default: a search is not swept; run one at a time"),
        (["-m", "search=choice(mlp,default)"], "search: choice(mlp,default): a search is not swept"),
        (["search=mlp", "search.initial={learning_rate: 0.02}"], "search.initial: {learning_rate: 0.02}: should be a list; [{learning_rate: 0.02}] is one of {key: value}"),
    ],
)  # fmt: skip
def test_a_search_is_one(words: list[str], said: str, train: Train) -> None:
    done = train(*words)
    refused(done, said)
    assert not list(done.folder.iterdir())


@pytest.mark.hydra
@pytest.mark.parametrize(
    "text",
    [
        "defaults: [default]\nsearch: {space: {learning_rate: 'interval(0.1, 0.2)'}}",
        "# @package _global_\nsearch: {space: {learning_rate: 'interval(0.1, 0.2)'}}",
        "search: {space: {learning_rate: 'interval(0.1, 0.2)'}}",
        "words",
        "",
    ],
)
def test_a_file_that_is_no_search_is_refused_before_a_job_runs(text: str, train: Train, tmp_path: Path) -> None:
    (tmp_path / "own/search").mkdir(parents=True)
    (tmp_path / "own/search/mine.yaml").write_text(text)
    done = train("--config-dir=own", "search=mine")
    said = "search=mine: own/search/mine.yaml must begin with `# @package _global_` and have `defaults: [default]`"
    assert (done.status, done.err.strip(), done.out) == (2, f"error: {said}", "")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_search_that_starts_from_another_is_one(tmp_path: Path) -> None:
    (tmp_path / "own/search").mkdir(parents=True)
    (tmp_path / "own/search/mine.yaml").write_text("# @package _global_\ndefaults: [mlp]\nsearch: {trials: 3}")
    must_be_one(command_line([f"--config-dir={tmp_path}/own", "search=mine", "epochs=1,2"]), ROOT / "configs")


def test_a_search_of_broken_yaml(train: Train, tmp_path: Path) -> None:
    (tmp_path / "own/search").mkdir(parents=True)
    (tmp_path / "own/search/mine.yaml").write_text("search: [a\nb: {")
    refused(train("--config-dir=own", "search=mine"), "error: own/search/mine.yaml:2: not YAML: ")


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
    assert "search.storage: studies/mine/journal.log has been locked by another process for 30 s" in done.err


@pytest.mark.more
def test_a_folder_that_is_no_study(train: Train, tmp_path: Path) -> None:
    line = mine(tmp_path)
    (tmp_path / "studies/mine").mkdir(parents=True)
    (tmp_path / "studies/mine/journal.log").write_text("what ever\n")
    done = train(*line)
    assert done.status == 2
    assert "journal.log:1 is no line of a study's journal" in done.err
    (tmp_path / "studies/mine/study.yaml").write_text("what: ever")
    done = train(*line)
    assert done.status == 2
    assert "studies/mine/study.yaml: is not what a search writes" in done.err
