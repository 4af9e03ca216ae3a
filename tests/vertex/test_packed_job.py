"""A packed search as one custom job: the container's search is the very one of here, or what differs is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from alphard.arguments import rewrite
from alphard.cli import main
from alphard.search.plan import checked
from tests.conftest import copied
from vertex_ai import search_verdict
from vertex_ai.client import as_message
from vertex_ai.job import Submission, of_line
from vertex_ai.played import Attempt, Played
from vertex_ai.rehearse_command import Rehearsal, rehearse

GIVEN = ("project=p", "region=us-central1", "image=I", "base=gs://b/artifacts")
PACKED = ("search=mlp", "search.engine=packed")
NO_STORAGE = "search.storage=null"  # what is rehearsed is kept in its own folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own, to change and to call alphard in."""
    return make_project(tmp_path, monkeypatch)


def make_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied(folder, "configs", "vertex_ai/configs", "train.py", "convert_command.sh")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("AIP_MODEL_DIR", raising=False)
    return folder


def local(project: Path, text: str) -> None:
    """What configs/local says, which no image has."""
    (project / "configs/local").mkdir(exist_ok=True)
    (project / "configs/local/default.yaml").write_text(f"# @package _global_\n{text}\n")


def args(made: Submission) -> list[str]:
    (pool,) = made.spec["workerPoolSpecs"]
    found: list[str] = pool["containerSpec"]["args"]
    return found


def dry(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str, str]:
    """What a dry run prints: the YAML, its first line, and stderr."""
    assert main(["submit", *GIVEN, *words, "dry_run=true"]) == 0
    said = capsys.readouterr()
    return yaml.safe_load(said.out), said.out.splitlines()[0], said.err


# ---- What is submitted ----


def test_a_packed_search_is_one_custom_job(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search.trials=1024", "search.parallel=1", "accelerator=NVIDIA_TESLA_T4", "trainer=gpu"]
    body, head, said = dry(capsys, *PACKED, *words, "price_per_hour=0.22", "labels.team=a")
    assert head.startswith("# gcloud ai custom-jobs create --project=p --region=us-central1 --display-name=mlp-20")
    assert head.endswith("--labels=team=a")
    (pool,) = body["workerPoolSpecs"]
    assert pool["replicaCount"] == 1
    assert pool["containerSpec"]["args"] == [*PACKED, "search.trials=1024", "search.parallel=1", "trainer=gpu"]
    assert body["baseOutputDirectory"]["outputUriPrefix"].startswith("gs://b/artifacts/mlp/20")
    bound = "at most 6 hours: at most 6 machine hours, 1.32 at 0.22 an hour"
    assert said.splitlines() == [f"1 run of 1024 trials in packs, {bound}"]  # and nothing is ignored
    as_message({"displayName": "x", "jobSpec": body}, "customJobs")


def test_the_search_s_own_file_may_choose_packs(project: Path) -> None:
    file = project / "configs/search/mlp.yaml"
    file.write_text(file.read_text().replace("engine: local", "engine: packed"))
    made = of_line([*GIVEN, "search=mlp"])
    assert (made.kind, made.tuning, made.trials, args(made)) == ("customJobs", False, 50, ["search=mlp"])
    assert made.plan
    tuning = of_line([*GIVEN, "search=mlp", "search.engine=local"])
    assert (tuning.kind, tuning.tuning, tuning.trials) == ("hyperparameterTuningJobs", True, 50)


NARROWED = ["learning_rate=interval(1e-3,1e-2)", "weight_decay=interval(0,0.1)", "optimizer=choice(sgd)", "epochs=3"]
CASES = {
    "plain": ("", [], []),
    "narrowed, added and fixed by the line": ("", [*NARROWED, "seed=4"], []),
    "a fixed parent and child": ("", ["optimizer=sgd", "optimizer.momentum=0.9"], []),
    "a cmaes, which no tuning job has": ("", ["search.algorithm=cmaes", "search.time_budget=5"], []),
    "a storage": ("", ["search.storage='postgresql://me@host/db'"], []),
    "the config": (
        "weight_decay: 0.5\nmodel: {net: {activation: gelu}}",
        [],
        ["weight_decay=0.5", "model.net.activation=gelu"],
    ),
    "a searched key's own value, which no trial has": ("model: {net: {hidden: [32, 16]}}", ["seed=1"], []),
    "a searched group's own option": ("defaults: [{override /optimizer: sgd}, {override /data: digits}]", [], []),
    "below a searched group": ("optimizer: {lr: 0.1}", [], ["optimizer.lr=0.1"]),
    "the search's settings": (
        "search: {trials: 7, pruner: {kind: none}, initial: [{model.net.dropout: 0.2}]}",
        ["search.parallel=1"],
        ["search.trials=7", "search.pruner.kind=none", "search.initial=[{model.net.dropout:0.2}]"],
    ),
    "the line over configs/local": ("search: {trials: 7}", ["search.trials=9"], []),
    "the search's space": (
        "search: {initial: [], space: {learning_rate: 'tag(log, interval(0.123456789, 0.2))', epochs: 'range(3, 9, 2)'}}",
        [],
        ["search.initial=[]", "learning_rate=tag(log, interval(0.123456789, 0.2))", "epochs=range(3, 8, 2)"],
    ),
    "steps of floats, and a new dimension": (
        "search: {space: {model.net.dropout: 'range(0.0, 0.5, 0.1)', weight_decay: 'tag(log, interval(1e-5, 1))'}}",
        [],
        ["model.net.dropout=range(0.0, 0.45, 0.1)", "weight_decay=tag(log, interval(1e-05, 1.0))"],
    ),
    "a wider choice": (
        "search: {space: {optimizer: 'choice(adamw, sgd, adam)'}}",
        [],
        ["optimizer=choice(adamw, sgd, adam)"],
    ),
    "the scale of what the line narrows": (
        "search: {space: {weight_decay: 'tag(log, interval(1e-5, 1))'}}",
        ["weight_decay=interval(0.1,0.2)"],
        ["weight_decay=tag(log, interval(0.1, 0.2))"],
    ),
}


QUICK = ("narrowed, added and fixed by the line", "the search's space")  # each composes a dozen configs


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.more] * (name not in QUICK)) for name in CASES])
def test_the_container_searches_what_is_searched_here(name: str, project: Path) -> None:
    said, words, more = CASES[name]
    if said:
        local(project, said)
    made = of_line([*GIVEN, *PACKED, *words])
    found = args(made)
    replaced = {text.partition("=")[0] for text in more}
    assert found == [*(word for word in [*PACKED, *words] if word.partition("=")[0] not in replaced), *more]
    here = made.plan
    assert here
    shutil.rmtree(project / "configs/local", ignore_errors=True)
    there = checked(Path("configs"), rewrite(found, Path("configs")))
    assert (there.space, there.settings) == (here.space, here.settings)
    chosen = {"optimizer": "sgd"} if "optimizer" in here.space else {}
    configs = [plan.configs.trial(plan.space, {"learning_rate": 0.01, **chosen}) for plan in (there, here)]
    assert {**configs[0], "model": None} == {**configs[1], "model": None}
    assert configs[0].model.net.activation == configs[1].model.net.activation


# ---- What is refused ----


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["replicas=2"], "replicas: 2: a packed search is one machine's; leave it out, or search.engine=local makes"),
        (["search.folder=mine"], "search.folder: mine: leave it out, or say search.folder=null; base=gs://"),
        (["output_dir=mine"], "output_dir: mine: leave it out; base=gs://"),
        (["search.warm_start=studies/old"], "search.warm_start: studies/old: lies on this machine, or nowhere"),
        (["search.storage=sqlite:///s.db"], "search.storage: sqlite:///s.db: a file that is lost with the job's"),
        (["search.storage='${oc.env:HOME}'"], "search.storage: ${oc.env:HOME}: HOME is not set where the job runs"),
        (["search.engine=stacked"], "search.engine: 'stacked'"),
        (["epochs=interval(1.5,3)"], "epochs: interval(1.5,3): the key is searched in whole numbers"),
        (["trainer=gpu"], "trainer.accelerator: gpu: the job's machines have no accelerator"),
    ],
)
def test_bad_input(words: list[str], names: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = [] if "engine" in words[0] else ["search.engine=packed"]
    assert main(["submit", *GIVEN, "search=mlp", *engine, *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert names in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.more
@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "search: {initial: [], space: {learning_rate: 'interval(0.1, 0.2)'}}",  # a narrowing keeps the scale
            "search.space.learning_rate: interval(0.1, 0.2): no container's argument says this",
        ),
        (
            "search: {space: {when: {optimizer=adamw: {weight_decay: 'interval(0, 0.1)'}}}}",
            "search.space.when.optimizer=adamw.weight_decay: interval(0, 0.1): no container's argument says this",
        ),
        ("search: {folder: mine}", "search.folder: mine: leave it out"),
        ("search: {warm_start: studies/old}", "search.warm_start: studies/old: lies on this machine"),
    ],
)
def test_what_no_argument_says_of_the_search_is_refused(
    text: str, names: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local(project, text)
    assert main(["submit", *GIVEN, *PACKED]) == 2
    assert names in capsys.readouterr().err


# ---- A rehearsal, for real ----


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path, Submission]:
    """One rehearsal, which several tests look at: its status, what it said, where it was called, and the job."""
    import contextlib
    import io

    with pytest.MonkeyPatch.context() as patch:
        folder = make_project(tmp_path_factory.mktemp("rehearsed"), patch)
        patch.setenv("OMP_NUM_THREADS", "1")
        local(folder, "weight_decay: 0.03\nsearch: {pruner: {kind: none}}")
        words = ["data=digits", "epochs=2", *PACKED, "search.parallel=1", "price_per_hour=3600"]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = main(["rehearse", *words, "search.trials=4"])
        return status, out.getvalue(), folder, of_line(words, needed=())


def folder_of(project: Path) -> Path:
    (found,) = (project / "outputs/rehearsals/mlp").glob("*")
    return found


@pytest.mark.more
def test_a_sound_packed_search_is_ready(rehearsed: tuple[int, str, Path, Submission]) -> None:
    status, said, project, _ = rehearsed
    assert status == 0, said
    assert said.startswith("rehearsing mlp: 4 trials of the job's 50, in one run\n")
    assert re.search(r"^\[1/1\] run  validation_accuracy 0\.\d{6}  [\d.]+ s  sound$", said, re.M)
    *_, measured, whole, minutes, last = said.splitlines()
    seconds = float(re.fullmatch(r"measured here, on \d+ cores: ([\d.]+) s for 4 trials", measured)[1])  # type: ignore[index]
    bound = r"at most 12.5 times that where all are like these, ([\d.]+) hours, ([\d.]+) at 3600 an hour"
    hours, money = re.fullmatch(f"the whole job: 1 run of 50 trials in packs: {bound}", whole).groups()  # type: ignore[union-attr]
    assert float(hours) == pytest.approx(seconds * 12.5 / 3600, abs=0.006)
    assert float(money) == pytest.approx(seconds * 12.5, rel=0.02)
    assert minutes == "and the minutes that its machine takes to start"
    assert last == "READY: the search is sound"
    job = json.loads((folder_of(project) / "job.json").read_text())
    assert job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"] == [
        "data=digits", "epochs=2", *PACKED, "search.parallel=1", "weight_decay=0.03", "search.pruner.kind=none", "search.trials=4", "search.storage=null",
    ]  # fmt: skip
    assert (folder_of(project) / "model/study.yaml").is_file()
    assert not (folder_of(project) / "output.metrics").exists()


@pytest.fixture
def judged(
    rehearsed: tuple[int, str, Path, Submission], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """What is wrong with the rehearsal's study, once its copied files have been changed."""
    _, _, project, this = rehearsed
    shutil.copytree(folder_of(project) / "model", tmp_path / "model")
    monkeypatch.chdir(project)
    log = folder_of(project) / "attempt-1.log"

    def of(asked: int = 4, status: int = 0, plan: Any = None) -> list[str]:
        attempts = [Attempt({"workerpool0-0": status}, 1.0, {"workerpool0-0": log})]
        played = Played("", [], [], str(tmp_path / "model"), tmp_path, attempts=attempts)
        return search_verdict.judge(played, plan or this.plan, asked).problems

    return of


def best_of(folder: Path) -> Path:
    """The folder of the trial with the highest accuracy."""
    trials = (folder / "model/trials").glob("*")
    return max(trials, key=lambda path: json.loads((path / "metrics.json").read_text())["validation_accuracy"])


@pytest.mark.more
def test_a_study_that_is_not_whole_is_named(judged: Callable[..., list[str]], tmp_path: Path) -> None:
    assert judged() == []
    assert judged(asked=5) == ["the study has 4 trials that ended, and 5 were asked for"]
    (problem,) = judged(status=-9)
    assert problem.startswith("ended by signal 9, as where memory runs out: ")
    best = best_of(tmp_path)
    file = best / "metrics.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"validation_accuracy": 0.125}))
    (problem,) = judged()
    assert problem.endswith("is the best trial's value in the study, and metrics.json says 0.125")
    file.write_text(json.dumps(kept))
    config = best / "config.yaml"
    config.write_text(config.read_text().replace("weight_decay: 0.03", "weight_decay: 0.02"))
    assert judged() == ["weight_decay: 0.03 here, by configs/, and the trial trained with 0.02"]
    (best / "model.pt").unlink()
    assert judged()[0].startswith(f"model.pt missing; trials/{best.name}, the best trial's folder, holds ")
    shutil.rmtree(best)
    assert judged() == [
        "metrics.json, model.pt, eval_history.csv, training.log, config.yaml missing; "
        f"trials/{best.name}, the best trial's folder, holds none of a run's artifacts"
    ]
    (tmp_path / "model/study.yaml").unlink()
    (problem,) = judged()
    assert problem.startswith("study.yaml missing; AIP_MODEL_DIR holds ")


@pytest.mark.more
def test_a_study_of_another_space_is_named(judged: Callable[..., list[str]]) -> None:
    """As where the image is older than the configs."""
    words = [*PACKED, "data=digits", "epochs=2", "learning_rate=interval(1e-3,1e-2)", "weight_decay=interval(0,1)"]
    assert judged(plan=of_line(words, needed=()).plan) == [
        "search.space.learning_rate: tag(log, interval(0.001, 0.01)) here, by configs/, and the study has "
        "tag(log, interval(0.0001, 0.1))",
        "search.space.weight_decay: interval(0, 1) here, by configs/, and the study has nothing of it",
    ]


@pytest.mark.more
@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("unset AIP_MODEL_DIR", "study.yaml missing; AIP_MODEL_DIR holds nothing, and no study"),
        ('set -- "$@" search.nonsense=1', "exit status 2: search.nonsense: no such key"),
    ],
)
def test_a_verdict_names_the_cause(project: Path, capsys: pytest.CaptureFixture[str], line: str, cause: str) -> None:
    script = project / "convert_command.sh"
    first, rest = script.read_text().split("\n", 1)
    script.write_text(f"{first}\n{line}\n{rest}")
    this = of_line(["data=digits", "epochs=1", *PACKED, "search.parallel=1"], needed=())
    assert rehearse(Rehearsal(this, 2, project)) == 1
    said = capsys.readouterr().out
    assert cause in said.partition("NOT READY: the search is not sound\n")[2]


@pytest.mark.more
def test_the_rehearsal_s_trials_are_not_the_job_s(project: Path) -> None:
    local(project, "search: {trials: 300}")
    this = of_line(PACKED, needed=())
    it = Rehearsal(this, 6)
    assert (it.trials, it.asked, it.begun) == (300, 6, 1)
    assert it.job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"] == [*PACKED, "search.trials=6", NO_STORAGE]
    shared = Rehearsal(of_line([*PACKED, "search.storage=postgresql://host/studies"], needed=()), 6)
    assert shared.job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"] == [
        *PACKED,
        "search.trials=6",
        NO_STORAGE,
    ]
    assert args(this)[-1] == "search.trials=300"  # the job's own stays as it is
    grid = [
        "epochs=choice(2,3)",
        "learning_rate=0.1",
        "model.net.dropout=0.1",
        "model.net.hidden=[8]",
        "optimizer=adamw",
    ]
    assert Rehearsal(of_line([*PACKED, *grid, "search.algorithm=grid"], needed=())).asked == 2
    assert Rehearsal(of_line([*PACKED, *grid, "search.algorithm=grid"], needed=()), 9).asked == 2


def test_a_reckoning_promises_no_more_than_it_knows() -> None:
    played = Played("", [], [], None, Path(), attempts=[Attempt({"workerpool0-0": 0}, 60.0, {})])
    judged = search_verdict.Judged(played, [], 0.9, 4)
    said = search_verdict.reckoning(judged, "on 2 cores", 4096, 6, None)
    assert "at most 1024 times that where all are like these, 17 hours\n" in said
    assert "more than its timeout=6; rehearse more trials" in said
    assert "at most 1 times that" in search_verdict.reckoning(judged, "on 2 cores", 2, 6, None)
