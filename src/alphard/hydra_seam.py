"""The one place that knows what differs between Hydra 1.3 and 1.4."""

import argparse
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser  # what Hydra itself takes for a flag; nothing public says it

from alphard import (
    references,  # noqa: F401  from here on it keeps what ${oc.env:…} gives out of errors
    targets,
)
from alphard.errors import UserError

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
