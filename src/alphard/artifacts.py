"""What a run leaves, side by side in its output folder.

config.yaml is written when training begins and claims the folder; metrics.json is written last and says that the run
is whole.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from alphard.errors import UserError
from alphard.storage import Folder

CONFIG, METRICS, MODEL, HISTORY, LOG = "config.yaml", "metrics.json", "model.pt", "eval_history.csv", "training.log"
# Where a run lies, and how it is talked about, is not what it is.
ASIDE = ("output_dir", "overwrite", "debug", "logger", "hydra")


def finished(folder: Folder, config: DictConfig, overwrite: bool) -> dict[str, Any] | None:
    """The metrics of the same config's finished run in `folder`, or None where training may begin.

    Raises UserError, with the difference, where another config's run lies there.
    """
    text = None if overwrite else folder.read(CONFIG)
    if text is None:
        return None
    try:
        before, now = _fingerprint(OmegaConf.create(text.decode())), _fingerprint(config)
    except Exception:  # yaml's, OmegaConf's and the decoder's own
        where = f"{folder.path}/{CONFIG}"
        raise UserError(f"output_dir: {where} is no run's config; choose another folder, or overwrite=true") from None
    different = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    different.sort(key=lambda name: name not in before or name not in now)  # a changed value says most
    if different:
        changes = "; ".join(f"{name}: {before.get(name)!r} there, {now.get(name)!r} here" for name in different[:6])
        remedy = "choose another folder, or overwrite=true"
        raise UserError(f"output_dir: {folder.path} holds another config's run ({changes}); {remedy}")
    try:
        known = json.loads(folder.read(METRICS) or b"null")
    except ValueError:
        return None  # torn by whoever copied it; the run is made again
    return known if isinstance(known, dict) and known.get("stopped_by") is None else None


def claim(folder: Folder, config: DictConfig) -> None:
    """Write config.yaml: composed, not resolved, without output folder and Hydra's own node."""
    folder.remove(METRICS)  # of a run that this one replaces
    kept = _without(config, ("output_dir", "overwrite", "hydra"))
    with open_dict(kept):
        kept.output_dir = None  # so that output_dir=… on it needs no `+`
    folder.write(CONFIG, OmegaConf.to_yaml(kept).encode())


def state(model: torch.nn.Module) -> bytes:
    """The weights as torch.save writes them, loadable with weights_only=True.

    Through memory: saved to a path, the file's name would be among its bytes, and equal weights in unequal files.
    """
    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}, content)
    return content.getvalue()


def metrics_json(metrics: Mapping[str, Any]) -> bytes:
    """The metrics as JSON text, in the order given."""
    return (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode()


def _without(config: DictConfig, names: tuple[str, ...]) -> DictConfig:
    rest = config.copy()
    raw = OmegaConf.to_container(config, resolve=False)
    folder = str(raw.get("output_dir")) if isinstance(raw, dict) else ""
    with open_dict(rest):
        for name in (*names, folder.removeprefix("${").removesuffix("}")):  # a setting that only names the folder
            rest.pop(name, None)
    return rest


def _fingerprint(config: Any) -> dict[str, Any]:
    """What trains, by config path; unresolved, so that no value of the environment is compared or shown."""
    flat: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else str(key))
        else:
            flat[path] = node

    walk(OmegaConf.to_container(_without(config, ASIDE), resolve=False), "")
    return flat
