"""The pictures that a run leaves, as PNG bytes."""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from alphard.history import History

mpl.rcParams["font.size"] = 9


def learning_curves(history: History) -> bytes:
    """Losses on the left, validation accuracy on the right, by epoch."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, names, label in (
        (left, ("train_loss", "validation_loss"), "loss [nats per row]"),
        (right, ("validation_accuracy",), "accuracy"),
    ):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history.rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
                axes.legend(frameon=False)
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
    return _png(figure)


def confusion_matrix(counts: list[list[int]], classes: list[str]) -> bytes:
    """Counts of rows, true classes down, predicted ones across; numbers where there is room for them."""
    side = max(3.0, min(12.0, 0.45 * len(classes) + 1.5))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 30:
        axes.set_xticks(range(len(classes)), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        axes.set_yticks(range(len(classes)), classes)
        darkest = max(map(max, counts))
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                color = "white" if count > darkest / 2 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color)
    return _png(figure)


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
