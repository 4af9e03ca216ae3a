"""A finished run's artifacts + rows -> predictions.  Shapes: N rows, F features, C classes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alphard import artifacts, build, documents, scores, targets
from alphard.check import check
from alphard.construct import snapshot
from alphard.data import Batches, preprocessing
from alphard.data.categories import New
from alphard.data.module import EVALUATED
from alphard.data.table import Array, features
from alphard.errors import UserError
from alphard.run import GROUPS
from alphard.storage import Folder

STUDY = "study.yaml"
WHICH = "give the folder of a finished run, or of a study's winner, as in studies/NAME/winner"
AGAIN = "the run's own line with overwrite=true makes it again"
MOST_THREADS = 1024  # beyond which it is no number of threads
REFERRED = re.compile(r"\$\{(?:[\w.]+:)?\.*(\w+)")  # the name at the root that a reference begins with


@dataclass(frozen=True)
class Run:
    """What a finished run's folder says, before anything of it is built.

    config: of the model, and of all that it refers to.
    form:   target, separator, decimal and encoding of the run's own data, where they can be known here.
    """

    folder: Folder
    config: DictConfig
    metrics: Mapping[str, Any]
    form: Mapping[str, str]
    accelerator: str
    precision: Any
    threads: int | None

    @property
    def classes(self) -> list[str]:
        """The names of the labels 0, 1, …"""
        return [str(name) for name in self.metrics["classes"]]


class Predictor:
    """From a user's rows to the probabilities that the run itself gave them at validation, to the last bit.

    columns: those that the rows need.
    numeric: those of them that hold numbers.
    new:     the categories met so far that training did not know.
    """

    def __init__(self, run: Run, decimal: str = ".") -> None:
        self.run, self.decimal, self.new = run, decimal, New()
        if run.threads is not None:
            torch.set_num_threads(run.threads)  # a result's last bits depend on it
        self.width = int(run.metrics["features"])
        content = run.folder.read(preprocessing.FILE)
        where = f"{run.folder.at}: {run.folder.uri(preprocessing.FILE)}"
        self.preprocessing: Any = None if content is None else preprocessing.load(content, self.width, where)
        self.columns, self.numeric = self._needed()
        self.model, self.judge = _model(run)

    def taken(self, frame: pd.DataFrame) -> Array:
        """A frame's rows as the network takes them, (N, F) float32; UserError names the row that it cannot take."""
        if preprocessing.named_columns(self.preprocessing) is not None:
            return preprocessing.transform(self.preprocessing, frame, "rows", self.decimal, self.new)
        if hasattr(self.preprocessing, "feature_names_in_"):  # a transformer of a user's own, fitted on a frame
            return features(np.asarray(self.preprocessing.transform(frame[self.columns])), "rows")
        found = pd.DataFrame({name: preprocessing.numbers(frame[name], "rows") for name in self.columns})
        for name in self.columns:
            gaps = found[name].isna()
            if gaps.any():
                row = int(found.index[int(gaps.argmax())]) + 1
                raise UserError(f"rows: column {name}, row {row}: is missing; this run learnt from rows without gaps")
        X = found.to_numpy()
        return features(X if self.preprocessing is None else np.asarray(self.preprocessing.transform(X)), "rows")

    def logits(self, X: Array) -> torch.Tensor:
        """(N, C) float32 on the CPU, in batches and precision of a validation."""
        rows, device = torch.from_numpy(X), self.judge.strategy.root_device
        batches = Batches(rows.to(device), torch.zeros(len(rows), dtype=torch.int64, device=device), EVALUATED)
        try:
            return scores.forward(self.model, batches, len(self.run.classes), self.judge.precision_plugin)[0]
        except scores.NoLogits as fault:
            raise UserError(f"{self.run.folder.at}: {self.run.folder.path}: {fault}") from None

    def _needed(self) -> tuple[list[str], list[str]]:
        named = preprocessing.named_columns(self.preprocessing)
        if named is not None:
            return [*named[0], *named[1]], named[0]
        names = getattr(self.preprocessing, "feature_names_in_", self.run.metrics["feature_names"])
        return [str(name) for name in names], [str(name) for name in names]


def find(path: str) -> Folder:
    """The folder of the run that `path` means: itself, or for a study its winner.  Raises UserError."""
    folder = Folder(path, "run")
    study, _, last = folder.path.rpartition("/")
    if last == "winner" and folder.read(artifacts.CONFIG) is None:
        folder, path = Folder(study, "run"), study
    if folder.read(artifacts.CONFIG) is None and folder.read(STUDY) is not None:
        winner = Folder(f"{path.rstrip('/')}/winner", "run")
        if winner.read(artifacts.METRICS) is None:
            remedy = f"`alphard retrain {path}` makes one; or name a trial, {path.rstrip('/')}/trials/0"
            raise UserError(f"run: {path} is a study without a winner; {remedy}")
        return winner
    return folder


def read(folder: Folder) -> Run:
    """What the folder of a finished run says, judged; nothing of it is imported or built that is not trusted."""
    config, metrics = _config(folder), _metrics(folder)
    model = _of_model(config)
    groups = GROUPS & {"model", *map(str, model)}
    try:
        _must_name_trusted(OmegaConf.to_container(config, resolve=False))
        check(model, lambda: None, groups)
    except UserError as error:
        where = folder.uri(artifacts.CONFIG)
        raise UserError(*(f"{where}: {problem}" for problem in error.problems)) from None
    form = {name: _known(config, f"data.{name}") for name in ("target", "separator", "decimal", "encoding")}
    threads = _known(config, "threads")
    return Run(
        folder,
        model,
        metrics,
        {name: value for name, value in form.items() if isinstance(value, str)},
        # On a machine of another kind what there is must do.
        "cpu" if _known(config, "trainer.accelerator") == "cpu" else "auto",
        _known(config, "trainer.precision"),
        threads if isinstance(threads, int) and 0 < threads <= MOST_THREADS else None,
    )


def _config(folder: Folder) -> DictConfig:
    text, where = folder.read(artifacts.CONFIG), folder.uri(artifacts.CONFIG)
    if text is None:
        raise UserError(f"run: {folder.path} holds no run, for it has no {artifacts.CONFIG}; {WHICH}")
    return documents.config(text, f"run: {where}", AGAIN)


def _metrics(folder: Folder) -> Mapping[str, Any]:
    content, where = folder.read(artifacts.METRICS), folder.uri(artifacts.METRICS)
    if content is None:
        raise UserError(
            f"run: {folder.path} is not finished, for it has no {artifacts.METRICS}; its own line trains it"
        )
    metrics = documents.of_json(content, f"run: {where}", AGAIN)
    names = metrics.get("classes")
    if isinstance(names, list) and len({*map(str, names)}) < len(names):
        raise UserError(f"run: {where}: classes: two have one name; {AGAIN}")
    needed = {"features": int, "classes": list, "feature_names": list}
    if not all(isinstance(metrics.get(name), kind) for name, kind in needed.items()):
        said = "does not say features, classes and feature_names"
        raise UserError(f"run: {where} {said}; only a run on an alphard.data.TableData can predict rows")
    return metrics


def _of_model(config: DictConfig) -> DictConfig:
    """The model's node and what it refers to, at any depth; the rest may be known only where the run was made."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    wanted, found = ["model"], set[str]()
    while wanted:
        name = wanted.pop()
        if name in raw and name not in found:
            found.add(name)
            wanted += REFERRED.findall(str(raw[name]))
    return OmegaConf.masked_copy(config, sorted(found))


def _must_name_trusted(node: Any, at: str = "") -> None:
    """Raise UserError for a target anywhere in the config that no run may have, used here or not."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        path = f"{at}.{key}" if at else str(key)
        if key == "_target_" and "${" not in str(value):
            try:
                targets.must_be_trusted(value)
            except targets.Untrusted as error:
                raise UserError(f"{path}: {error}") from None
        _must_name_trusted(value, path)


def _known(config: DictConfig, path: str) -> Any:
    """A value, or None where there is none, or none that is known here."""
    try:
        return snapshot(OmegaConf.select(config, path))
    except OmegaConfBaseException:
        return None


def _model(run: Run) -> tuple[Any, Any]:
    """The model with the weights that the run kept, and a trainer that knows device and precision."""
    facts = {"features": run.metrics["features"], "classes": len(run.classes)}
    facts["class_counts"] = run.metrics.get("class_counts") or [1] * len(run.classes)
    judge = build.judge_on(run.accelerator, run.precision)
    model = build.model_of(run.config, facts)
    model.configure_model()
    artifacts.load(run.folder, judge.precision_plugin.convert_module(model))
    return model, judge
