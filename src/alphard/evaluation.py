"""A classifier's report on one split.  Shapes: N rows, C classes."""

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional import classification as metrics

from alphard.data.batches import Batches


def logits_of(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor] | None:
    """Logits (N, C) and labels (N,) on the CPU; None for a model whose forward does not return one row a row."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        pairs = [(model(x), y) for x, y in batches]
    model.train(was_training)
    if not all(isinstance(z, Tensor) and z.ndim == 2 and len(z) == len(y) for z, y in pairs):
        return None
    return torch.cat([z for z, _ in pairs]).cpu().float(), torch.cat([y for _, y in pairs]).cpu()


def report(logits: Tensor, y: Tensor) -> dict[str, Any]:
    """Loss in nats per row, accuracy, macro precision, recall and F1, AUROC, calibration error, confusion matrix.

    AUROC is one-vs-rest, mean over classes; calibration error is the expected one over 15 bins (Guo et al. 2017);
    the confusion matrix counts rows, true classes down, predicted ones across.
    """
    classes = logits.shape[1]
    probabilities = logits.softmax(dim=1)
    # torchmetrics warns where a class has no row; its zero is then the answer.
    macro: dict[str, Any] = {"num_classes": classes, "average": "macro"}
    return {
        "loss": float(nn.functional.cross_entropy(logits, y)),
        "accuracy": float(metrics.multiclass_accuracy(logits, y, classes, average="micro")),
        "precision": float(metrics.multiclass_precision(logits, y, **macro)),
        "recall": float(metrics.multiclass_recall(logits, y, **macro)),
        "f1": float(metrics.multiclass_f1_score(logits, y, **macro)),
        "auroc": float(metrics.multiclass_auroc(probabilities, y, **macro)),
        "calibration_error": float(metrics.multiclass_calibration_error(probabilities, y, classes, n_bins=15)),
        "confusion_matrix": metrics.multiclass_confusion_matrix(logits, y, classes).tolist(),
    }
