"""YAML and JSON that somebody else may have written, read to plain values; whatever is none is one UserError.

Nothing in such a file runs code, unfolds to more than stands in it, or holds what no terminal and no file can take.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from alphard.errors import UserError

# A run's own config has some kB, a hundred values and a few levels; one that names columns to drop has more of them.
MOST_BYTES, MOST_VALUES, MOST_LEVELS = 4_000_000, 50_000, 50
MOST_JSON = 64_000_000  # bytes; curves.json of a thousand classes has a tenth of it
MOST_DIGITS = 18  # of an integer that a run counts to, and a float holds
ENDLESS = 10**12  # values
EVENTS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What code raises, ours and libraries', that was given what nobody wrote.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
TRAIN = "train it again, with overwrite=true"


class NotWritten(UserError):
    """The file is not what the program writes under its name."""


class _Unsound(ValueError):
    """Why a file is not taken, in some words."""


def config(content: bytes, where: str, remedy: str = TRAIN) -> DictConfig:
    """A run's config.yaml, its references unresolved; UserError at `where`.

    where: the file, as an error names it.
    """
    with _told(where, "a run", remedy):
        found = OmegaConf.create(_plain_yaml(content))
        if not isinstance(found, DictConfig):  # its first event was a mapping's
            raise _Unsound("it holds no keys")
        return found


def of_yaml(content: bytes, where: str, writer: str, remedy: str) -> dict[str, Any]:
    """The keys of a YAML file as `writer`, a search, wrote it with yaml.safe_dump; UserError at `where`."""
    with _told(where, writer, remedy):
        found: dict[str, Any] = yaml.safe_load(_plain_yaml(content))
        return found


def of_json(content: bytes, where: str, remedy: str = TRAIN) -> dict[str, Any]:
    """The keys of a JSON file that a run wrote, all its numbers finite; UserError at `where`."""
    with _told(where, "a run", remedy):
        if len(content) > MOST_JSON:
            raise _Unsound(f"it has {len(content):,} bytes")
        found = json.loads(content.decode(), parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        if not isinstance(found, dict):
            raise _Unsound(f"it holds {_kind(found)}, and no keys")
        if b"\\u" in content:  # a character that stands there as it is was decoded already
            for text in _texts(found):
                _must_be_text(text)
        return found


def unfolds_too_far(path: Path) -> bool:
    """Whether a config of a user's, who may write aliases, means more by them than any config holds: Hydra would hang.

    What cannot be read is Hydra's to refuse.
    """
    try:
        content = path.read_bytes()
        return b"*" in content and b"&" in content and _weight(content.decode()) > MOST_VALUES
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False


@contextmanager
def judged(where: str, writer: str, remedy: str) -> Iterator[None]:
    """Inside, what fails does so for files that the program did not write."""
    try:
        yield
    except UserError:
        raise
    except FAULTS as error:
        why = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise UserError(f"{where}: is not what {writer} writes: {why[:200]}; {remedy}") from error


@contextmanager
def _told(where: str, writer: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # yaml's, OmegaConf's, json's and the decoder's own
        raise NotWritten(f"{where}: is not what {writer} writes: {_why(error)}; {remedy}") from None


def _why(error: Exception) -> str:
    match error:
        case UnicodeDecodeError():
            return f"byte {error.start} is no text in UTF-8"
        case yaml.reader.ReaderError():
            return f"character {error.position} stands in no text"
        case yaml.MarkedYAMLError(problem_mark=mark) if mark:
            return f"line {mark.line + 1}: no YAML: {error.problem or error.context}"
        case json.JSONDecodeError():
            return f"line {error.lineno}: no JSON: {error.msg}"
        case RecursionError():
            return "it is nested too deeply"
    return str(error).strip().split("\n")[0] or type(error).__name__


def _plain_yaml(content: bytes) -> str:
    """The text of one mapping without aliases, of an ordinary size; whatever else there is raises."""
    if len(content) > MOST_BYTES:
        raise _Unsound(f"it has {len(content):,} bytes")
    text, levels, values, mapping = content.decode(), 0, 0, False
    for event in yaml.parse(text, Loader=EVENTS):
        if isinstance(event, yaml.AliasEvent):
            raise _Unsound(f"an alias, *{event.anchor}, where its value belongs")
        if isinstance(event, yaml.NodeEvent):
            values += 1
            mapping = mapping or isinstance(event, yaml.MappingStartEvent)
            if not mapping:
                raise _Unsound(f"it holds {'a list' if isinstance(event, yaml.SequenceStartEvent) else 'a text'} alone")
        if isinstance(event, yaml.ScalarEvent):
            _must_be_text(event.value)
        levels += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if levels > MOST_LEVELS or values > MOST_VALUES:
            raise _Unsound("it is nested too deeply" if levels > MOST_LEVELS else f"more than {MOST_VALUES:,} values")
    if not mapping:
        raise _Unsound("it is empty")
    return text


def _weight(text: str) -> int:
    """How many values a YAML text has with each alias unfolded."""
    anchored: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=EVENTS):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, weight = open_.pop()
        elif isinstance(event, yaml.AliasEvent):
            around = any(event.anchor == anchor for anchor, _ in open_)  # it holds itself
            anchor, weight = None, ENDLESS if around else anchored.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, weight = event.anchor, 1
        else:
            continue
        if anchor is not None:
            anchored[anchor] = min(weight, ENDLESS)
        open_[-1] = (open_[-1][0], open_[-1][1] + weight)
    return open_[0][1]


def _must_be_text(text: str) -> None:
    """Raise for what no file name, terminal or table takes: a NUL, and half of a surrogate pair."""
    if re.search(r"[\0\ud800-\udfff]", text):
        raise _Unsound("a text in it holds a NUL, or half a character")


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for one in [*node, *node.values()] if isinstance(node, dict) else node:
            yield from _texts(one)


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise _Unsound(f"a number in it has {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise _Unsound(f"a number in it is {text[:20]}")
    return number


def _kind(value: object) -> str:
    return {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")
