"""The one place that knows what differs between Hydra 1.3 and 1.4."""

import inspect
from collections.abc import Callable
from typing import Any

import hydra
from hydra.utils import instantiate as _instantiate

from alphard import targets

# 1.4 takes a list of trusted targets, warns without one, and 1.5 will refuse.  1.3 knows none: check.py stands alone.
_LISTED = "execution_whitelist" in inspect.signature(hydra.main).parameters

# 1.4 has one set of defaults, warns where a base is named, and 1.5 will refuse.
BASE: dict[str, Any] = {} if _LISTED else {"version_base": "1.3"}


def main(config_path: str, config_name: str) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """`hydra.main`, with our list of trusted targets where Hydra takes one."""
    listed: dict[str, Any] = {"execution_whitelist": [*targets.patterns(), "alphard.multirun.*"]} if _LISTED else {}
    return hydra.main(config_path=config_path, config_name=config_name, **BASE, **listed)


def instantiate(node: Any, **given: Any) -> Any:
    """`hydra.utils.instantiate` with plain lists and dicts in place of OmegaConf's; `given` overrides the node."""
    listed: dict[str, Any] = {"_execution_whitelist_": targets.patterns()} if _LISTED else {}
    return _instantiate(node, _convert_="all", **listed, **given)
