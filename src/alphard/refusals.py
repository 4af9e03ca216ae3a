"""What Hydra, OmegaConf and YAML refuse, in one line each that says what would be right."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from alphard.check import nearest

# Hydra raises ValueError for GROUP=null, and for flags that contradict each other.
Refusals = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
SWEEPS = ("choice", "interval", "range", "tag", "int")
QUOTED = "quote a value that holds , = : ( ) [ ] { } or blanks twice: 'key=\"a, b\"'"


def first_line(error: BaseException) -> str:
    """What was said, as one line; of YAML the file and the line in it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{shown(Path(mark.name))}:{mark.line + 1}: not YAML: {error.problem or error.context}"
    cause = error.__cause__
    lines = [line for line in str(error).strip().split("\n") if line.strip()]
    if isinstance(cause, OmegaConfBaseException):
        lines += [line for line in str(cause).strip().split("\n") if line.strip()][:1]
    said = "; ".join(line.strip().removesuffix(":") for line in lines[:2]) or type(error).__name__
    return re.sub(
        r"Cannot merge (DictConfig with ListConfig|incompatible.*)", "a list and {key: value} do not merge", said
    )


def no_option(value: str, options: Sequence[str]) -> str:
    """That a config group has no such option, and which it has."""
    return f"there is no option {value}{nearest(value, options) or '.'} The options are {', '.join(options)}"


def ungrammatical(error: BaseException, remedy: str) -> str:
    """Why Hydra's grammar cannot read a value, which the caller has said.

    remedy: where it is not plain from the reason: of choise(a, b) and interval(1, b) it is.
    """
    said = str(error)
    if unknown := re.search(r"Unknown function '(\w+)'", said):
        name = unknown[1]
        scale = "; give tag(log, interval(a, b))" if "log" in name else ""
        return f"there is no {name}(…){scale or nearest(name, SWEEPS) or f'; {remedy}'}"
    if wrong := re.search(r"while evaluating '(\w+)\(.*': mismatch type argument (\w+): (\w+) is incompatible", said):
        function, argument, kind = wrong.groups()
        number = function in ("interval", "range")
        return f"the {argument} of {function} is {'no number' if number else f'a {kind}'}"
    if call := re.search(r"while evaluating '(\w+)\(.*?': (.*)", said):
        return f"{call[1]}: {call[2]}"
    return f"Hydra cannot read this: {first_line(error)}; {remedy}"


def shown(path: Path) -> Path:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return path.relative_to(here) if here in path.parents else path
