"""A worker's packs, without the processes around them: grouping, going on, memory that is too small."""

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from alphard.packs.kind import Unpackable
from alphard.search import grammar
from alphard.search.configs import Configs
from alphard.search.pack_worker import Back, Epoch, Packing, Room, Take, Unused
from alphard.search.plan import plan
from alphard.search.pool import Pool
from alphard.search.worker import Done, Job, Setup
from tests.conftest import ROOT

LINE = ("search=mlp", "search.engine=packed", "search.algorithm=random", "search.trials=64", "search.initial=[]")
LINE += ("threads=1", "data.fraction=0.3", "epochs=4", "model.net.hidden=[16],[8]", "optimizer=adamw")
GOOD = {"model.net.hidden": "[16]", "model.net.dropout": 0.1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pool_in(folder: Path, *more: str, name: str = "one") -> Pool:
    said = [*LINE, *more]
    fixed = tuple(text for text in said if "," not in text.replace("[]", "") and "interval" not in text)
    this = plan(Configs(str(ROOT / "configs"), "config", (), fixed).compose(hydra=True), said)
    pool = Pool(Setup(this.configs, this.space, this.settings, folder))
    pool.begin(name, None)
    return pool


def job(number: int, **more: Any) -> Job:
    chosen = GOOD | {"learning_rate": 0.001 * (1 + number)} | {k.replace("__", "."): v for k, v in more.items()}
    return Job(number, chosen, 1)


def ended(pool: Pool, epochs: int = 4) -> dict[int, Done]:
    """Train for some epochs; how those that ended did."""
    done: dict[int, Done] = {}
    for _ in range(epochs):
        pool.fill()
        for kind in [*pool.kinds.values()]:
            turn = pool.epoch(kind)
            done |= turn.ended if turn else {}
    return done


def told(done: dict[int, Done]) -> dict[int, Any]:
    return {n: (d.value, d.error, {k: v for k, v in d.about.items() if k != "seconds"}) for n, d in done.items()}


def test_trials_of_different_shapes_go_into_different_packs(tmp_path: Path) -> None:
    pool = pool_in(tmp_path, "epochs=int(interval(2,4))")
    for number in range(6):
        pool.add(job(number, model__net__hidden="[16]" if number % 2 else "[8]", epochs=2 + number % 3), set())
    pool.fill()
    assert sorted(sorted(kind.live) for kind in pool.kinds.values()) == [[0, 2, 4], [1, 3, 5]]
    assert "model.net.hidden" in str(pool.groups.split())
    assert pool.groups.split() is None  # said once
    assert {pool.groups.named(kind).split("  ")[0] for kind in pool.kinds.values()} >= {"model.net.hidden=[8]"}
    assert {n: d.about["stopped_epoch"] for n, d in ended(pool).items()} == {n: 2 + n % 3 for n in range(6)}
    assert not pool.busy


def test_what_diverges_leaves_alone_and_its_log_says_why(tmp_path: Path) -> None:
    calm, wild = pool_in(tmp_path / "calm"), pool_in(tmp_path / "wild")
    for number in range(4):
        calm.add(job(number), set())
        wild.add(job(number), set())
    wild.add(job(9, learning_rate=1e30), set())
    quiet, loud = ended(calm), ended(wild)
    failed = loud.pop(9)
    assert "training diverged" in str(failed.error)
    assert "training diverged" in (tmp_path / "wild/trials/9/training.log").read_text()
    assert told(loud) == told(quiet)
    assert sorted(quiet) == [0, 1, 2, 3]


def test_a_pack_goes_on_from_what_another_process_saved_bitwise(tmp_path: Path) -> None:
    whole = pool_in(tmp_path / "whole", "checkpoint_seconds=0")
    for number in range(5):
        whole.add(job(number), set())
    expected = told(ended(whole))
    first = pool_in(tmp_path / "study", "checkpoint_seconds=0", name="first")
    for number in range(5):
        first.add(job(number), set())
    ended(first, epochs=2)
    first.save()
    assert (tmp_path / "study/packs/first.ckpt").exists()
    then = pool_in(tmp_path / "study", "checkpoint_seconds=0", name="then")
    for number in (4, 2, 1):  # another order, in a smaller pack, and one beside them that is new
        then.add(job(number), {1, 2, 4})
    then.add(job(7), {1, 2, 4})
    then.fill()
    assert {number: len(e.member.history) for kind in then.kinds.values() for number, e in kind.live.items()} == {
        4: 2, 2: 2, 1: 2, 7: 0,
    }  # fmt: skip
    done = told(ended(then))
    assert {number: done[number] for number in (1, 2, 4)} == {number: expected[number] for number in (1, 2, 4)}
    then.save()
    assert not (tmp_path / "study/packs/then.ckpt").exists()  # nothing is left to go on with


def test_a_state_of_other_values_or_torn_is_not_gone_on_from(tmp_path: Path) -> None:
    first = pool_in(tmp_path, "checkpoint_seconds=0", name="first")
    first.add(job(0), set())
    ended(first, epochs=1)
    first.save()
    other = pool_in(tmp_path, name="other")
    other.add(job(0, learning_rate=0.5), {0})
    other.fill()
    assert [len(e.member.history) for kind in other.kinds.values() for e in kind.live.values()] == [0]
    path = tmp_path / "packs/first.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    torn = pool_in(tmp_path, name="torn")
    with pytest.warns(UserWarning, match=r"first\.ckpt is torn or corrupt: .*; its trials begin anew"):
        torn.add(job(0), {0})
    torn.fill()
    assert [len(e.member.history) for kind in torn.kinds.values() for e in kind.live.values()] == [0]


@pytest.mark.parametrize(
    ("more", "chosen", "path", "said"),
    [
        (["+trainer.gradient_clip_val=1.0"], {}, "trainer.gradient_clip_val", "alone"),
        (["model.net.hidden=choice([3],[4],[5],[6],[7],[8])", "search.trials=11"], {"model__net__hidden": "[3]"}, "model.net.hidden", "a shape of its own"),
        (["search.pack.memory=1e-6"], {}, "search.pack.memory", "no two fit"),
    ],
)  # fmt: skip
def test_what_packs_with_nothing_says_why(tmp_path: Path, more: Any, chosen: Any, path: str, said: str) -> None:
    pool = pool_in(tmp_path, *more)
    for _ in range(2):
        with pytest.raises(Unpackable, match=said) as why:
            pool.add(job(0, **chosen), set())
        assert why.value.path.startswith(path)
    assert not pool.busy


def test_out_of_memory_halves_a_pack_which_ends_as_one_with_room(tmp_path: Path) -> None:
    """For real: no more memory may be mapped than the process has, until half of the trials are tried."""
    roomy = pool_in(tmp_path / "roomy")
    wide = {"model__net__hidden": "[16]"}
    for number in range(6):
        roomy.add(job(number, **wide), set())
    expected = told(ended(roomy))
    tight = pool_in(tmp_path / "tight")
    for number in range(6):
        tight.add(job(number, **wide), set())
    tight.fill()
    (kind,) = tight.kinds.values()
    inner = kind.pack.epoch

    def short_of_memory() -> dict[int, float]:
        before = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), before[1]))
        try:
            torch.empty(1 << 28).fill_(0)  # what a larger step would ask of the allocator
            return inner()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    kind.pack.epoch = short_of_memory
    turn = tight.epoch(kind)
    assert turn is not None
    assert (turn.reports, turn.ended, kind.most) == ([], {}, 3)
    assert "6 trials: out of memory; the pack goes on with 3" in tight.said
    done = ended(tight, epochs=8)
    assert told(done) == expected


def test_what_a_users_net_raises_in_a_pack_lets_its_trials_train_alone(tmp_path: Path) -> None:
    pool = pool_in(tmp_path)
    for number in range(3):
        pool.add(job(number), set())
    pool.fill()
    (kind,) = pool.kinds.values()
    kind.pack.stack = None  # as broken as it gets
    pool.epoch(kind)
    assert sorted(pool.alone) == [0, 1, 2]
    assert "such trials train one at a time" in pool.said
    assert not pool.busy


def test_a_config_to_read_is_a_trials_own_whatever_came_before(tmp_path: Path) -> None:
    said = [*LINE[:-2], "model.net.hidden=[16],[8,8]", "optimizer=adamw,sgd"]
    fixed = tuple(text for text in said if "," not in text.replace("[]", ""))
    this = plan(Configs(str(ROOT / "configs"), "config", (), fixed).compose(hydra=True), said)
    for hidden, optimizer, more in (
        ("[16]", "adamw", {}),
        ("[8,8]", "sgd", {"optimizer.momentum": 0.9}),
        ("[16]", "sgd", {"optimizer.momentum": 0.6}),
        ("[8,8]", "adamw", {}),
    ):
        chosen = {"learning_rate": len(hidden) / 1000, "model.net.hidden": hidden, "optimizer": optimizer} | more
        plain, copy = this.configs.to_read(this.space, chosen), this.configs.trial(this.space, chosen)
        assert plain == OmegaConf.to_container(copy, resolve=True)
        assert "search" not in plain


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("a: {lr: '${rate}', widths: '${net.hidden}'}\nb: '${a}'\nc: '${b.lr}'", True),
        ("a: ???\nb: '${fixed}'", True),
        ("a: '${oc.select:rate}'", False),
        ("a: '${oc.env:HOME}'", False),
        ("a: at ${rate}", False),
        ("a: ['${rate}', 1]", False),
        ("a: {b: '${..rate}'}", False),
        ("a: {b.c: '${rate}'}", False),
        ("a: {0: '${rate}'}", False),
        ("a: ???\nb: '${a}'", False),
        ("a: '\\${rate}'", False),
    ],
)
def test_references_are_read_once_where_they_say_no_more_than_a_path(tmp_path: Path, said: str, read: bool) -> None:
    (tmp_path / "config.yaml").write_text(f"rate: 0.5\nfixed: 1\nnet: {{hidden: [4]}}\n{said}\n")
    space = grammar.read({"rate": "interval(0, 1)", "net.hidden": "choice([8], [8, 4])"})
    configs = Configs(str(tmp_path), "config", (), ())
    for rate, hidden in ((0.25, "[8]"), (0.75, "[8, 4]"), (0.125, "[8]")):
        chosen = {"rate": rate, "net.hidden": hidden}
        found, copy = configs.to_read(space, chosen), configs.trial(space, chosen)
        assert isinstance(found, dict) == read
        resolve = said != "a: ???\nb: '${a}'"  # which cannot be
        left, right = (OmegaConf.to_container(OmegaConf.create(one), resolve=resolve) for one in (found, copy))
        assert left == right


def test_what_is_ready_trains_though_the_next_word_is_that_no_trial_may_begin(tmp_path: Path) -> None:
    setup = pool_in(tmp_path).setup
    ours, theirs = Pipe()

    def work() -> None:
        with theirs, contextlib.suppress(EOFError, OSError):
            Packing(setup, theirs).serve()

    worker = threading.Thread(target=work)
    worker.start()
    with ours:
        ours.send(Take([job(number) for number in range(3)], set(), "one", None))
        ours.send(Back())
        assert isinstance(ours.recv(), Room)
        ours.send(Take([], set(), "one", None))
        assert ours.recv() == Unused([])
        said = ours.recv()
        assert isinstance(said, Epoch)
        assert {number for number, _, _ in said.reports} == {0, 1, 2}
    worker.join()
