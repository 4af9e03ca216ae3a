"""A study's trials as lines: across all dimensions, and by epoch.  Many trials are few traces, whose gaps part them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from alphard.page import BLUE, GREY, INK, LINE, ORANGE, PURPLE, SKY, Drawing, label
from alphard.search.shown import MOST, Shown, cut, outside, span

# Ranks as shares of the complete trials, from the worst on: (up to, name, colour, width, opacity).
RANKS = (
    (1.0, "worse half", GREY, 1.0, 0.7),
    (0.5, "better half", SKY, 1.2, 0.9),
    (0.25, "best quarter", BLUE, 1.6, 0.9),
    (0.1, "best tenth", ORANGE, 2.2, 1.0),
)
ABSENT = -0.16  # where a line passes a dimension that its trial does not have
POINTS = 150_000  # of all learning curves: a browser draws them in seconds
TICKS = 9  # choices of a dimension that are named beside its axis


@dataclass(frozen=True)
class _Axis:
    """A dimension as a line up the figure: `places` of values, from 0 to 1, and the `ticks` beside it."""

    name: str
    distribution: Any  # of Optuna's, which share no class for their ends

    def place(self, trial: FrozenTrial) -> float:
        if self.name not in trial.params:
            return ABSENT
        if isinstance(self.distribution, CategoricalDistribution):
            count = len(self.distribution.choices)
            # Trials with the same choice lie side by side, each at the same place however often it is drawn.
            aside = (trial.number * 0.6180339887) % 1 - 0.5
            return (self.distribution.choices.index(trial.params[self.name]) + 0.5 + 0.4 * aside) / count
        return self._share(float(trial.params[self.name]))

    def _share(self, value: float) -> float:
        low, high = float(self.distribution.low), float(self.distribution.high)
        if low == high:
            return 0.5
        if self.distribution.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        if isinstance(self.distribution, CategoricalDistribution):
            count = len(self.distribution.choices)
            step = math.ceil(count / TICKS)
            return [((i + 0.5) / count, str(c)) for i, c in enumerate(self.distribution.choices) if i % step == 0]
        ends = {float(self.distribution.low), float(self.distribution.high)}
        return [(self._share(value), f"{value:.4g}") for value in sorted(ends)]


def parallel(this: Shown) -> Drawing | None:
    """A line a complete trial across its values of all dimensions to its objective; None without one."""
    if not this.ranked:
        return None
    axes = [_Axis(name, ranges[-1]) for name in _names(this) if (ranges := _ranges(this, name))]
    values = [float(trial.value or 0) for trial in this.ranked]
    within = span(values, values[:1]) or [min(values), max(values)]
    figure = go.Figure([_rank(this, rank, axes, within) for rank in range(len(RANKS))])
    names = [*_short([axis.name for axis in axes]), label(this.objective)]
    for i, name in enumerate(names):
        figure.add_shape(type="line", x0=i, x1=i, y0=0, y1=1, line={"color": INK, "width": 1}, layer="below")
        figure.add_annotation(x=i, y=1.09, text=f"<b>{cut(name)}</b>", showarrow=False, font={"size": 12})
        ticks = axes[i].ticks() if i < len(axes) else [(0.0, f"{within[0]:.4g}"), (1.0, f"{within[1]:.4g}")]
        side: dict[str, Any] = {"xanchor": "left", "xshift": 5, "showarrow": False, "borderpad": 1}
        for y, said in ticks:
            figure.add_annotation(x=i, y=y, text=said, bgcolor=LINE, opacity=0.85, font={"size": 11}, **side)
    absent = any(axis.name not in trial.params for axis in axes for trial in this.seen)
    if absent:
        figure.add_annotation(x=-0.3, y=ABSENT, text="not there", showarrow=False, font={"size": 11}, xanchor="left")
    figure.update_xaxes(visible=False, range=[-0.35, len(names) - 0.3], fixedrange=True)
    figure.update_yaxes(visible=False, range=[ABSENT - 0.08 if absent else -0.06, 1.16], fixedrange=True)
    figure.update_layout(hovermode="closest")
    far = outside(values, within, "trial", "drawn at its end")
    note = f"A line a trial; a click on a name above hides its lines.{this.thinned}{far}"
    width = 60 + 110 * len(names)
    return Drawing("parallel", figure, "Parallel coordinates", note, height=460, width=width, alone=True)


def _rank(this: Shown, rank: int, axes: Sequence[_Axis], within: Sequence[float]) -> go.Scatter:
    """The lines of the trials that are of this rank and of no better one."""
    share, name, color, width, opacity = RANKS[rank]
    better = RANKS[rank + 1][0] if rank + 1 < len(RANKS) else 0.0
    first, last = math.ceil(better * len(this.ranked)), math.ceil(share * len(this.ranked))
    mine = {trial.number for trial in this.ranked[first:last]}
    lines = [trial for trial in this.seen if trial.number in mine]
    size = (within[1] - within[0]) or 1.0
    ends = [min(1.0, max(0.0, (float(t.value or 0) - within[0]) / size)) if size else 0.5 for t in lines]
    lying = [[*(axis.place(trial) for axis in axes), end] for trial, end in zip(lines, ends, strict=True)]
    said = [[f"trial {t.number}: {float(t.value or 0):.6f}"] * (len(axes) + 1) for t in lines]
    return go.Scatter(
        x=_joined([*range(len(axes) + 1)] for _ in lines),
        y=_joined([round(y, 4) for y in line] for line in lying),
        text=_joined(said),
        mode="lines",
        name=name,
        line={"color": color, "width": width},
        opacity=opacity,
        hovertemplate="%{text}<extra></extra>",
        showlegend=bool(lines),
    )


def learning(this: Shown) -> Drawing | None:
    """The objective by epoch of every trial that reported any; None where none did."""
    if not this.curves:
        return None
    best = this.ranked[0].number if this.ranked else -1
    states = {trial.number: trial.state for trial in this.study.get_trials(deepcopy=False)}
    groups = (
        ("pruned", TrialState.PRUNED, GREY, "solid", 0.7),
        ("complete", TrialState.COMPLETE, BLUE, "solid", 0.6),
        ("failed", TrialState.FAIL, PURPLE, "dash", 0.9),
        ("not finished", TrialState.WAITING, SKY, "dot", 0.9),
    )
    figure, step = go.Figure(), math.ceil(sum(len(values) for _, values in this.curves.values()) / POINTS)
    for name, state, color, dash, opacity in groups:
        every = [n for n in sorted(this.curves) if states.get(n) == state and n != best]
        mine = every[::step]
        if mine:
            line = {"color": color, "width": 1.2, "dash": dash}
            _add_curves(figure, this, mine, {"name": f"{name} ({len(every)})", "line": line, "opacity": opacity})
    if best in this.curves:
        epochs, values = this.curves[best]
        line, hover = (
            {"color": ORANGE, "width": 2.5},
            f"trial {best}, the best<br>epoch %{{x}}: %{{y:.6f}}<extra></extra>",
        )
        figure.add_scatter(x=[*epochs], y=_known(values), mode="lines+markers", name=f"best, trial {best}", line=line)
        figure.data[-1].update(hovertemplate=hover, marker={"size": 5})
    values = [value for _, curve in this.curves.values() for value in curve]
    within = span(values, this.curves[best][1] if best in this.curves else ())
    figure.update_xaxes(title_text="epoch", tickformat="d")
    figure.update_yaxes(title_text=label(this.objective), range=within)
    figure.update_layout(hovermode="closest", showlegend=True)
    note = f"{this.objective} at each validation, of {len(this.curves)} trials; a cross ends a pruned or failed one."
    note += f" One in {step} is drawn, and the best." if step > 1 else ""
    note += outside(values, within, "value")
    return Drawing("learning", figure, "Learning curves", note, height=460, alone=True)


def _add_curves(figure: go.Figure, this: Shown, numbers: Sequence[int], dress: dict[str, Any]) -> None:
    """The curves as one trace, and of the ones that ended early, a mark at the end of each."""
    few = len(numbers) <= MOST
    curves = [this.curves[number] for number in numbers]
    figure.add_scatter(
        x=_joined(epochs for epochs, _ in curves),
        y=_joined(_known(values) for _, values in curves),
        text=_joined([str(n)] * len(curve[0]) for n, curve in zip(numbers, curves, strict=True)) if few else None,
        mode="lines",
        legendgroup=dress["name"],
        hovertemplate="trial %{text}<br>epoch %{x}: %{y:.6f}<extra></extra>" if few else None,
        hoverinfo=None if few else "skip",
        **dress,
    )
    if dress["name"].startswith("complete") or not few:
        return
    figure.add_scatter(
        x=[epochs[-1] for epochs, _ in curves],
        y=_known([values[-1] for _, values in curves]),
        text=[str(n) for n in numbers],
        mode="markers",
        marker={"symbol": "x-thin", "size": 6, "line": {"color": dress["line"]["color"], "width": 1.5}},
        legendgroup=dress["name"],
        showlegend=False,
        hovertemplate="trial %{text}<br>ended at epoch %{x}: %{y:.6f}<extra></extra>",
    )


def _short(names: Sequence[str]) -> list[str]:
    """The last part of each path, where no other ends so."""
    lasts = [name.rpartition(".")[2] for name in names]
    return [last if lasts.count(last) == 1 else name for last, name in zip(lasts, names, strict=True)]


def _names(this: Shown) -> Iterator[str]:
    yield from (label(dimension.key) for dimension in this.space)


def _ranges(this: Shown, name: str) -> list[BaseDistribution]:
    return [trial.distributions[name] for trial in this.seen if name in trial.distributions]


def _joined(lines: Iterable[Sequence[Any]]) -> list[Any]:
    """Lines as one, with a gap after each."""
    return [value for line in lines for value in (*line, None)]


def _known(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
