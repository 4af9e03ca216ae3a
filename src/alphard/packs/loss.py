"""Cross-entropy of K trials and its gradient.  Shapes: K trials, C classes, B rows.

Classes come before rows: sums over a handful of classes are then sums of whole rows.
"""

import torch.nn.functional as F
from torch import Tensor


def targets(y: Tensor, classes: int, rows: int, like: Tensor) -> Tensor:
    """(…, C, rows) of labels (…, B): 1/B at each row's label, 0 elsewhere and where rows fill B up.

    like: of the type of the result.
    """
    one = F.one_hot(y, classes).mT.to(like) / y.shape[-1]
    return F.pad(one, (0, rows - y.shape[-1]))


def weighed(targets: Tensor, smoothing: Tensor | None, weights: Tensor | None) -> Tensor:
    """Targets (K, C, B), or (1, C, B) of all trials, with what a trial's loss adds to them.

    smoothing: (K,), or None where no trial has any (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7).
    weights:   (K, C), of classes, or None.
    """
    even = targets.sum(1, keepdim=True) / targets.shape[1]
    if weights is not None:
        w = weights.unsqueeze(-1)
        total = (targets * w).sum((1, 2), keepdim=True)
        targets, even = targets * w / total, even * w / total
    if smoothing is not None:
        s = smoothing.view(-1, 1, 1)
        targets = (1 - s) * targets + s * even
    return targets


def cross_entropy(log: Tensor, targets: Tensor) -> Tensor:
    """(K,) of log-softmax (K, C, B) and targets: torch.nn.functional.cross_entropy's formula, mean over rows."""
    return -(log * targets).sum((1, 2))


def gradient(log: Tensor, targets: Tensor) -> Tensor:
    """(K, C, B), by the logits."""
    return log.exp() * targets.sum(-2, keepdim=True) - targets
