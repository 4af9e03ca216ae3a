"""What Hydra, OmegaConf and YAML refuse, in one line each that says what would be right."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from alphard.check import nearest

# Hydra raises ValueError for GROUP=null, and for flags that contradict each other.
Refusals = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
SWEEPS = ("choice", "interval", "range", "tag", "int")
# In which file, the group, what it was asked for, and what it has, a line each.
UNKNOWN = r"(?:In '(\S+)': )?Could not find '(\S+)/(\S+)'\s+Available options in .*\n((?:\t.*\n?)+)"
QUOTED = "quote a value that holds , = : ( ) [ ] { } or blanks twice: 'key=\"a, b\"'"


def first_line(error: BaseException) -> str:
    """What was said, as one line; of YAML the file and the line in it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{shown(Path(mark.name))}:{mark.line + 1}: not YAML: {error.problem or error.context}"
    if packed := re.search(r"In '?(\w+)/([\w./-]+?)'?: Could not override '[\w/]+@\1\.", str(error)):
        group, name = packed.groups()
        return f"{group}/{name}.yaml: overrides another group's option; its first line is `# @package _global_`, then"
    if unknown := re.search(UNKNOWN, str(error)):
        file, group, value, listed = unknown.groups()
        where = f"{file}.yaml: " if file and "/" in file else ""
        return f"{where}{group}: {no_option(value, listed.split())}"
    cause = error.__cause__
    lines = [line for line in str(error).strip().split("\n") if line.strip()]
    if isinstance(cause, OmegaConfBaseException):
        lines += [line for line in str(cause).strip().split("\n") if line.strip()][:1]
    said = "; ".join(line.strip().removesuffix(":") for line in lines[:2]) or type(error).__name__
    return re.sub(
        r"Cannot merge (DictConfig with ListConfig|incompatible.*)", "a list and {key: value} do not merge", said
    )


def illegible(folder: Path) -> Iterator[str]:
    """Each config file below `folder` that Hydra refuses without its name, and what would be right."""
    for path in sorted(Path(here, name) for here, _, names in os.walk(folder, followlinks=True) for name in names):
        if path.suffix != ".yaml":
            continue
        try:
            text = path.read_text(encoding="utf-8")
            with path.open(encoding="utf-8") as file:  # whose name YAML's own errors say
                found = yaml.safe_load(file)
        except UnicodeDecodeError as error:
            yield f"{shown(path)}: byte {error.start} is no text in UTF-8; save it as UTF-8"
            continue
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            yield first_line(error) if isinstance(error, yaml.MarkedYAMLError) else f"{shown(path)}: not YAML: {error}"
            continue
        if found is not None and not isinstance(found, dict | list):
            yield f"{shown(path)}: holds {str(found)[:40]!r} alone; write key: value"
        head = re.match(r"\s*#\s*@(.*)", text)
        if head and not re.fullmatch(r"package\s+[\w.]+\s*", head[1]):
            yield f"{shown(path)}: {head[0].strip()[:80]}: is no header; write `# @package _global_`"
        defaults = found.get("defaults") if isinstance(found, dict) else None
        for entry in defaults if isinstance(defaults, list) else []:
            keys = [*entry] if isinstance(entry, dict) else [entry]
            if len(keys) != 1 or not isinstance(keys[0], str) or not keys[0]:
                yield f"{shown(path)}: defaults: {entry}: is neither a file's name nor group: option"


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
