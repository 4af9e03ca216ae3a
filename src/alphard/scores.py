"""What a run scores with the weights that it keeps.  Shapes: N rows, C classes."""

import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins.precision import Precision
from torch import Tensor, nn
from torchmetrics.functional import classification as metrics

from alphard.curves import curves
from alphard.data import Batches, TableData
from alphard.history import History
from alphard.models import BestWeights

SETTINGS = ("patience", "min_delta", "restore_best", "learning_rate", "seed", "threads")


def logged(model: pl.LightningModule, data: pl.LightningDataModule, judge: pl.Trainer) -> dict[str, float]:
    """What the model itself logs at validation, anew, where `judge` works."""
    model.trainer = None  # Lightning's way to let go of a trainer
    data.trainer = judge
    judge.validate(model, datamodule=data, verbose=False, weights_only=True)
    return {name: float(value) for name, value in judge.callback_metrics.items()}


def reports(
    model: pl.LightningModule, data: pl.LightningDataModule, judge: pl.Trainer, *splits: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The full report of `splits`, validation and test, and each one's curves; none for a model without logits."""
    if not isinstance(data, TableData):
        return {}, {}
    data.trainer = judge
    loaders = {"validation": data.val_dataloader, "test": data.test_dataloader}
    found: dict[str, Any] = {}
    drawn: dict[str, Any] = {}
    for name in splits:
        pair = logits_of(model, loaders[name](), len(data.splits.classes), judge.precision_plugin)
        if pair is None:
            return {}, {}
        found |= {f"{name}_{key}": value for key, value in report(*pair).items()}
        drawn[name] = curves(*pair)
    # The model's own words for its validation stand.
    found = {name: value for name, value in found.items() if name not in ("validation_loss", "validation_accuracy")}
    return found, drawn


def summary(
    config: DictConfig,
    data: pl.LightningDataModule,
    history: History,
    best: BestWeights | None,
    scores: dict[str, float],
) -> dict[str, Any]:
    """metrics.json's well-known names.  Epochs count from 1, losses are in nats per row."""
    losses = history.column("validation_loss")
    best_epoch = best.epoch or None if best else losses.index(min(losses)) + 1 if losses else None
    about = {
        "final_val_loss": scores.get("validation_loss"),
        "final_val_accuracy": scores.get("validation_accuracy"),
        "best_val_loss": min(losses, default=None),
        "best_epoch": best_epoch,
        "stopped_epoch": len(history.rows),
        "max_epochs_requested": config.epochs,
        **{name: config[name] for name in SETTINGS},
    }
    if isinstance(data, TableData):
        splits = data.splits
        about |= {
            "train_rows": len(splits.train),
            "val_rows": len(splits.validation),
            "test_rows": len(splits.test) if splits.test else 0,
            "features": splits.train.X.shape[1],
            "feature_names": splits.feature_names,
            "classes": splits.classes,
            "class_counts": data.facts["class_counts"],
        }
    return about


class NoLogits(Exception):
    """The model's forward returns no logits; the message says what it does."""


def logits_of(
    model: pl.LightningModule, batches: Batches, classes: int, precision: Precision
) -> tuple[Tensor, Tensor] | None:
    """Logits (N, C) and labels (N,) on the CPU; None, and a warning, where the model's forward returns no logits."""
    try:
        return forward(model, batches, classes, precision)
    except NoLogits as fault:  # a LightningModule need have no forward; its training must not be lost for a report
        warnings.warn(f"no full report: {fault}", stacklevel=2)
        return None


def forward(model: pl.LightningModule, batches: Batches, classes: int, precision: Precision) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) on the CPU, as at validation.  Raises NoLogits."""
    was_training = model.training
    model.to(batches.X.device).eval()
    pairs: list[tuple[Any, Tensor]] = []
    name = f"{type(model).__name__}.forward"
    try:
        with torch.inference_mode(), precision.forward_context():
            for x, y in batches:
                z = model(precision.convert_input(x))
                pairs.append((z, y))
                if not isinstance(z, Tensor) or z.shape != (len(y), classes):
                    shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
                    raise NoLogits(f"{name} returned {shape}; it takes logits, {(len(y), classes)}")
    except NoLogits:
        raise
    except Exception as error:  # a user's own forward raises what it likes
        raise NoLogits(f"{name}: {str(error) or type(error).__name__}") from error
    finally:
        model.train(was_training)
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
