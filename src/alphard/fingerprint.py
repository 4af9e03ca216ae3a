"""What makes two configs the same run, or the same study: everything that trains."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

# Where a run lies, and how it is talked about, is not what it is.
ASIDE = ("output_dir", "overwrite", "resume", "checkpoint_seconds", "debug", "logger", "hydra")
# What a resolver gives may change from one run to the next; where and when a run is, is meant to.
RESOLVED = re.compile(r"\$\{\s*(?!hydra:|now:)[\w.]+:")


def without(config: DictConfig, names: tuple[str, ...]) -> dict[str, Any]:
    """The config, unresolved, without these keys, and without the setting that only names its output folder."""
    rest: Any = OmegaConf.to_container(config, resolve=False)
    folder = str(rest.get("output_dir"))
    for name in (*names, folder.removeprefix("${").removesuffix("}")):  # a setting that only names the folder
        rest.pop(name, None)
    return dict(rest)


def fingerprint(config: Any) -> dict[str, Any]:
    """What trains, by config path; unresolved, so that no value of the environment is compared or shown."""
    return flat(without(config, ASIDE))


def flat(node: Any, at: str = "") -> dict[str, Any]:
    """Every leaf of a plain config by its path; an empty dict is a leaf."""
    if not isinstance(node, dict) or not node:
        return {at: node}
    found = (flat(value, f"{at}.{key}" if at else str(key)) for key, value in node.items())
    return {path: leaf for each in found for path, leaf in each.items()}


def changes(before: Mapping[str, Any], now: Mapping[str, Any], but: Collection[str] = ()) -> str:
    """Where two fingerprints differ, the telling places first; an empty text where they do not."""
    different = [name for name in sorted({*before, *now} - {*but}) if before.get(name) != now.get(name)]
    different.sort(key=lambda name: name not in before or name not in now)  # a changed value says most
    return "; ".join(f"{name}: {before.get(name)!r} there, {now.get(name)!r} here" for name in different[:6])


def resolved_sha256(config: DictConfig) -> str:
    """A digest of what the config's resolvers give, oc.env above all; the values themselves are kept nowhere.

    What cannot be resolved counts as it is written.
    """
    rest = without(config, ASIDE)
    asked = {path: raw for path, raw in flat(rest).items() if RESOLVED.search(str(raw))}
    left = OmegaConf.create(rest if asked else {})
    found = {path: _resolved(left, path, raw) for path, raw in asked.items()}
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()


def _resolved(config: DictConfig, path: str, raw: Any) -> Any:
    try:
        value = OmegaConf.select(config, path)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except Exception:  # a resolver raises what it likes
        return raw
