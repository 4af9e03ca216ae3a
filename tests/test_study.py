"""A study without training: its trials are exact in number, come back as they were, and belong to one process each."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from optuna.trial import TrialState

from alphard.errors import TrainingError, UserError
from alphard.search import grammar, results
from alphard.search.settings import Pruner, Settings
from alphard.search.storages import stored
from alphard.search.study import Study

SPACE = grammar.read(
    {
        "x": "interval(0, 1)",
        "n": "int(interval(1, 9))",
        "kind": "choice(a, b)",
        "when": {"kind=b": {"depth": "int(interval(1, 3))"}},
    }
)


opened: list[Study] = []


@pytest.fixture(autouse=True)
def close():
    yield
    while opened:
        opened.pop().close()


def study_in(folder: Path, space=SPACE, fingerprint=None, warm=(), **settings) -> Study:
    made = Settings(objective="value", **({"trials": 12, "algorithm": "random"} | settings))
    study = Study(folder, made, space, fingerprint or {"a": 1}, epochs=10, warm=warm)
    opened.append(study)
    return study


def packs_in(folder: Path, **settings) -> Study:
    return study_in(folder, **({"engine": "packed"} | settings))


def value(chosen: dict) -> float:
    return chosen["x"] - abs(chosen["n"] - 5) / 10 + (chosen["kind"] == "b")


def work(study: Study, most: int = 1000) -> list:
    done = []
    while len(done) < most and (trial := study.take()) is not None:
        study.tell(trial, TrialState.COMPLETE, value(trial.chosen), {})
        done.append((trial.number, trial.chosen))
    return done


def killed_in(study: Study) -> None:
    """What a process that dies leaves: its lock is free, its trials run."""
    study.owner._file.close()


def test_a_study_has_exactly_its_trials_and_more_when_it_is_raised(tmp_path):
    study = study_in(tmp_path / "s")
    assert [number for number, _ in work(study)] == list(range(12))
    assert study.left() == 0
    study.close()
    again = study_in(tmp_path / "s")
    assert again.take() is None
    again.close()
    more = study_in(tmp_path / "s", trials=15)
    assert [number for number, _ in work(more)] == [12, 13, 14]
    fewer = study_in(tmp_path / "s", trials=5)
    assert (fewer.total, fewer.left(), fewer.take()) == (5, 0, None)


def test_what_was_interrupted_comes_back_under_its_number_with_its_values(tmp_path):
    study = study_in(tmp_path / "s")
    first, second = study.take(), study.take()
    study.report(first, 1, 0.5)
    study.tell(second, TrialState.COMPLETE, 1.0, {})
    killed_in(study)
    after = study_in(tmp_path / "s")
    assert after.recover() == 1
    again = after.take()
    assert (again.number, again.chosen) == (first.number, first.chosen)
    after.give_back(again, again.deaths + 1)
    third = after.take()
    assert (third.number, third.chosen, third.deaths) == (first.number, first.chosen, 1)


def test_a_trial_that_goes_on_in_the_middle_is_pruned_by_all_its_values(tmp_path, monkeypatch):
    study = study_in(tmp_path / "s", pruner=Pruner(kind="median"))
    trial = study.take()
    for step in (1, 2, 3):
        study.report(trial, step, step / 10)
    killed_in(study)
    after = study_in(tmp_path / "s", pruner=Pruner(kind="median"))
    after.recover()
    seen = []
    monkeypatch.setattr(type(after.study.pruner), "prune", lambda _, __, now: seen.append(now.intermediate_values))
    again = after.take()
    after.report(again, 3, 0.3)  # its checkpoint was of the second epoch
    after.report(again, 4, 0.4)
    assert seen == [{1: 0.1, 2: 0.2, 3: 0.3}, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}]
    after.give_back(again, 0)
    anew = after.take()
    after.report(anew, 1, 0.1)
    assert seen[-1] == {1: 0.1}


@pytest.mark.parametrize("algorithm", ["random", "tpe", "gp", "cmaes", "qmc"])
def test_a_search_that_was_killed_goes_on_as_it_would_have(tmp_path, algorithm):
    whole = work(study_in(tmp_path / "whole", algorithm=algorithm, trials=16))
    parts = []
    for _ in range(4):
        study = study_in(tmp_path / "parts", algorithm=algorithm, trials=16)
        parts += work(study, most=4)
        killed_in(study)
    assert parts == whole
    assert len({str(chosen) for _, chosen in whole}) > 12
    assert all(("depth" in chosen) == (chosen["kind"] == "b") for _, chosen in whole)


@pytest.mark.parametrize("algorithm", ["random", "tpe", "gp", "cmaes", "qmc"])
def test_a_trial_that_is_killed_while_it_is_chosen_gets_the_rest_as_it_would_have(tmp_path, monkeypatch, algorithm):
    whole = work(study_in(tmp_path / "whole", algorithm=algorithm, trials=16))
    rest = []
    for number in range(16):
        study = study_in(tmp_path / "cut", algorithm=algorithm, trials=16)
        write, left = study.storage.set_trial_param, iter(range(number % 3 + 1))

        def until_it_dies(*given, write=write, left=left):
            next(left)  # StopIteration is the kill
            write(*given)

        with monkeypatch.context() as patch:
            patch.setattr(study.storage, "set_trial_param", until_it_dies)
            if number % 3 + 1 < len(whole[number][1]):
                with pytest.raises(StopIteration):
                    study.take()
        killed_in(study)
        study = study_in(tmp_path / "cut", algorithm=algorithm, trials=16)
        study.recover()
        rest += work(study, most=1)
        killed_in(study)
    assert rest == whole


@pytest.mark.parametrize("algorithm", ["random", "tpe", "gp", "cmaes", "qmc"])
def test_no_draw_is_repeated_not_even_of_what_exists_sometimes(tmp_path, algorithm):
    space = grammar.read({"kind": "choice(a, b)", "when": {"kind=b": {"y": "interval(0, 1)"}}, "x": "interval(0, 1)"})
    study = study_in(tmp_path / "s", space, algorithm=algorithm, trials=16, initial=[{"kind": "b"}] * 16)
    chosen = []
    while (trial := study.take()) is not None:
        study.tell(trial, TrialState.COMPLETE, trial.chosen["y"], {})
        chosen.append((trial.chosen["y"], trial.chosen["x"]))
    assert min(len({y for y, _ in chosen[:8]}), len({x for _, x in chosen[:8]})) == 8


def test_the_better_algorithms_learn(tmp_path):
    """Far from a benchmark: what it chooses late is better than what it chose first."""
    for algorithm in ("tpe", "gp"):
        done = work(study_in(tmp_path / algorithm, algorithm=algorithm, trials=30))
        values = [value(chosen) for _, chosen in done]
        assert sum(values[20:]) / 10 > sum(values[:10]) / 10 + 0.2


def test_initial_values_are_tried_first_and_the_rest_is_chosen(tmp_path):
    initial = [{"x": 0.25, "kind": "b", "depth": 2}, {"n": 7}]
    done = work(study_in(tmp_path / "s", initial=initial))
    assert done[0][1] == {"x": 0.25, "n": done[0][1]["n"], "kind": "b", "depth": 2}
    assert done[1][1]["n"] == 7
    assert len(done) == 12


def test_a_grid_is_searched_once_and_ends(tmp_path):
    space = grammar.read({"a": "1,2,3", "b": "range(0, 2)"})
    study = study_in(tmp_path / "s", space, algorithm="grid", trials=50)
    assert study.total == 6
    chosen = []
    while (trial := study.take()) is not None:
        study.tell(trial, TrialState.COMPLETE, 0.0, {})
        chosen.append((trial.chosen["a"], trial.chosen["b"]))
    assert chosen == [(a, b) for a in "123" for b in (0, 1)]


def test_another_study_is_refused_with_the_difference(tmp_path):
    study_in(tmp_path / "s", fingerprint={"epochs": 3, "data": "x"}).close()
    with pytest.raises(UserError, match="epochs: 3 there, 4 here"):
        study_in(tmp_path / "s", fingerprint={"epochs": 4, "data": "x"})


def test_a_trial_is_taken_from_the_dead_alone(tmp_path):
    living = study_in(tmp_path / "s")
    mine = living.take()
    other = study_in(tmp_path / "s")
    assert other.recover() == 0
    assert other.take().number != mine.number
    killed_in(living)
    assert other.recover() == 1
    assert other.take().number == mine.number


def test_what_a_dead_owner_without_a_trial_left_is_removed(tmp_path):
    dead, living = study_in(tmp_path / "s"), study_in(tmp_path / "s")
    work(dead, 1)
    killed_in(dead)
    elsewhere, beginning = (tmp_path / f"s/.owner-{name}" for name in ("elsewhere", "beginning"))
    elsewhere.touch()
    beginning.touch()
    dead.study.set_user_attr("owner elsewhere", {"host": "another", "pid": 1, "until": 0})
    after = study_in(tmp_path / "s")
    assert after.recover() == 0
    owners = {f".owner-{each.owner.name}" for each in (living, after)}
    assert {path.name for path in (tmp_path / "s").glob(".owner-*")} == {*owners, elsewhere.name, beginning.name}


def test_an_owner_on_another_machine_lives_as_long_as_its_lease(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    there = study_in(tmp_path / "s")
    trial = there.take()
    killed_in(there)
    monkeypatch.undo()
    here = study_in(tmp_path / "s")
    assert here.recover() == 0
    monkeypatch.setattr("alphard.search.owner.time.time", lambda: 1e10)
    assert here.recover() == 1
    assert here.take().number == trial.number


def test_a_trial_that_another_machine_has_finished_stands(tmp_path, monkeypatch):
    """A machine that slept for longer than its lease wakes up and speaks of its trial."""
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    slept = study_in(tmp_path / "s")
    trial = slept.take()
    monkeypatch.undo()
    with monkeypatch.context() as later:
        later.setattr("alphard.search.owner.time.time", lambda: 1e10)
        here = study_in(tmp_path / "s")
        assert here.recover() == 1
    again = here.take()
    assert again.number == trial.number
    here.tell(again, TrialState.COMPLETE, 0.5, {})
    assert slept.report(trial, 1, 0.1)
    slept.tell(trial, TrialState.PRUNED, 0.1, {"error": "late"})
    slept.give_back(trial, 1)
    (known,) = here.trials(TrialState.COMPLETE)
    assert (known.number, known.value, known.user_attrs.get("error")) == (trial.number, 0.5, None)


def test_a_trial_that_another_machine_was_first_to_take_leaves_the_next_with_its_own_values(tmp_path, monkeypatch):
    whole = work(study_in(tmp_path / "whole"))
    url = f"sqlite:///{tmp_path}/study.db"
    one, other = (study_in(tmp_path / name / "s", storage=url) for name in ("one", "other"))
    ask, taken = one.study.ask, []

    def ask_after_the_other():
        taken.append(other.take())
        return ask()

    monkeypatch.setattr(one.study, "ask", ask_after_the_other)
    taken.append(one.take())
    assert [(trial.number, trial.chosen) for trial in taken] == whole[:2]


def test_a_trial_whose_process_is_gone_is_shown_as_interrupted(tmp_path):
    study = study_in(tmp_path / "s")
    configs = {"folder": ".", "name": "config", "extra": [], "overrides": [], "choices": {}, "groups": []}
    said = {"configs": configs, "overrides": [], "search": {"objective": "value", "direction": "maximize"}}
    said["search"]["space"] = {"x": "interval(0, 1)"}
    (tmp_path / "s/study.yaml").write_text(json.dumps(said))
    work(study, most=1)
    study.take()
    assert [row["state"] for row in results.rows(tmp_path / "s")[1]] == ["complete", "running"]
    killed_in(study)
    assert [row["state"] for row in results.rows(tmp_path / "s")[1]] == ["complete", "interrupted"]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql+psycopg://u:p:w/1@h:5/d", "postgresql+psycopg://u@h:5/d"),
        ("redis://:pw@h/0", "redis://@h/0"),
        ("postgresql://h/d?user=u&password=pw&a=b", "postgresql://h/d?user=u&a=b"),
        ("postgresql://h/d?password=pw&a=b", "postgresql://h/d?a=b"),
        ("postgresql://u:${oc.env:PW}@h/d", "postgresql://u:${oc.env:PW}@h/d"),
        ("${oc.env:STUDY_DB}", "${oc.env:STUDY_DB}"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        (None, None),
    ],
)
def test_no_file_keeps_a_password_and_no_error_shows_one(url, kept):
    assert stored(url) == kept
    if url is not None:
        shown = UserError(f"search.storage: {url}: is gone; see {url}").paragraph()
        assert not any(secret in shown for secret in ("pw@", "=pw", "p:w/1"))


def test_too_many_failures_end_a_study_and_say_the_last(tmp_path):
    study = study_in(tmp_path / "s", max_failures=1)
    for _ in range(2):
        study.must_not_fail_more()
        study.tell(study.take(), TrialState.FAIL, None, {"error": "diverged"})
    with pytest.raises(TrainingError, match=r"search\.max_failures: 2 trials failed, 1 may; trial 1 said: diverged"):
        study.must_not_fail_more()


def test_a_trial_worse_than_the_others_is_ended_and_an_earlier_attempts_steps_do_not_count(tmp_path):
    study = study_in(tmp_path / "s", pruner=Pruner(kind="median", grace_epochs=2))
    for _ in range(6):
        trial = study.take()
        assert not any(study.report(trial, step, 1.0) for step in (1, 2, 3))
        study.tell(trial, TrialState.COMPLETE, 1.0, {})
    bad = study.take()
    assert [study.report(bad, step, 0.1) for step in (1, 2)] == [False, True]
    study.give_back(bad, 0)
    again = study.take()
    assert again.number == bad.number
    assert [study.report(again, step, v) for step, v in ((1, 2.0), (2, 2.0))] == [False, False]


def test_known_trials_have_no_number_here(tmp_path):
    before = study_in(tmp_path / "before")
    work(before)
    warm = before.trials(TrialState.COMPLETE)
    study = study_in(tmp_path / "s", warm=warm, trials=3)
    assert [number for number, _ in work(study)] == [0, 1, 2]
    assert study.left() == 0
    best = study.best()
    assert study.number(best) in (0, 1, 2)


@pytest.mark.parametrize("algorithm", ["random", "qmc", "tpe"])
def test_many_that_are_taken_together_are_those_taken_one_by_one(tmp_path, algorithm):
    one, many = (study_in(tmp_path / name, algorithm=algorithm, trials=20) for name in ("one", "many"))
    single = [trial for _ in range(20) if (trial := one.take())]
    together = many.take_many(7) + many.take_many(100)
    assert [(t.number, t.chosen) for t in together] == [(t.number, t.chosen) for t in single]
    assert many.take_many(5) == []
    many.close()
    killed = study_in(tmp_path / "many", algorithm=algorithm, trials=20)
    killed.recover()
    again = killed.take_many(20)
    assert [(t.number, t.chosen, t.begun) for t in again] == [(t.number, t.chosen, True) for t in single]
    assert not any(trial.begun for trial in together)


def test_a_learning_sampler_has_the_pending_ones_in_mind(tmp_path):
    """Constant liar: without it, tpe chooses nearly the same again and again until a value is known."""
    study = packs_in(tmp_path / "s", algorithm="tpe", trials=60)
    for trial in study.take_many(20):
        study.tell(trial, TrialState.COMPLETE, -abs(trial.chosen["x"] - 0.5), {})
    pending = sorted(trial.chosen["x"] for trial in study.take_many(30))
    apart = [b - a for a, b in itertools.pairwise(pending)]
    assert max(pending) - min(pending) > 0.3
    assert sum(gap < 1e-3 for gap in apart) < 10


@pytest.mark.parametrize("url", [None, "sqlite:///{}/study.db"])
def test_asha_judges_those_that_report_together_with_all_of_them_known(tmp_path, url):
    """Whatever their order, about one in `reduction` goes on, and it is the best ones."""
    pruner = Pruner(kind="asha", grace_epochs=2, reduction=3)
    storage = url and url.format(tmp_path)
    study = packs_in(tmp_path / "s", pruner=pruner, trials=30, storage=storage)
    trials = study.take_many(30)
    values = {trial.number: (7 * trial.number % 30) / 30 for trial in trials}
    assert study.report_many([(trial, 1, values[trial.number]) for trial in trials]) == set()
    ended = study.report_many([(trial, 2, values[trial.number]) for trial in trials])
    going_on = sorted(values[number] for number in set(values) - ended)
    assert len(going_on) in (10, 11)
    assert going_on == sorted(values.values())[-len(going_on) :]
    # A process that takes these over, and hears the same once more, judges no one twice.
    again = [(trial, 2, values[trial.number]) for trial in trials if trial.number not in ended]
    assert study.report_many(again) == set()


def test_reports_together_end_those_that_reports_one_by_one_end(tmp_path):
    pruner = Pruner(kind="median", grace_epochs=1)
    ended = []
    for name in ("one", "many"):
        study = packs_in(tmp_path / name, pruner=pruner)
        for trial in study.take_many(5):
            for step in (1, 2, 3):
                study.report(trial, step, trial.number / 10 + step / 100)
            study.tell(trial, TrialState.COMPLETE, 1.0, {})
        rest = [(trial, 2, trial.number / 30) for trial in study.take_many(7)]
        if name == "one":
            ended.append({report[0].number for report in rest if study.report(*report)})
        else:
            ended.append(study.report_many(rest))
    assert ended[0] == ended[1]
    assert 0 < len(ended[0]) < 7


def test_a_bulk_is_written_in_one_piece(tmp_path):
    study = packs_in(tmp_path / "s", trials=30)
    trials = study.take_many(30)
    before = (tmp_path / "s/journal.log").read_bytes()
    with study.bulk():
        study.report_many([(trial, 1, 0.5) for trial in trials])
        for trial in trials:
            study.tell(trial, TrialState.COMPLETE, 0.5, {"seconds": 1.0})
        assert study.left() == 0
        assert (tmp_path / "s/journal.log").read_bytes() == before
    other = packs_in(tmp_path / "s", trials=30)
    assert other.left() == 0


def test_trials_are_queued_in_one_piece(tmp_path, monkeypatch):
    really, waits = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda handle: (waits.append(handle), really(handle)))
    study = study_in(tmp_path / "s", trials=300)
    assert len(waits) == 1
    monkeypatch.undo()
    assert [number for number, _ in work(study, 3)] == [0, 1, 2]
    assert study_in(tmp_path / "s", trials=300).left() == 297


@pytest.mark.more
def test_a_database_that_another_process_locks_for_longer_than_sqlite_waits_is_waited_for(tmp_path):
    study = study_in(tmp_path / "s", storage=f"sqlite:///{tmp_path}/study.db")
    code = "import sqlite3, sys, time; file = sqlite3.connect(sys.argv[1]); file.execute('BEGIN EXCLUSIVE')\n"
    code += "print('locked', flush=True); time.sleep(7)"
    command = [sys.executable, "-c", code, str(tmp_path / "study.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        assert [number for number, _ in work(study, 1)] == [0]


@pytest.mark.parametrize("url", [None, "sqlite:///{}/study.db"])
def test_several_processes_share_a_study_exactly(tmp_path, url):
    """Two work, two more are killed at any moment, and the trials are done once each."""
    storage = "None" if url is None else repr(url.format(tmp_path))
    code = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from tests.test_study import study_in, value
        from optuna.trial import TrialState
        study = study_in(Path({str(tmp_path / "s")!r}), trials=30, storage={storage})
        print("ready", flush=True)
        while study.left():
            trial = study.take()
            if trial is None:
                study.recover()
                time.sleep(0.05)
                continue
            time.sleep(0.01)
            study.tell(trial, TrialState.COMPLETE, value(trial.chosen), {{}})
            with open({str(tmp_path / "done")!r}, "a") as file:
                file.write(f"{{trial.number}}\\n")
    """)
    root = Path(__file__).parents[1]
    workers = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for victim in workers[:2]:
        victim.stdout.readline()
        os.kill(victim.pid, signal.SIGKILL)
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker in workers[:2] or worker.returncode == 0, errors.decode()
    study = study_in(tmp_path / "s", trials=30, storage=url and url.format(tmp_path))
    assert study.finished() == 30
    assert study.left() == 0
    assert len(study.study.get_trials()) == 30
    numbers = sorted(map(int, (tmp_path / "done").read_text().split()))
    assert len({*range(30)} - {*numbers}) <= 2  # each of the killed may have told its trial and not written it here
    assert len(numbers) == len(set(numbers))


def test_a_storage_that_cannot_be_opened_is_named(tmp_path):
    for url in ("postgresql://nobody@127.0.0.1:1/none", "sqlite:////nowhere/at/all.db", "what", "mysql://"):
        with pytest.raises(UserError, match=r"search\.storage"):
            study_in(tmp_path / "s", storage=url)


def test_each_worker_has_a_gpu_or_a_share_of_one(tmp_path, monkeypatch):
    from omegaconf import OmegaConf

    from alphard.search import local
    from alphard.search.configs import Configs
    from alphard.search.worker import Setup

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    settings = Settings(objective="value", parallel=3)
    setup = Setup(Configs("configs", "config", (), ()), SPACE, settings, tmp_path)
    seen = {}
    for accelerator in ("auto", "cpu"):
        base = OmegaConf.create({"trainer": {"accelerator": accelerator}})
        with local.Workers(setup, base, 9) as workers:
            pids = [worker.process.pid for worker in workers.workers]
            texts = [Path(f"/proc/{pid}/environ").read_text().split("\0") for pid in pids]
        seen[accelerator] = [next(e for e in text if e.startswith("CUDA_VISIBLE")) for text in texts]
    assert [text.partition("=")[2] for text in seen["auto"]] == ["4", "7", "4"]
    assert [text.partition("=")[2] for text in seen["cpu"]] == ["4,7"] * 3
