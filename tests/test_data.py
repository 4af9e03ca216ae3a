"""Splits, sources of ready numbers, and batches.  Each bad array is one error that names its config path."""

import contextlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alphard.data import Batches, BuiltIn, Npz, Splits, Synthetic, Table
from alphard.data.table import part_of, stratified
from alphard.errors import UserError

Arrays = dict[str, Any]


def rows_of(splits: Splits) -> list[set[bytes]]:
    """The rows of each split, told apart by their bytes."""
    tables = [splits.train, splits.validation, *([splits.test] if splits.test else [])]
    return [{x.tobytes() for x in table.X} for table in tables]


def good(seed: int = 0) -> Arrays:
    """Arrays of a sound npz set: 40, 20 and 10 rows, 3 features, 2 classes."""
    random = np.random.default_rng(seed)
    arrays: Arrays = {}
    for name, n in (("train", 40), ("val", 20), ("test", 10)):
        arrays[f"X_{name}"] = random.normal(size=(n, 3)).astype(np.float32)
        arrays[f"y_{name}"] = np.arange(n) % 2
    return arrays


def saved(folder: Path, arrays: Arrays) -> dict[str, Any]:
    """The arrays in their files, as arguments of Npz."""
    paths: dict[str, Any] = {}
    for argument, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        path = folder / f"{argument}.npz"
        np.savez(path, **{key: value for key, value in arrays.items() if key.endswith(f"_{name}")})
        paths[argument] = str(path)
    return paths


def refusal(**arguments: Any) -> str:
    """The one problem that loading raises."""
    with pytest.raises(UserError) as caught:
        Npz(**arguments).splits  # noqa: B018
    (problem,) = caught.value.problems
    return problem


# The split


@given(
    counts=st.lists(st.integers(10, 60), min_size=2, max_size=4),
    shares=st.tuples(st.floats(0.1, 0.4), st.floats(0.1, 0.4)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_parts_are_disjoint_and_complete_and_keep_class_shares(
    counts: list[int], shares: tuple[float, float], seed: int
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    parts = stratified(y, {"data.test_fraction": shares[0], "data.validation_fraction": shares[1]}, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    for part, share in zip(parts[1:], shares, strict=True):
        for label, count in enumerate(counts):
            assert abs(np.sum(y[part] == label) - share * count) < 2


def test_split_is_fixed_by_split_seed_and_not_by_seed() -> None:
    def validation(**seeds: int) -> np.ndarray:
        return BuiltIn(name="digits", **seeds).splits.validation.X

    assert np.array_equal(validation(seed=0), validation(seed=1))
    assert not np.array_equal(validation(split_seed=0), validation(split_seed=1))


def test_three_splits_share_no_row() -> None:
    splits = Synthetic(rows=1000, features=4, classes=3, validation_fraction=0.2, test_fraction=0.1).splits
    train, validation, test = rows_of(splits)
    assert (len(train), len(validation), len(test)) == (700, 200, 100)
    assert len(train | validation | test) == 1000


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_built_in_rows_are_standardised_by_the_training_rows(name: Any) -> None:
    splits = BuiltIn(name=name).splits
    spread = splits.train.X.std(axis=0)
    assert np.allclose(splits.train.X.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(spread[spread > 0], 1, atol=1e-4)
    assert splits.train.X.dtype == np.float32
    assert len(splits.feature_names) == splits.train.X.shape[1]
    assert len(splits.classes) == len(np.unique(splits.train.y))


@pytest.mark.parametrize(
    ("fractions", "path"),
    [
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "data.validation_fraction"),
        ({"validation_fraction": 0.001}, "data.validation_fraction"),
    ],
)
def test_impossible_split_is_refused(fractions: dict[str, Any], path: str) -> None:
    with pytest.raises(UserError, match=f"^{path}: "):
        Synthetic(rows=100, features=2, classes=2, **fractions).splits  # noqa: B018


@pytest.mark.parametrize(
    ("counts", "share", "problem"),
    [
        ([10, 1], 0.2, "class b has only 1 row, too few for every split; drop"),
        ([1, 10, 1, 1], 0.2, "class a has only 1 row, and 2 more classes likewise, too few for every split; drop"),
        ([2, 2, 2, 2], 0.25, "0.25 of 8 rows is 2, fewer than the 4 classes; take more"),
        ([2, 2, 2, 2], 0.75, "0.75 of 8 rows leaves 2, fewer than the 4 classes; take less"),
    ],
)
def test_classes_that_cannot_be_split_are_named(counts: list[int], share: float, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        stratified(np.repeat(np.arange(len(counts)), counts), {"data.part": share}, 0, "abcd")
    assert str(caught.value).startswith(f"data.part: {problem}")


def test_a_class_used_up_by_the_test_rows_is_named() -> None:
    y = np.array([0] * 20 + [1] * 2)
    with pytest.raises(UserError, match=r"^data.validation_fraction: class 1 has only 2 rows, too few for every split"):
        stratified(y, {"data.test_fraction": 0.4, "data.validation_fraction": 0.3}, 0)


@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    shares=st.tuples(st.floats(0, 0.49), st.floats(0.01, 0.5)),
    seed=st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_a_split_that_cannot_be_is_always_said_in_our_words(
    counts: list[int], shares: tuple[float, float], seed: int
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    with contextlib.suppress(UserError):
        parts = stratified(y, {"data.test_fraction": shares[0], "data.validation_fraction": shares[1]}, seed)
        assert sorted(np.concatenate(parts)) == list(range(len(y)))


# A part of the training rows


@given(
    counts=st.lists(st.integers(1, 50), min_size=2, max_size=5),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_fraction_keeps_class_shares_to_the_nearest_row(counts: list[int], fraction: float, seed: int) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = part_of(y, fraction, seed)
    assert list(np.bincount(y[rows])) == [max(1, round(fraction * n)) for n in counts]
    assert len(set(rows)) == len(rows)
    assert set(part_of(y, fraction / 2, seed)) <= set(rows)


def test_fraction_never_touches_the_other_splits() -> None:
    whole = BuiltIn(name="digits", test_fraction=0.1).splits
    tenth = BuiltIn(name="digits", test_fraction=0.1, fraction=0.1).splits
    assert whole.test is not None
    assert tenth.test is not None
    assert np.array_equal(whole.validation.X, tenth.validation.X)
    assert np.array_equal(whole.test.X, tenth.test.X)
    assert rows_of(tenth)[0] < rows_of(whole)[0]
    assert len(tenth.train) == pytest.approx(0.1 * len(whole.train), abs=5)


def test_facts_count_the_training_rows_that_are_left() -> None:
    data = BuiltIn(name="breast_cancer", fraction=0.5)
    assert data.facts["features"] == 30
    assert data.facts["classes"] == 2
    assert data.facts["class_counts"] == list(np.bincount(data.splits.train.y))


# Made rows


def test_synthetic_has_the_size_that_was_asked_for() -> None:
    data = Synthetic(rows=500, features=7, classes=3)
    assert len(data.splits.train) + len(data.splits.validation) == 500
    assert data.splits.train.X.shape[1] == 7
    assert data.splits.train.X.dtype == np.float32
    assert data.facts["classes"] == 3


def test_synthetic_is_the_same_each_time_and_different_for_another_split_seed() -> None:
    one, same, other = (Synthetic(rows=200, split_seed=s).splits.train.X for s in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_synthetic_is_learnable_and_noise_makes_it_harder() -> None:
    from sklearn.linear_model import LogisticRegression

    def accuracy(noise: float) -> float:
        splits = Synthetic(rows=2000, features=8, classes=3, noise=noise).splits
        model = LogisticRegression(max_iter=500).fit(splits.train.X, splits.train.y)
        return float(model.score(splits.validation.X, splits.validation.y))

    assert accuracy(0.1) > 0.9
    assert accuracy(0.1) > accuracy(2.0) > 0.4


# Npz files


def test_npz_gives_the_arrays_of_three_files(tmp_path: Path) -> None:
    arrays = good()
    splits = Npz(**saved(tmp_path, arrays)).splits
    assert splits.test is not None
    for table, name in ((splits.train, "train"), (splits.validation, "val"), (splits.test, "test")):
        assert np.array_equal(table.X, arrays[f"X_{name}"])
        assert np.array_equal(table.y, arrays[f"y_{name}"])
        assert table.X.dtype == np.float32
        assert table.y.dtype == np.int64


def test_npz_needs_no_third_file(tmp_path: Path) -> None:
    paths = saved(tmp_path, good())
    data = Npz(train=paths["train"], validation=paths["validation"])
    assert data.splits.test is None
    with pytest.raises(UserError, match=r"^score_test: .* no test split"):
        data.test_dataloader()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([7, 3, 5]), ["3", "5", "7"]),
        (np.array([2.0, 0.0, 1.0]), ["0", "1", "2"]),
        (np.array([2.0, 0.0, 1.0], dtype=np.float16), ["0", "1", "2"]),
        (np.array([3, 255, 0], dtype=np.uint8), ["0", "3", "255"]),
        (np.array([True, False, True]), ["False", "True"]),
        (np.array(["cat", "ant", "bee"]), ["ant", "bee", "cat"]),
        (np.array([b"cat", b"ant", "bée".encode()]), ["ant", "bée", "cat"]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_labels_are_numbered_in_the_order_of_their_classes(
    tmp_path: Path, labels: np.ndarray, classes: list[str]
) -> None:
    arrays = good()
    for name, n in (("train", 40), ("val", 20), ("test", 10)):
        arrays[f"y_{name}"] = np.resize(labels, n)
    splits = Npz(**saved(tmp_path, arrays)).splits
    assert splits.classes == classes
    assert np.array_equal(np.unique(arrays["y_val"])[splits.validation.y], arrays["y_val"])


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int32, np.float16, np.float64])
def test_features_of_any_number_type_become_float32(tmp_path: Path, kind: Any) -> None:
    arrays = good()
    arrays["X_val"] = np.asfortranarray((arrays["X_val"] > 0).astype(kind))
    X = Npz(**saved(tmp_path, arrays)).splits.validation.X
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert np.array_equal(X, arrays["X_val"])


def test_npz_by_url() -> None:
    arrays = good()
    for argument, name in (("train", "train"), ("validation", "val")):
        content = io.BytesIO()
        np.savez_compressed(content, **{f"X_{name}": arrays[f"X_{name}"], f"y_{name}": arrays[f"y_{name}"]})
        fsspec.filesystem("memory").pipe_file(f"/test_npz/{argument}.npz", content.getvalue())
    splits = Npz(train="memory://test_npz/train.npz", validation="memory://test_npz/validation.npz").splits
    assert np.array_equal(splits.train.X, arrays["X_train"])
    gone = refusal(train="memory://test_npz/train.npz", validation="memory://test_npz/gone.npz")
    assert gone == "data.validation: memory://test_npz/gone.npz does not exist"


@pytest.mark.parametrize("kinds", [(np.int64, np.uint64), (np.uint64, np.int64), (np.uint64, np.uint64)])
def test_large_labels_are_told_apart_whatever_integers_they_are(tmp_path: Path, kinds: tuple[Any, Any]) -> None:
    arrays = good()
    near = np.array([2**53, 2**53 + 1, 2**62, 2**62 + 1])
    arrays["y_train"], arrays["y_val"] = np.resize(near, 40).astype(kinds[0]), np.resize(near, 20).astype(kinds[1])
    del arrays["X_test"], arrays["y_test"]
    paths = saved(tmp_path, arrays)
    splits = Npz(train=paths["train"], validation=paths["validation"]).splits
    assert splits.classes == [str(label) for label in near]
    assert np.array_equal(splits.validation.y, np.resize(np.arange(4), 20))


def spoilt(array: np.ndarray, value: object) -> np.ndarray:
    """A copy whose second row holds `value`."""
    array = array.astype(np.float64)
    array[1] = value
    return array


BAD: dict[str, tuple[str, Any, str, str]] = {
    # what is wrong: array, what becomes of it, config path, words of the message
    "X of one dimension": ("X_train", lambda a: a[:, 0], "data.train", "1 dimensions"),
    "X of three dimensions": ("X_val", lambda a: a[..., None], "data.validation", "3 dimensions"),
    "y of two dimensions": ("y_train", lambda a: a[:, None], "data.train", "2 dimensions"),
    "y a single number": ("y_val", lambda a: a[0], "data.validation", "0 dimensions"),
    "y shorter than X": ("y_train", lambda a: a[:-1], "data.train", "40 rows and y 39"),
    "y longer than X": ("X_test", lambda a: a[:-1], "data.test", "9 rows and y 10"),
    "NaN in X": ("X_train", lambda a: spoilt(a, np.nan), "data.train", "X[1, 0] is nan"),
    "infinity in X": ("X_val", lambda a: spoilt(a, -np.inf), "data.validation", "X[1, 0] is -inf"),
    "X too large for float32": ("X_val", lambda a: spoilt(a, 1e300), "data.validation", "X[1, 0] is 1e+300"),
    "NaN in y": ("y_train", lambda a: spoilt(a, np.nan), "data.train", "y[1] is not finite"),
    "infinity in y": ("y_val", lambda a: spoilt(a, np.inf), "data.validation", "y[1] is not finite"),
    "y of measurements": ("y_train", lambda a: spoilt(a, 0.5), "data.train", "y holds 0.5"),
    "y beyond integers": ("y_train", lambda a: spoilt(a, 1e300), "data.train", "y holds 1e+300"),
    "a label that training never saw": ("y_val", lambda a: a + 1, "data.validation", "label 2 never occurs"),
    "a label that only the test rows have": ("y_test", lambda a: a - 1, "data.test", "label -1 never occurs"),
    "text where training has numbers": ("y_val", lambda a: a.astype(str), "data.validation", "one kind"),
    "one class only": ("y_train", lambda a: a * 0, "data.train", "only one class, 0"),
    "no row": ("X_val", lambda a: a[:0], "data.validation", "empty"),
    "no feature": ("X_train", lambda a: a[:, :0], "data.train", "empty"),
    "another number of features": (
        "X_val",
        lambda a: a[:, :2],
        "data.validation",
        "2 features and the training rows 3",
    ),
    "X of text": ("X_train", lambda a: a.astype(str), "data.train", "give numbers"),
    "X complex": ("X_train", lambda a: a.astype(complex), "data.train", "give numbers"),
    "y of dates": ("y_train", lambda a: a.astype("datetime64[s]"), "data.train", "whole numbers or text"),
    "X of objects": ("X_train", lambda a: a.astype(object), "data.train", "could run code"),
    "bytes that are no UTF-8": (
        "y_train",
        lambda a: np.where(a, b"caf\xe9", b"caf\xe8"),
        "data.train",
        "y[0] is b'caf\\xe8', which is no UTF-8",
    ),
    "y beyond int64": (
        "y_val",
        lambda a: a.astype(np.uint64) + np.uint64(2**63),
        "data.validation",
        f"y holds {2**63 + 1}",
    ),
    "y of objects": ("y_val", lambda a: a.astype(object), "data.validation", "could run code"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_array_is_one_error_by_its_config_path(tmp_path: Path, case: str) -> None:
    name, change, path, words = BAD[case]
    arrays = good()
    arrays[name] = change(arrays[name])
    problem = refusal(**saved(tmp_path, arrays))
    assert problem.startswith(f"{path}: ")
    assert words in problem


def test_missing_array_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    arrays = good()
    arrays["x_val"] = arrays.pop("X_val")
    problem = refusal(**saved(tmp_path, arrays))
    assert problem.startswith("data.validation: ")
    assert problem.endswith("has no array X_val; it has y_val, x_val")


def npy() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros((2, 2)))
    return content.getvalue()


def not_arrays() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("X_val.npy", "no array")
        archive.writestr("y_val.npy", "nor this")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (pickle.dumps({"X_val": [1.0]}), "is a pickle, which could run code"),
        (pickle.dumps([1.0], protocol=0), "is not an npz file"),
        (npy(), "is not an npz file"),
        (b"a,b\n1,2\n", "is not an npz file"),
        (not_arrays(), "files that are no arrays"),
    ],
    ids=["empty", "pickle", "old pickle", "npy", "csv", "zip of text"],
)
def test_file_of_another_kind_is_told_apart(tmp_path: Path, content: bytes, words: str) -> None:
    paths = saved(tmp_path, good())
    Path(paths["validation"]).write_bytes(content)
    problem = refusal(**paths)
    assert problem.startswith(f"data.validation: {paths['validation']} ")
    assert words in problem


def test_pickled_npz_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    arrays = good() | {"X_train": np.array([[Trap()]], dtype=object)}
    assert "could run code" in refusal(**saved(tmp_path, arrays))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("path", ["gone.npz", "gone/../gone.npz"])
def test_missing_file_says_from_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(train=path, validation=path) == f"data.train: {path} does not exist, seen from {tmp_path}"


def test_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal(train=str(tmp_path), validation="x") == f"data.train: {tmp_path} is a folder; give a file"


def loaded(**paths: Any) -> Table | str:
    """The validation rows, or the problem with them."""
    try:
        return Npz(**paths).splits.validation
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_torn_or_spoilt_anywhere_loads_whole_or_is_refused(tmp_path: Path, save: Any) -> None:
    arrays = good()
    paths = saved(tmp_path, arrays)
    content = io.BytesIO()
    save(content, X_val=arrays["X_val"], y_val=arrays["y_val"])
    whole = content.getvalue()
    random = np.random.default_rng(0)
    for cut in {1, 2, 3, 30, 64, len(whole) // 2, len(whole) - 22, len(whole) - 1}:
        Path(paths["validation"]).write_bytes(whole[:cut])
        assert refusal(**paths).startswith("data.validation: ")
    for _ in range(300):
        spoilt = bytearray(whole)
        spoilt[random.integers(len(whole))] ^= 1 << random.integers(8)
        Path(paths["validation"]).write_bytes(spoilt)
        found = loaded(**paths)
        if isinstance(found, Table):
            assert np.array_equal(found.X, arrays["X_val"])
            assert np.array_equal(found.y, arrays["y_val"])
        else:
            assert found.startswith("data.validation: ")


# Batches


def numbered(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n rows that hold their own number."""
    return torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n)


def epoch(batches: Batches) -> list[int]:
    return [int(i) for _, y in batches for i in y]


@given(n=st.integers(1, 200), size=st.integers(1, 250) | st.none(), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_every_row_comes_once_an_epoch_with_its_label(n: int, size: int | None, seed: int) -> None:
    batches = Batches(*numbered(n), size, seed)
    for _ in range(2):
        pairs = list(batches)
        assert len(pairs) == len(batches)
        assert all(len(y) == min(size or n, n) for _, y in pairs[:-1])
        assert all(torch.equal(x[:, 0].long(), y) for x, y in pairs)
        assert sorted(int(i) for _, y in pairs for i in y) == list(range(n))


@given(n=st.integers(2, 200), size=st.integers(2, 100), ranks=st.integers(1, 5))
@settings(deadline=None)
def test_no_batch_is_a_single_row(n: int, size: int, ranks: int) -> None:
    shares = [Batches(*numbered(n), size, seed=1, rank=rank, ranks=ranks) for rank in range(ranks)]
    lengths = [[len(y) for _, y in share] for share in shares]
    assert all(found == lengths[0] for found in lengths)
    assert {len(share) for share in shares} == {len(lengths[0])}
    assert 1 not in lengths[0] or -(-n // ranks) == 1
    assert max(lengths[0]) <= size + 1


def test_batch_norm_trains_where_one_row_is_left_over() -> None:
    norm = torch.nn.BatchNorm1d(1).train()
    lengths = [len(norm(x)) for x, _ in Batches(*numbered(1437), 359, seed=0)]  # digits; 1437 is 4 * 359 + 1
    assert lengths == [359, 359, 359, 360]


@given(n=st.integers(1, 60), ranks=st.integers(1, 9), size=st.integers(1, 70) | st.none())
@settings(deadline=None)
def test_shares_of_several_processes_are_equally_long_and_cover_all_rows(n: int, ranks: int, size: int | None) -> None:
    shares = [Batches(*numbered(n), size, seed=1, rank=rank, ranks=ranks) for rank in range(ranks)]
    rows = [epoch(share) for share in shares]
    assert {len(share) for share in rows} == {-(-n // ranks)}
    assert len({len(share) for share in shares}) == 1
    assert {i for share in rows for i in share} == set(range(n))
    most = max(sum(share.count(i) for share in rows) for i in range(n))
    assert most <= -(-ranks // n) + 1  # rows are doubled only to fill up the last shares


def test_orders_differ_between_epochs_and_seeds_and_return_with_the_seed() -> None:
    def orders(seed: int) -> list[list[int]]:
        batches = Batches(*numbered(50), 8, seed)
        return [epoch(batches) for _ in range(4)]

    assert orders(0) == orders(0)
    assert len({tuple(order) for seed in (0, 1, 2) for order in orders(seed)}) == 12


def test_an_epochs_order_needs_no_epoch_before_it() -> None:
    one = Batches(*numbered(50), 8, seed=0)
    orders = [epoch(one) for _ in range(3)]
    assert [epoch(Batches(*numbered(50), 8, seed=0, epoch=e)) for e in range(3)] == orders


def test_order_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    epoch(Batches(*numbered(50), 8, seed=0))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("size", [None, 50, 1000])
def test_full_batch_is_the_tensors_themselves(size: int | None) -> None:
    X, y = numbered(50)
    ((x, labels),) = Batches(X, y, size, seed=0)
    assert x is X
    assert labels is y


def test_validation_batches_share_the_arrays_memory() -> None:
    data = Synthetic(rows=50_000, features=2, classes=2, validation_fraction=0.5)
    batches = data.val_dataloader()
    start = data.splits.validation.X.ctypes.data
    assert len(batches) > 1
    assert [x.data_ptr() - start for x, _ in batches] == [i * batches.size * 2 * 4 for i in range(len(batches))]
    assert torch.equal(torch.cat([y for _, y in batches]), torch.from_numpy(data.splits.validation.y))
