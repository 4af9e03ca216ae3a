"""An experiment as commented YAML, proven to say what was meant before anybody reads it."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from alphard.advice import ENOUGH, Advice
from alphard.compose import Refused, compose, first_line, must_be_sound
from alphard.data.profile import Column
from alphard.errors import UserError, masked
from alphard.literals import literal

LISTED = 12  # classes named in a comment


@dataclass
class Experiment:
    """What is known of a file and decided for it.

    classes: names, in the order of `advice.counts`.
    form:    separator, decimal and encoding, where they are not the usual ones.
    """

    name: str
    path: str
    target: str
    line: str
    classes: list[str]
    columns: list[Column]
    advice: Advice
    max_categories: int
    form: dict[str, str]

    def named(self, treatment: str) -> list[str]:
        """The columns of one treatment, in the file's order."""
        return [column.name for column in self.columns if column.treatment == treatment]

    @property
    def objective(self) -> str:
        """The metric that the balance of the classes suggests."""
        return "validation_accuracy" if self.advice.balanced else "validation_balanced_accuracy"

    @property
    def search(self) -> str:
        """The line that searches: mlp.yaml names an objective, and of many rows a tenth tells settings apart."""
        line = f"python train.py experiment={self.name} search=mlp"
        if not self.advice.balanced:
            line += f" search.objective={self.objective}"
        return line + " data.fraction=0.1" * (sum(self.advice.counts) > ENOUGH)


def text(said: Experiment) -> str:
    """The file: each decision with its reason behind it."""
    lines = [*_head(said), "data:", *_data(said), *_settings(said)]
    return "\n".join(lines) + "\n"


def must_be_meant(said: Experiment, content: str, configs: Path) -> None:
    """Compose and check the file outside `configs`; UserError where it does not say what was decided."""
    with tempfile.TemporaryDirectory() as beside:
        (Path(beside) / "experiment").mkdir()
        # A name that no file in configs/experiment has.
        (Path(beside) / "experiment" / "alphard-new.yaml").write_text(content, encoding="utf-8")
        try:
            config = compose(configs, [f"hydra.searchpath=['file://{beside}']", "experiment=alphard-new"])
        except Refused as refusal:
            raise UserError(
                f"configs: refuse the experiment: {first_line(refusal)}; alphard check tells more"
            ) from None
    must_be_sound(config)
    found: Any = OmegaConf.to_container(config.data, resolve=True)
    meant: dict[str, Any] = {"path": said.path, "target": said.target, **said.form}
    meant |= {treatment: said.named(treatment) for treatment in ("numeric", "categorical", "drop")}
    for key, value in meant.items():
        if found[key] != value:
            raise UserError(f"data.{key}: {value!r} cannot be said in YAML; rename it in the file")


def scalar(value: str) -> str:
    """Text as YAML and OmegaConf read it back: quoted where it would be taken for something else."""
    plain = literal(value)
    if re.fullmatch(r"[A-Za-z_][\w./-]*", plain, re.ASCII) and OmegaConf.create(f"x: {plain}").x == plain:
        return plain
    quoted: str = yaml.dump(plain, default_style='"', allow_unicode=True, width=float("inf"))
    return quoted.strip()


def one_line(value: str, most: int = 100) -> str:
    """Text for a comment or a table: printable, without a line's end, not longer than `most`."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in value).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def about(column: Column) -> str:
    """What a column's comment says: the reason, how many values, how many rows lack one."""
    parts = [column.reason]
    if column.values and not column.reason.startswith((f"{column.values:,} values", "one value")):
        parts.append(f"{column.values:,} value{'s' * (column.values > 1)}")
    if 0 < column.missing < 1:
        parts.append(f"{max(column.missing, 0.001):.1%} missing")
    return one_line("; ".join(parts), 200)


def _head(said: Experiment) -> Iterator[str]:
    advice, always = said.advice, one_line(said.classes[said.advice.largest], 40)
    floor = f"always saying {always} scores {advice.majority:.3f}"
    if not advice.balanced:
        floor = f"always saying {always} scores 1/{len(said.classes)}, {1 / len(said.classes):.3f}"
    yield "# @package _global_"
    yield f"# python train.py experiment={said.name}        {duration(advice.seconds)} on 2 cores; {floor}"
    yield f"# Written by: {one_line(masked(said.line), 200)}"
    yield f"# It saw {sum(advice.counts):,} rows.  To treat a column otherwise, move its line to another list."
    yield "defaults:"
    yield "  - override /data: csv"


def _data(said: Experiment) -> Iterator[str]:
    yield f"  path: {scalar(said.path)}"
    for key, value in said.form.items():
        yield f"  {key}: {scalar(value)}"
    yield f"  target: {scalar(said.target)}    # {one_line(_classes(said), 400)}"
    for treatment, what in (
        ("numeric", "imputed by the median, and scaled"),
        ("categorical", "a feature for each value; a gap is a value"),
        ("drop", "not learned from"),
    ):
        yield from _list(treatment, what, [column for column in said.columns if column.treatment == treatment])
    if any(column.treatment == "categorical" and column.values > said.max_categories for column in said.columns):
        yield f"  max_categories: {said.max_categories}    # of a column; the rarest beyond them share one"
    rows = said.advice.rows
    yield f"  validation_fraction: {said.advice.validation_fraction:g}    # {rows[1]:,} rows, to choose by"
    if len(rows) > 2:
        sealed = f"{rows[2]:,} rows, sealed until score_test=true; {rows[0]:,} are left to train on"
    else:
        sealed = f"no test split: {sum(rows):,} rows are too few, or a class is; {rows[0]:,} to train on"
    yield f"  test_fraction: {said.advice.test_fraction:g}    # {sealed}"


def _classes(said: Experiment) -> str:
    """Each class with its rows, as far as a line reaches."""
    counted = list(zip(said.classes, said.advice.counts, strict=True))[:LISTED]
    total = sum(said.advice.counts)
    each = [f"{one_line(name, 40)}: {count:,} rows ({count / total:.1%})" for name, count in counted]
    return f"{len(said.classes)} classes: {'; '.join(each)}{'; …' * (len(said.classes) > LISTED)}"


def _list(treatment: str, what: str, found: Sequence[Column]) -> Iterator[str]:
    if not found:
        yield f"  {treatment}: []    # {what}"
        return
    yield f"  {treatment}:    # {what}"
    names = [scalar(column.name) for column in found]
    wide = min(28, max(map(len, names)))
    for name, column in zip(names, found, strict=True):
        yield f"    - {name:<{wide}}  # {about(column)}"


def _settings(said: Experiment) -> Iterator[str]:
    advice = said.advice
    steps = -(-advice.rows[0] // advice.batch_size)
    yield f"epochs: {advice.epochs}    # at most; early stopping usually ends sooner"
    yield f"batch_size: {advice.batch_size}    # {steps:,} steps an epoch"
    yield f"patience: {advice.patience}    # epochs without a better one before training stops"
    if advice.balanced:
        share = f"the largest class has {advice.majority:.1%} of the rows"
        yield f"objective: {said.objective}    # {share}, so that the share of right answers says enough"
        return
    always = f"always saying {one_line(said.classes[advice.largest], 40)} is right in {advice.majority:.1%} of the rows"
    yield f"objective: {said.objective}    # the classes' mean, for {always}"
    yield "model:"
    yield "  class_weights: balanced    # each class counts alike; probabilities then lean to the rare ones"
    yield "callbacks:    # the best epoch by the same metric, not by validation_loss, which weighs rows alike"
    for name in ("early_stopping", "best_weights"):
        yield f"  {name}: {{monitor: {said.objective}, mode: max}}"


def duration(seconds: float) -> str:
    """About how long, in words that promise no more than is known."""
    if seconds < 90:
        return f"up to {max(10, round(seconds, -1)):g} seconds"
    return f"up to {round(seconds / 60):d} minutes"
