"""What the report draws of a run's logits: calibration and ROC, small enough for a file.  Shapes: N rows, C classes."""

import json
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypedDict  # typing's own is none to pydantic before Python 3.12

BINS = 15  # as the calibration error's
MOST, MOST_IN_ALL = 200, 20_000  # points of one curve, and of all
LEAST = 20  # points of one curve, however many classes there are


class Bin(TypedDict):
    """A bin of the confidence, as curves.json has it."""

    rows: int
    confidence: float
    accuracy: float


class Roc(TypedDict):
    """A class against the rest likewise."""

    area: float
    false: list[float]
    true: list[float]


class Curves(TypedDict):
    """A split's likewise."""

    calibration: list[Bin]
    roc: list[Roc | None]


def curves(logits: Tensor, y: Tensor) -> dict[str, Any]:
    """`calibration` and `roc` of N rows; empty where a logit is no finite number.

    calibration: of each bin of the confidence, the highest probability, that has rows: `rows`, and means over them,
                 `confidence` and `accuracy`.
    roc:         of each class against the rest: `area`, exact, and `false` and `true` positive rates, thinned; None for
                 a class that has no row, or all.
    """
    if not len(y) or not bool(logits.isfinite().all()):
        return {}
    probabilities = logits.softmax(dim=1)
    most = max(LEAST, min(MOST, MOST_IN_ALL // logits.shape[1]))
    roc = [_roc(probabilities[:, i], y == i, most) for i in range(logits.shape[1])]
    return {"calibration": _calibration(probabilities, y), "roc": roc}


def to_json(by_split: dict[str, Any]) -> bytes:
    """curves.json: what `curves` gives, by split."""
    return (json.dumps(by_split, allow_nan=False, separators=(",", ":")) + "\n").encode()


def _calibration(probabilities: Tensor, y: Tensor) -> list[dict[str, Any]]:
    confidence, predicted = probabilities.max(dim=1)
    edges = torch.linspace(0, 1, BINS + 1)
    # A confidence of 1 belongs to the last bin.
    index = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=BINS - 1)
    rows = torch.bincount(index, minlength=BINS)
    sums = [torch.bincount(index, of.double(), minlength=BINS) for of in (confidence, predicted == y)]
    return [
        {"rows": int(n), "confidence": round(float(c / n), 6), "accuracy": round(float(a / n), 6)}
        for n, c, a in zip(rows, *sums, strict=True)
        if n
    ]


def _roc(score: Tensor, positive: Tensor, most: int) -> dict[str, Any] | None:
    positives = int(positive.sum())
    if positives in (0, len(positive)):
        return None
    score, order = score.sort(descending=True, stable=True)
    hits = positive[order].cumsum(0)
    last = torch.cat([(score[1:] != score[:-1]).nonzero().flatten(), torch.tensor([len(score) - 1])])
    zero = torch.zeros(1, dtype=torch.float64)
    true = torch.cat([zero, hits[last].double() / positives])
    false = torch.cat([zero, (last + 1 - hits[last]).double() / (len(score) - positives)])
    area = float(torch.trapezoid(true, false))
    kept = _thinned(false, true, most)
    return {"area": round(area, 6)} | {
        name: [round(value, 5) for value in rates[kept].tolist()] for name, rates in (("false", false), ("true", true))
    }


def _thinned(x: Tensor, y: Tensor, most: int) -> Tensor:
    """Indices of at most `most` points of a rising curve: its corners, or points at even distances along it.

    No point of the curve is then further than 2 / most from the line that is drawn, and mostly far nearer.
    """
    dx, dy = x.diff(), y.diff()
    corners = (dx[1:] * dy[:-1] - dx[:-1] * dy[1:]).abs() > 1e-12
    kept = torch.cat([torch.tensor([True]), corners, torch.tensor([True])]).nonzero().flatten()
    if len(kept) <= most:
        return kept
    along = (x + y)[kept]
    return kept[torch.searchsorted(along, torch.linspace(0, float(along[-1]), most, dtype=along.dtype))]
