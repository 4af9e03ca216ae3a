"""Cross-entropy of K trials.  Shapes: K trials, B rows, C classes."""

from torch import Tensor


def cross_entropy(z: Tensor, y: Tensor, smoothing: Tensor | None, weights: Tensor | None) -> Tensor:
    """(K,) of logits (K, B, C) and labels (K, B); the formula of torch.nn.functional.cross_entropy, mean over rows.

    smoothing: (K,), or None where no trial has any (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7).
    weights:   (K, C), of classes, or None.
    """
    log = z.log_softmax(-1)
    of_label = log.gather(-1, y.unsqueeze(-1)).squeeze(-1)  # (K, B)
    if weights is None:
        loss = -of_label.mean(1)
        even = -log.sum(-1).mean(1) if smoothing is not None else None
    else:
        w = weights.gather(1, y)
        total = w.sum(1)
        loss = -(of_label * w).sum(1) / total
        even = -(log * weights.unsqueeze(1)).sum(-1).sum(1) / total if smoothing is not None else None
    if smoothing is None or even is None:
        return loss
    return (1 - smoothing) * loss + smoothing / z.shape[-1] * even
