"""What a run leaves, side by side in its output folder.

config.yaml is written when training begins and claims the folder; metrics.json is written last and says that the run
is whole.
"""

import io
import json
import math
import pickle
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from alphard import documents, files
from alphard.errors import UserError
from alphard.fingerprint import changes, fingerprint, resolved_sha256, without
from alphard.references import short
from alphard.storage import Folder

CONFIG, METRICS, MODEL, HISTORY, LOG = files.CONFIG, files.METRICS, files.MODEL, files.HISTORY, files.LOG
CURVES, CONFUSION = "learning_curves.png", "confusion_matrix.png"
POINTS = "curves.json"  # calibration and ROC, for report.html
# What a run may leave here, and the run that takes its place removes.
ALL = (METRICS, MODEL, files.PREPROCESSING, HISTORY, CURVES, CONFUSION, POINTS, LOG, CONFIG)
# A finished run is the same run whether these have been asked of it or not.
AFTERWARDS = ("score_test", "baselines")
DIGEST = "resolved_sha256"


def finished(folder: Folder, config: DictConfig, overwrite: bool) -> dict[str, Any] | None:
    """The metrics of the same config's finished run in `folder`, or None where training may begin.

    Raises UserError, with the difference, where another config's run lies there.
    """
    text = None if overwrite else folder.read(CONFIG)
    if text is None:
        return None
    remedy = "choose another folder, or overwrite=true"
    found = documents.config(text, f"{folder.at}: {folder.uri(CONFIG)}", remedy)
    before, now = fingerprint(found), fingerprint(config)
    if difference := changes(before, now, but=AFTERWARDS):
        raise UserError(f"{folder.at}: {folder.path} holds another config's run ({difference}); {remedy}")
    try:
        known = documents.of_json(folder.read(METRICS) or b"", METRICS)
    except documents.NotWritten:
        return None  # torn by whoever copied it; the run is made again
    if known.get("stopped_by") is not None or not _told(known):
        return None
    if known.get(DIGEST) not in (None, resolved_sha256(config)):
        said = "holds a run of this config with other values behind its ${oc.env:…}"
        raise UserError(f"{folder.at}: {folder.path} {said}; {remedy}")
    return known


def _told(known: Mapping[str, Any]) -> bool:
    """Whether metrics.json says what whoever listens to a finished run is told."""
    names, epochs = known.get("logged"), known.get("stopped_epoch")
    scored = isinstance(names, list) and all(isinstance(known.get(str(name)), int | float | None) for name in names)
    return scored and isinstance(epochs, int)


def begun(folder: Folder) -> bool:
    """Whether a run has claimed the folder."""
    return folder.read(CONFIG) is not None


def claim(folder: Folder, config: DictConfig, but: Collection[str] = ()) -> None:
    """Make the folder this run's: nothing of another is left, and config.yaml is written.

    but: what stays.
    """
    for name in ALL:
        if name != CONFIG and name not in but:  # config.yaml is replaced in one go
            folder.remove(name)
    if folder.local is not None:
        for path in folder.local.glob(".*"):  # what a killed process had begun to write beside
            if path.is_file() and any(path.name.startswith(f".{name}.") for name in ALL):
                path.unlink()
    write_config(folder, config)


def write_config(folder: Folder, config: DictConfig) -> None:
    """Write config.yaml."""
    folder.write(CONFIG, config_yaml(config))


def config_yaml(config: DictConfig) -> bytes:
    """The config as config.yaml holds it: composed, not resolved, without output folder and Hydra's own node."""
    kept = without(config, ("output_dir", "overwrite", "resume", "hydra"))
    kept |= {"output_dir": None, "resume": "auto"}  # so that output_dir=… on it needs no `+`
    return OmegaConf.to_yaml(OmegaConf.create(kept)).encode()


def state(model: torch.nn.Module) -> bytes:
    """The weights as torch.save writes them, loadable with weights_only=True.

    Through memory: saved to a path, the file's name would be among its bytes, and equal weights in unequal files.
    """
    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}, content)
    return content.getvalue()


def load(folder: Folder, model: torch.nn.Module) -> None:
    """Put the kept weights into `model`; UserError where they are lost, or do not fit."""
    content, where, remedy = folder.read(MODEL), f"{folder.at}: {folder.uri(MODEL)}", "overwrite=true trains it again"
    if content is None:
        raise UserError(f"{where} is missing; {remedy}")
    try:
        try:
            weights = torch.load(io.BytesIO(content), weights_only=True)
        except pickle.UnpicklingError:  # whose own words advise to load it all the same
            raise UserError(f"{where} is torn, or holds more than tensors, and is not loaded; {remedy}") from None
        model.load_state_dict(weights)
    except UserError:
        raise
    except Exception as error:  # torch's own, for what is torn, or another model's
        raise UserError(f"{where} does not fit this model: {short(error)}; {remedy}") from error


def lacking(metrics: Mapping[str, Any], score_test: bool, baselines: bool) -> list[str]:
    """Which of AFTERWARDS are asked of a finished run that has these metrics, and were not when it ran."""
    known = {"score_test": "test_accuracy" in metrics, "baselines": "baselines" in metrics}
    asked = {"score_test": score_test, "baselines": baselines}
    return [name for name in AFTERWARDS if asked[name] and not known[name]]


def points(folder: Folder) -> dict[str, Any]:
    """curves.json, by split; empty where there is none, or none that a run wrote."""
    try:
        return documents.of_json(folder.read(POINTS) or b"{}", POINTS)
    except documents.NotWritten:  # torn by whoever copied it
        return {}


def finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with None for what is no finite number, which JSON cannot say; one warning names them."""
    cleaned = {name: _finite(value) for name, value in metrics.items()}
    lost = [name for name, value in cleaned.items() if value != metrics[name]]
    if lost:
        warnings.warn(f"{METRICS}: {', '.join(lost)}: no finite number; null stands there", stacklevel=2)
    return cleaned


def metrics_json(metrics: Mapping[str, Any]) -> bytes:
    """The metrics as JSON text, in the order given; finite ones."""
    return (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
