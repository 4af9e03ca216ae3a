"""Which names a `_target_` may have: the list is code, and an alias of something outside it is no way in."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from alphard import data, models, targets

pytestmark = pytest.mark.hydra

# A user's module: a network, a function, and what a module of Python has in it by importing it.
MINE = """
import os
import subprocess
from functools import partial
from os import system as innocent
from torch import hub, nn
from torch.hub import load

class Net(nn.Module):
    class Block(nn.Module): ...
    def __init__(self, features, classes, width: int = 3): super().__init__()
    @classmethod
    def small(cls): return cls(1, 2)

def build(): return Net(1, 2)
half = partial(os.system, "true")
number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with a user's packages `mine` and `broken`, and the module `single`, in src/ beside alphard."""
    src = tmp_path / "src"
    for package, text in (
        ("mine", MINE),
        ("broken", "import no_such_package"),
        ("__pycache__", ""),
        ("x.egg-info", ""),
    ):
        (src / package).mkdir(parents=True)
        (src / package / "__init__.py").write_text(text)
    (src / "mine" / "deep.py").write_text(MINE)
    (src / "single.py").write_text(MINE)
    (src / "notes.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.syspath_prepend(src)
    monkeypatch.setattr(targets, "__file__", str(src / "alphard" / "targets.py"))
    before = set(sys.modules)
    targets.own_packages.cache_clear()
    yield src
    targets.own_packages.cache_clear()
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("mine", "broken", "single"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("alphard.data.Csv", data.Csv),
        ("alphard.data.tabular_file.Csv", data.Csv),
        ("alphard.models.MLP", models.MLP),
        ("torch.nn.Linear", torch.nn.Linear),
        ("torch.nn.modules.linear.Linear", torch.nn.Linear),
        ("torch.optim.AdamW", torch.optim.AdamW),
        ("torch.optim.lr_scheduler.CosineAnnealingLR", torch.optim.lr_scheduler.CosineAnnealingLR),
        ("pytorch_lightning.Trainer", pl.Trainer),
        ("pytorch_lightning.callbacks.EarlyStopping", pl.callbacks.EarlyStopping),
        ("pytorch_lightning.loggers.CSVLogger", pl.loggers.CSVLogger),
    ],
)
def test_trusted_name_leads_to_its_class(name: str, target: type) -> None:
    assert targets.locate(name) is target


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.exec",
        "subprocess.Popen",
        "torch.hub.load",
        "torch.load",
        "torch.utils.data.DataLoader",
        "torch.nnx.Linear",
        "torch_nn.Linear",
        "pytorch_lightning.cli.LightningCLI",
        "pytorch_lightning.LightningModule",
        "hydra.utils.instantiate",
        "alphard.run.run",
        "alphard.storage.Folder",
        "alphard.database.X",
        "pickle.loads",
    ],
)
def test_name_outside_the_list_is_refused(name: str) -> None:
    with pytest.raises(targets.Untrusted, match=rf"^{name} is not trusted; a target is one of torch\.nn\.\*"):
        targets.locate(name)


def test_refused_name_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "springs_at_import.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(targets.Untrusted):
        targets.locate("springs_at_import.Net")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.modules.module.torch.hub.load",
        "pytorch_lightning.loggers.csv_logs.os.system",
        "alphard.data.sources.storage.Folder",
        "torch.nn.modules.container.OrderedDict",
        "pytorch_lightning.callbacks.lambda_function.Callable",
    ],
)
def test_alias_of_something_outside_is_refused(name: str) -> None:
    with pytest.raises(targets.Untrusted, match=r" is an alias of .*, which is not trusted$"):
        targets.locate(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.Linear.__init__",
        "torch.nn.Linear.forward.__globals__",
        "torch.nn._reduction.legacy_get_enum",
        "__main__.Net",
        "Linear",
        "",
        "torch.nn.",
        ".torch.nn",
        "torch..nn.Linear",
        "torch.nn.Linear ",
        "torch.nn.Linear\n",
        "torch.nn.Linear()",
        "torch/nn.Linear",
        5,
        None,
        ["torch.nn.Linear"],
    ],
)
def test_what_is_no_plain_dotted_name_is_refused(name: object) -> None:
    with pytest.raises(targets.Untrusted, match=r"is not the dotted name of a class$"):
        targets.locate(name)


@pytest.mark.parametrize("name", ["torch.nn.functional", "torch.optim.lr_scheduler", "torch.nn.modules.linear"])
def test_module_is_no_target(name: str) -> None:
    with pytest.raises(targets.Untrusted, match=r"is not a class or function$"):
        targets.locate(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.functional.relu",
        "torch.nn.init.normal_",
        "torch.nn.Linear.forward",
        "alphard.data.tabular_file.read",
        "alphard.data.Splits.of",
        "pytorch_lightning.callbacks.Callback.on_fit_start",
    ],
)
def test_of_the_libraries_only_classes_are_trusted(name: str) -> None:
    with pytest.raises(targets.Untrusted, match=r"is a function; of the libraries only classes are trusted$"):
        targets.locate(name)


@pytest.mark.parametrize(
    "name", ["torch.nn.Liner", "torch.nn.nope.Linear", "alphard.data.csv.Csv", "torch.optim.AdamX"]
)
def test_name_that_leads_nowhere_is_told_from_one_that_is_refused(name: str) -> None:
    with pytest.raises((ImportError, AttributeError), match=name.split(".")[-2] if "x" in name else " has no "):
        targets.locate(name)


@given(st.lists(st.text(max_size=8), max_size=4).map(".".join) | st.text(max_size=30))
def test_no_text_at_all_leads_out_of_the_list(name: str) -> None:
    with pytest.raises((targets.Untrusted, ImportError, AttributeError)):
        targets.locate(name)


# A user's own packages


def test_own_packages_are_what_lies_in_src_beside_alphard(mine: Path) -> None:
    assert targets.own_packages() == {"mine", "broken", "single"}
    assert {"mine.*", "single.*"} < set(targets.patterns())
    assert "(broken.*, mine.*, single.*)" in targets.allowed()


def test_without_a_repository_a_neighbour_is_not_trusted(mine: Path) -> None:
    (mine.parent / "pyproject.toml").unlink()  # as in site-packages, where alphard's neighbours are anybody's
    assert "mine" not in targets.own_packages()
    with pytest.raises(targets.Untrusted):
        targets.locate("mine.Net")


@pytest.mark.parametrize(
    "name", ["mine.Net", "mine.Net.Block", "mine.Net.small", "mine.build", "mine.deep.Net", "single.Net"]
)
def test_own_classes_and_functions_are_trusted(mine: Path, name: str) -> None:
    assert callable(targets.locate(name))


@pytest.mark.parametrize(
    "name",
    [
        "mine.innocent",
        "mine.os.system",
        "mine.deep.os.system",
        "mine.hub.load",
        "mine.load",
        "mine.subprocess.Popen",
        "single.subprocess.Popen",
        "mine.partial",
        "mine.half",
    ],
)
def test_own_package_is_no_way_out(mine: Path, name: str) -> None:
    with pytest.raises(targets.Untrusted, match=r" is an alias of .*, which is not trusted$"):
        targets.locate(name)


@pytest.mark.parametrize("name", ["mine.number", "mine.os"])
def test_own_things_that_cannot_be_called_are_refused(mine: Path, name: str) -> None:
    with pytest.raises(targets.Untrusted, match=r"is not a class or function$"):
        targets.locate(name)


def test_what_an_own_package_cannot_import_is_named(mine: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        targets.locate("broken.Net")
