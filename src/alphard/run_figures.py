"""The figures of one run.  C classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from alphard.page import BLUE, GREEN, GREY, MANY, ORANGE, PALE, Drawing, label

NAMED = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "learning_rate", "seconds")
FEW = 6  # curves that colours tell apart; of more, the worst are named
CELLS = 40  # classes whose counts have room in their cells
BESIDE = 12  # classes whose matrix has room beside other figures
HEIGHT = 440  # of the figures beside it
LONGEST = 18  # letters of a class's name beside an axis


def learning(history: Sequence[Mapping[str, float]], best: int | None) -> list[Drawing]:
    """Losses, accuracy, what else the model logs, and the learning rate, by epoch; the best epoch is a line."""
    found = [name for row in history[:1] for name in row if name not in NAMED]
    groups = [
        ("loss", "loss [nats per row]", ["train_loss", "validation_loss"]),
        ("accuracy", "accuracy [share of rows]", ["validation_accuracy"]),
        *((name, name, [name]) for name in found),
        ("rate", "learning rate", ["learning_rate"]),
    ]
    drawings = []
    for name, title, columns in groups:
        lines = [(c, [_or_none(row.get(c)) for row in history]) for c in columns]
        lines = [(c, values) for c, values in lines if any(v is not None for v in values)]
        if lines and not (name == "rate" and _constant(lines[0][1])):
            figure = _over_epochs([int(row["epoch"]) for row in history], lines, title, best)
            said = title.partition(" [")[0].capitalize()
            drawings.append(Drawing(f"learning-{name}", figure, f"{said} by epoch", height=320))
    return drawings


def _over_epochs(
    epochs: list[int], lines: Sequence[tuple[str, list[float | None]]], title: str, best: int | None
) -> go.Figure:
    mode = "lines+markers" if len(epochs) < 60 else "lines"
    colors = {"train_loss": GREY, "learning_rate": GREEN}
    figure = go.Figure(
        [
            go.Scatter(
                x=epochs,
                y=values,
                name=label(column.replace("_", " ")),
                mode=mode,
                line={"color": colors.get(column, BLUE), "width": 2},
                marker={"size": 5},
                hovertemplate="%{y:.5g}",
            )
            for column, values in lines
        ]
    )
    if best:
        figure.add_vline(best, line={"color": ORANGE, "dash": "dot", "width": 1.5})
        side = "right" if best > (epochs[0] + epochs[-1]) / 2 else "left"
        note = {"text": f"best: {best}", "x": best, "y": 1, "yref": "paper", "xanchor": side, "yanchor": "top"}
        figure.add_annotation(**note, showarrow=False, font={"color": ORANGE, "size": 12})
    positive = all(v is None or v > 0 for _, values in lines for v in values)
    wide = positive and lines[0][0] == "learning_rate" and _spread(lines[0][1]) > 20
    figure.update_yaxes(title_text=label(title), type="log" if wide else "linear")
    figure.update_xaxes(title_text="epoch", tickformat="d", **({"dtick": 1} if len(epochs) < 8 else {}))
    return figure.update_layout(hovermode="x unified", showlegend=len(lines) > 1)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], split: str) -> Drawing:
    """Counts in each cell, true classes down; colour is the share of the true class's rows."""
    names = [f"{name}" for name in classes] if len(classes) == len(matrix) else [str(i) for i in range(len(matrix))]
    count, sums = len(names), [sum(row) for row in matrix]
    shares = [[n / total if total else 0.0 for n in row] for row, total in zip(matrix, sums, strict=True)]
    hover = [
        [
            f"true {label(names[i], 60)}<br>predicted {label(names[j], 60)}<br>{n} rows, {100 * shares[i][j]:.1f}%"
            for j, n in enumerate(row)
        ]
        for i, row in enumerate(matrix)
    ]
    place = list(range(count))
    figure = go.Figure(
        go.Heatmap(
            x=place,
            y=place,
            z=shares,
            zmin=0,
            zmax=1,
            colorscale=[[0, PALE], [1, BLUE]],
            showscale=False,
            text=[[str(n) if n else "" for n in row] for row in matrix],
            texttemplate="%{text}" if count <= CELLS else None,
            textfont={"size": 13 if count <= BESIDE else 11},
            hovertext=hover,
            hovertemplate="%{hovertext}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    short = [label(name, LONGEST) for name in names]
    turned = max(map(len, names), default=1) > 3 or count > 20
    ticks = {"tickvals": place, "ticktext": short, "showgrid": False}
    figure.update_xaxes(title_text="predicted class", tickangle=-90 if turned else 0, **ticks)
    figure.update_yaxes(title_text="true class", autorange="reversed", **ticks)
    cell = 28 if count > BESIDE else 34
    letters = 8 * min(LONGEST, max(map(len, names), default=1))
    height = min(max(count * cell + 110 + (letters if turned else 0), HEIGHT), 4000)
    width = min(count * (cell - 6) + 60 + letters, 4000)
    note = "Rows in each cell; the stronger the colour, the larger a share of its true class."
    return Drawing(
        f"confusion-{split}",
        figure,
        "Confusion matrix",
        note,
        height=height,
        width=width if count > 6 else 0,
        alone=count > BESIDE,
    )


def calibration(bins: Sequence[Mapping[str, Any]], error: float | None, split: str) -> Drawing:
    """Accuracy of the rows of each bin of confidence, and how many there are."""
    rows = [int(one["rows"]) for one in bins]
    x, y = [float(one["confidence"]) for one in bins], [float(one["accuracy"]) for one in bins]
    figure = go.Figure()
    figure.add_bar(
        x=x,
        y=rows,
        yaxis="y2",
        name="rows",
        width=0.05,
        marker={"color": GREY, "opacity": 0.35},
        hovertemplate="%{y} rows<extra></extra>",
    )
    diagonal = {"color": GREY, "dash": "dash", "width": 1.5}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=diagonal, name="perfect", hoverinfo="skip")
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name="accuracy",
        line={"color": BLUE, "width": 2},
        marker={"size": 8},
        text=[f"{n} rows" for n in rows],
        hovertemplate="confidence %{x:.3f}<br>accuracy %{y:.3f}<br>%{text}<extra></extra>",
    )
    figure.update_xaxes(title_text="confidence [highest probability]", range=[-0.02, 1.04])
    figure.update_yaxes(title_text="accuracy [share of rows]", range=[-0.02, 1.04])
    most = max(rows, default=1)
    # The rows' bars take the lower third, and have their own axis.
    second = {"overlaying": "y", "side": "right", "range": [0, 3 * most], "tickvals": [0, most]}
    figure.update_layout(yaxis2={**second, "showgrid": False})
    given = f" The expected calibration error is {error:.4f}." if isinstance(error, float) else ""
    note = f"How often the rows of each of 15 bins of confidence are right.{given}"
    return Drawing(f"calibration-{split}", figure, "Calibration", note, height=HEIGHT)


def roc(
    curves: Sequence[Mapping[str, Any] | None], classes: Sequence[str], split: str
) -> tuple[list[Drawing], list[str]]:
    """A curve a class against the rest, of two classes the second's alone; and the classes that have none."""
    names = [*classes] if len(classes) == len(curves) else [str(i) for i in range(len(curves))]
    known = [(name, curve) for name, curve in zip(names, curves, strict=True) if curve]
    missing = [name for name, curve in zip(names, curves, strict=True) if not curve]
    if not known:
        return [], missing
    if len(names) == 2:
        known = known[-1:]
    worst = sorted(known, key=lambda pair: float(pair[1]["area"]))[:FEW]
    colors = {name: color for (name, _), color in zip(worst, MANY, strict=False)}
    figure = go.Figure()
    chance = {"color": GREY, "dash": "dash", "width": 1.5}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=chance, name="chance", hoverinfo="skip", showlegend=False)
    for name, curve in sorted(known, key=lambda pair: pair[0] in colors):
        named, area = name in colors, float(curve["area"])
        figure.add_scatter(
            x=list(curve["false"]),
            y=list(curve["true"]),
            mode="lines",
            line={"color": colors.get(name, GREY), "width": 2 if named else 1},
            opacity=1 if named else 0.6,
            name=f"{label(name, LONGEST)} ({area:.3f})",
            showlegend=named,
            hovertemplate=f"{label(name, 60)}, area {area:.4f}<br>true %{{y:.3f}}, false %{{x:.3f}}<extra></extra>",
        )
    figure.update_xaxes(title_text="false positive rate", range=[-0.02, 1.02])
    figure.update_yaxes(title_text="true positive rate", range=[-0.02, 1.02])
    note = f"{known[0][0]} against {names[0]}" if len(names) == 2 else "Each class against the rest"
    note += f"; the {FEW} with the smallest areas are named." if len(known) > FEW else "; areas in brackets."
    return [Drawing(f"roc-{split}", figure, "ROC", note, height=HEIGHT)], missing


def _or_none(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _constant(values: Sequence[float | None]) -> bool:
    return len({value for value in values if value is not None}) == 1


def _spread(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) / min(known)
