"""Logged values that stay where they are: the same numbers, without Lightning's search for what to move."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection, _ResultMetric
from torchmetrics import Metric

from alphard.unmoved import Unmoved, _Move
from tests.in_process import run_here

LINE = ("data=breast_cancer", "trainer=cpu", "threads=1", "epochs=4", "model.net.hidden=[8]", "checkpoint_seconds=null")


def kept(folder: Path) -> tuple[str, bytes]:
    rows = (folder / "eval_history.csv").read_text().splitlines()
    seconds = rows[0].split(",").index("seconds")
    curves = [[cell for i, cell in enumerate(row.split(",")) if i != seconds] for row in rows]
    return str(curves), (folder / "model.pt").read_bytes()


def test_a_run_is_bitwise_the_same_and_moves_nothing_after_its_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Any] = []
    whole = _ResultMetric.to
    monkeypatch.setattr(
        _ResultMetric, "to", lambda self, *args, **named: (moved.append(self), whole(self, *args, **named))[1]
    )
    run_here(tmp_path / "unmoved", *LINE)
    first = len(moved)
    monkeypatch.setattr(Unmoved, "on_train_epoch_start", lambda *_: None)
    run_here(tmp_path / "moved", *LINE)
    assert kept(tmp_path / "unmoved") == kept(tmp_path / "moved")
    assert 0 < first <= (len(moved) - first) / 4 + 4, "only the first epoch, and the model's last validation"


@pytest.mark.parametrize("given", [lambda device: ((device,), {}), lambda device: ((), {"device": device})])
def test_what_has_to_move_moves(given: Any) -> None:
    """To a device without memory, for there is no other here."""
    results = _ResultCollection(training=True)
    results.log("training_step", "loss", torch.tensor(2.0), batch_size=3)
    logged: Any = results["training_step.loss"]
    logged.to = _Move(logged)
    args, named = given("cpu")
    meta, value = logged.meta, logged.value
    assert logged.to(*args, **named) is logged
    assert logged.meta is meta  # no copy
    assert logged.value is value
    args, named = given("meta")
    moved: Metric = logged.to(*args, **named)
    assert moved is logged
    assert logged.value.device.type == logged.cumulated_batch_size.device.type == "meta"
    assert logged.to("meta") is logged
    assert isinstance(logged.to, _Move)
