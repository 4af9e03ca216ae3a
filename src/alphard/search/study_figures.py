"""What is drawn of a study by value, in the page's dress: best so far, importances, slices, by Optuna where it can."""

import math
import warnings
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from alphard.page import BLUE, GREY, ORANGE, Drawing, label
from alphard.search.shown import Shown, cut, outside, span


def best_so_far(this: Shown) -> Drawing | None:
    """Each trial's value by its number, and the best until then; None without a complete trial."""
    if not this.ranked:
        return None
    # Optuna's own figure copies all trials.
    complete, pruned = this.trials(TrialState.COMPLETE), this.trials(TrialState.PRUNED)
    pruned = [trial for trial in pruned if trial.value is not None]
    drawn = go.Figure()
    if pruned:
        crosses = {"color": GREY, "size": 6, "symbol": "x-thin", "line": {"color": GREY, "width": 1.5}}
        _add_marks(drawn, pruned, "pruned, at the last epoch", crosses, "trial %{x}, pruned")
    _add_marks(drawn, complete, "complete", {"color": BLUE, "size": 7, "opacity": 0.75}, "trial %{x}")
    line = {"color": ORANGE, "width": 2, "shape": "hv"}
    y = _until_each(this)
    drawn.add_scatter(x=[*range(len(y))], y=y, mode="lines", name="best so far", line=line, hoverinfo="skip")
    known = [float(trial.value or 0) for trial in [*this.ranked, *pruned]]
    within = span(known, [known[0]])
    drawn.update_xaxes(title_text="trial", tickformat="d")
    drawn.update_yaxes(title_text=label(this.objective), range=within)
    word = "Highest" if this.sign > 0 else "Lowest"
    note = f"{word} {this.objective} of the complete trials until each.{outside(known, within, 'trial')}"
    return Drawing("best", drawn, "Best so far", note)


def _add_marks(figure: go.Figure, trials: list[FrozenTrial], name: str, marker: dict[str, Any], said: str) -> None:
    figure.add_scatter(
        x=[trial.number for trial in trials],
        y=[trial.value for trial in trials],
        mode="markers",
        name=name,
        marker=marker,
        hovertemplate=f"{said}<br>%{{y:.6f}}<extra></extra>",
    )


def _until_each(this: Shown) -> list[float | None]:
    """The best value of the complete trials up to each trial."""
    values = {trial.number: float(trial.value or 0) for trial in this.ranked}
    better = max if this.sign > 0 else min
    found: list[float | None] = []
    best = None
    for number in range(len(this.study.get_trials(deepcopy=False))):
        if number in values:
            best = values[number] if best is None else better(best, values[number])
        found.append(best)
    return found


def importances(this: Shown) -> Drawing | None:
    """How much each dimension matters for reaching the best tenth; None where the trials cannot tell."""
    if len({trial.value for trial in this.ranked}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:  # Optuna's own figure copies all trials for each of its bars
            shares = optuna.importance.get_param_importances(this.study)
        except (ValueError, RuntimeError):  # too few trials, or no dimension with two values
            return None
    names, values = [*shares][::-1], [float(value) for value in shares.values()][::-1]
    if not values or not all(map(math.isfinite, values)):
        return None
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            text=[f"{value:.2f}" if value >= 0.005 else "0" for value in values],
            textposition="outside",
            cliponaxis=False,
            marker={"color": BLUE},
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="importance [share of all]", range=[0, 1.15 * max(values)], nticks=5)
    figure.update_yaxes(title_text=None, tickvals=names, ticktext=[cut(name) for name in names])
    note = "What decides whether a trial is among the best tenth, by PED-ANOVA; all dimensions sum to 1."
    return Drawing("importances", figure, "Importance of each dimension", note)


def slices(this: Shown) -> list[Drawing]:
    """A drawing a dimension: its values across, the objective up, of the complete trials that have it."""
    thinned = optuna.create_study(direction=this.study.direction)
    thinned.add_trials(this.seen)
    within = span([float(t.value or 0) for t in this.ranked], [float(t.value or 0) for t in this.ranked[:1]])
    drawings = []
    for place, dimension in enumerate(this.space):
        having = [trial for trial in this.seen if label(dimension.key) in trial.params]
        if having:
            figure = _slice(thinned, label(dimension.key), having, this)
            figure.update_yaxes(title_text=label(this.objective), range=within)
            note = f"{dimension}{f', only with {dimension.when}' if dimension.when else ''}"
            drawings.append(Drawing(f"slice-{place}", figure, dimension.key, note, height=270))
    return drawings


def _slice(study: optuna.Study, name: str, having: list[FrozenTrial], this: Shown) -> go.Figure:
    figure = visualization.plot_slice(study, params=[name], target_name=label(this.objective))
    distribution: Any = having[-1].distributions[name]
    x = [trial.params[name] for trial in having]
    # Optuna names choices by their repr, and sorts the trials by them.
    figure.data[0].update(
        x=x,
        y=[trial.value for trial in having],
        text=[f"trial {trial.number}" for trial in having],
        hovertemplate="%{text}<br>%{x}<br>%{y:.6f}<extra></extra>",
        showlegend=False,
    )
    figure.data[0].marker = {"color": BLUE, "size": 7, "opacity": 0.55}
    best = this.ranked[0]
    if name in best.params:
        figure.add_scatter(
            x=[best.params[name]],
            y=[best.value],
            mode="markers",
            marker={"color": ORANGE, "size": 13, "symbol": "star"},
            text=[f"trial {best.number}, the best"],
            hovertemplate="%{text}<br>%{x}<br>%{y:.6f}<extra></extra>",
            showlegend=False,
        )
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        places = {"categoryorder": "array", "categoryarray": choices, "range": [-0.5, len(choices) - 0.5]}
        figure.update_xaxes(type="category", tickvals=choices, **places)
    else:
        figure.update_xaxes(range=_whole(distribution), tickangle=0, nticks=6)
        if distribution.log:
            figure.update_xaxes(dtick=1 if distribution.high / distribution.low > 200 else "D2")
    return figure.update_xaxes(title_text=None)


def _whole(distribution: Any) -> list[float]:
    """The axis of a range of numbers, with a little room at both ends."""
    ends = [distribution.low, distribution.high]
    low, high = map(math.log10, ends) if distribution.log else map(float, ends)
    pad = 0.04 * (high - low) or 0.5
    return [low - pad, high + pad]
