"""The one place that knows what differs between Hydra 1.3 and 1.4."""

import argparse
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser  # what Hydra itself takes for a flag; nothing public says it
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from alphard import targets
from alphard.errors import UserError, unsay

# 1.4 takes a list of trusted targets, warns without one, and 1.5 will refuse.  1.3 knows none: check.py stands alone.
_LISTED = "execution_whitelist" in inspect.signature(hydra.main).parameters

# 1.4 has one set of defaults, warns where a base is named, and 1.5 will refuse.
BASE: dict[str, Any] = {} if _LISTED else {"version_base": "1.3"}


def main(config_path: str, config_name: str) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """`hydra.main`, with our list of trusted targets where Hydra takes one."""
    listed: dict[str, Any] = {"execution_whitelist": [*targets.patterns(), "alphard.multirun.*"]} if _LISTED else {}
    return hydra.main(config_path=config_path, config_name=config_name, **BASE, **listed)


def command_line(arguments: Sequence[str]) -> argparse.Namespace:
    """Flags and overrides as Hydra will tell them apart, however flags are abbreviated; raises UserError.

    Of interest: config_path, config_name, config_dir, package, multirun, overrides, and in 1.3 experimental_rerun.
    """
    parser = get_args_parser()
    setattr(parser, "error", _refuse)  # noqa: B010  argparse would print its usage and exit
    line = parser.parse_intermixed_args(arguments) if _LISTED else parser.parse_args(arguments)
    line.multirun |= "hydra.mode=MULTIRUN" in line.overrides
    return line


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; --hydra-help lists Hydra's flags, which stand before or behind all key=value")


def _of_environment(name: str, *default: Any) -> Any:
    """`${oc.env:NAME,default}`, of which an error says the reference and never the value."""
    if name in os.environ:
        unsay(os.environ[name], f"${{oc.env:{name}}}")
    return oc.env(name, *default)


# OmegaConf 2.4, which 1.4 wants, has another name for it, and warns of this one.
_register: Any = OmegaConf.register_resolver if _LISTED else OmegaConf.register_new_resolver
_register("oc.env", _of_environment, replace=True)
