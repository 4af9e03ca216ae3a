"""What is built is what was judged: one snapshot of a node, and no resolver between its targets' check and their call."""

import itertools
import os
import pickle
import subprocess
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from alphard.construct import ConstructionError, instantiate
from alphard.errors import UserError
from tests.conftest import ROOT, environment

pytestmark = pytest.mark.hydra

LINEAR = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def node(**root: Any) -> DictConfig:
    """`x` of a config, with its siblings to refer to."""
    found: DictConfig = OmegaConf.create(root).x
    return found


# What Hydra's own instantiate makes, it makes too


def test_a_node_is_built_with_its_references() -> None:
    made = instantiate(node(x={**LINEAR, "out_features": "${wide}"}, wide=5))
    assert made.weight.shape == (5, 2)
    assert instantiate(node(x="${y}", y={**LINEAR, "out_features": "${wide}"}, wide=5)).weight.shape == (5, 2)


def test_what_is_nested_is_built_first() -> None:
    made = instantiate(node(x={"_target_": "torch.nn.Sequential", "_args_": [LINEAR, {"_target_": "torch.nn.ReLU"}]}))
    assert [type(layer).__name__ for layer in made] == ["Linear", "ReLU"]
    held = instantiate(node(x={"_target_": "torch.nn.ModuleDict", "modules": {"a": LINEAR}}))
    assert isinstance(held["a"], torch.nn.Linear)


def test_a_partial_node_leaves_what_is_missing_for_later() -> None:
    made = instantiate(node(x={**LINEAR, "_partial_": True, "out_features": "???"}))
    assert isinstance(made, partial)
    assert made(out_features=7).weight.shape == (7, 2)
    with pytest.raises(ConstructionError, match="out_features is missing"):
        instantiate(node(x={**LINEAR, "out_features": "???"}))


def test_what_is_given_replaces_the_nodes_own_and_stays_the_very_object() -> None:
    given = [torch.nn.ReLU()]
    made = instantiate(node(x={**LINEAR, "in_features": "???"}), in_features=4)
    assert made.weight.shape == (3, 4)
    later = instantiate(node(x={"_target_": "torch.nn.ModuleList"}), _partial_=True, modules=given)
    assert later.keywords["modules"] is given


def test_without_recursion_a_nested_node_stays_a_dict() -> None:
    made = instantiate(
        node(x={"_target_": "torch.nn.Identity", "_recursive_": False, "deep": LINEAR, "_partial_": True})
    )
    assert made.keywords == {"deep": LINEAR}
    with pytest.raises(ConstructionError, match=r"os\.system is not trusted"):
        instantiate(node(x={"_target_": "torch.nn.Identity", "_recursive_": False, "deep": {"_target_": "os.system"}}))


def test_text_that_looks_like_a_reference_stays_text() -> None:
    made = instantiate(node(x={"_target_": "torch.nn.Identity", "_partial_": True, "note": r"\${oc.env:HOME}"}))
    assert made.keywords == {"note": "${oc.env:HOME}"}


def test_null_makes_null_and_what_is_no_node_is_refused() -> None:
    assert instantiate(None) is None
    with pytest.raises(ConstructionError, match="has no _target_"):
        instantiate(node(x={"a": 1}))


def test_what_a_constructor_raises_is_the_cause() -> None:
    with pytest.raises(ConstructionError) as caught:
        instantiate(node(x={**LINEAR, "in_features": "two"}))
    assert isinstance(caught.value.__cause__, TypeError)


def test_the_config_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHARD_TEST_WIDE", "5")
    config = OmegaConf.create({"x": {**LINEAR, "out_features": "${oc.decode:${oc.env:ALPHARD_TEST_WIDE}}"}})
    before = OmegaConf.to_yaml(config)
    instantiate(config.x)
    assert OmegaConf.to_yaml(config) == before


# Targets


@pytest.mark.parametrize(
    "inner",
    [
        {"_target_": "pathlib.Path.touch"},
        [{"_target_": "pathlib.Path.touch"}],
        {"deep": [[{"deeper": {"_target_": "pathlib.Path.touch"}}]]},
        "${oc.create:{_target_:pathlib.Path.touch}}",
        "${oc.create:[{_target_:pathlib.Path.touch}]}",
        "${oc.decode:'{_target_: pathlib.Path.touch}'}",
        "${oc.decode:'[{_target_: pathlib.Path.touch}]'}",
        "${oc.select:absent,{_target_:pathlib.Path.touch}}",
        "${oc.dict.values:held}",
        "${held}",
        "${oc.create:${held}}",
        {"_target_": "hydra.utils.get_method", "path": "pathlib.Path.touch"},
        {"_target_": "hydra.utils.get_class", "path": "pathlib.Path"},
        {"_target_": "hydra.utils.call", "config": {}},
        {"_target_": "hydra.utils.instantiate", "config": {}},
        {"_target_": "${name}"},
        {"_target_": "${oc.env:ALPHARD_TEST_NAME}"},
    ],
)
@pytest.mark.parametrize("place", ["named", "_args_"])
def test_an_untrusted_target_is_refused_before_anything_is_called(
    inner: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHARD_TEST_NAME", "pathlib.Path.touch")
    called: list[int] = []
    monkeypatch.setattr(torch.nn.Identity, "__init__", lambda self, **_: called.append(1))
    first = {"_target_": "torch.nn.Identity"}
    outer = {"_target_": "torch.nn.Identity", "first": first, place: [inner] if place == "_args_" else inner}
    held = {"one": {"_target_": "pathlib.Path.touch"}}
    with pytest.raises(ConstructionError, match="is not trusted"):
        instantiate(node(x=outer, held=held, name="pathlib.Path.touch"))
    assert not called


def test_each_reference_is_resolved_once_for_judging_and_building() -> None:
    """A resolver that says another thing each time: whatever it says first is judged, and only that is called."""
    for start in range(4):
        said = itertools.cycle(["torch.nn.Identity", "pathlib.Path.cwd"])
        for _ in range(start):
            next(said)
        with warnings.catch_warnings():  # OmegaConf 2.4 gives the function another name
            warnings.simplefilter("ignore")
            OmegaConf.register_new_resolver("alphard_turn", lambda said=said: next(said), replace=True)
        if start % 2:
            with pytest.raises(ConstructionError, match=r"pathlib\.Path\.cwd is not trusted"):
                instantiate(node(x={"_target_": "${alphard_turn:}"}))
        else:
            assert isinstance(instantiate(node(x={"_target_": "${alphard_turn:}"})), torch.nn.Identity)
    OmegaConf.clear_resolver("alphard_turn")


@pytest.mark.more
def test_a_target_that_turns_between_check_and_run_is_not_called(tmp_path: Path) -> None:
    """seed_everything sets PL_GLOBAL_SEED after the check: the target is then pandas.read_pickle."""
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Touch(tmp_path / "SPRUNG")))
    arguments = [
        '+callbacks.x._target_="${p.${p.q}}"',
        '+callbacks.x._args_=["${p.${p.a}}"]',
        '+p.q="k${oc.env:PL_GLOBAL_SEED,9}"',
        '+p.a="a${oc.env:PL_GLOBAL_SEED,9}"',
        *("+p.k9=pytorch_lightning.callbacks.Timer", "+p.k0=pandas.read_pickle", "+p.a9=null", "+p.a0=evil.pkl"),
        "epochs=1",
    ]
    done = subprocess.run(
        ["bash", str(ROOT / "convert_command.sh"), *arguments],
        cwd=tmp_path,
        env=environment(ALPHARD_SEALED="1", PATH=f"{ROOT}/.venv/bin:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (tmp_path / "SPRUNG").exists()
    assert done.returncode == 2
    assert "callbacks.x: Untrusted: pandas.read_pickle is not trusted" in done.stderr


def test_a_users_error_passes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("data.path: x: is not there")

    monkeypatch.setattr(torch.nn.Identity, "__init__", refuse)
    with pytest.raises(UserError, match=r"^data\.path: x: is not there$"):
        instantiate(node(x={"_target_": "torch.nn.Identity"}))
