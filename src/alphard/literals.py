"""Text as the value that Hydra would type it as, and that value as text from which Hydra gets exactly it back.

Stricter than Hydra where Hydra loses something: 2024_01_15 is text and not 20240115, 12e4567 text and not inf.
"""

import math
import re
from typing import Any


class Plain(str):
    """A number, a boolean or null, in a spelling of Hydra's."""

    __slots__ = ()


Value = Any  # Plain | str | list[Value] | dict[str, Value]

_NAMED = re.compile(r"true|false|null|[+-]?(?:inf|nan)", re.IGNORECASE)
# Digits in groups, as in 100_000, are a number that a person typed; other underscores belong to names and dates.
_NUMBER = re.compile(
    r"[+-]?(?:[1-9]\d{0,2}(?:_\d{3})+|(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)",
    re.ASCII | re.IGNORECASE,
)
_DIGITS = r"(?:0|[1-9](?:_?\d)*)"
_HYDRA_NUMBER = re.compile(
    rf"[+-]?(?:(?:{_DIGITS}?\.\d(?:_?\d)*|{_DIGITS}\.?)(?:e[+-]?\d(?:_?\d)*)?|inf|nan)", re.ASCII | re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z/][\w/.:-]*", re.ASCII)

# The tokens of an unquoted element, in the order in which Hydra's lexer prefers them.
_TOKEN = re.compile(r"(?:\\[\\()\[\]{}:=, \t])+|\$\{[^}]+\}|[ \t]*:[ \t]*|[ \t]+|[\w/\\+.$%*@?|-]", re.ASCII)
_KEY_TOKEN = re.compile(r"(?:\\[\\()\[\]{}:=, \t])+|[ \t]+|[\w/\\+.$%*@?|-]", re.ASCII)
_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)


def read(text: str) -> Value:
    """A number, true, false, null, [list] or {dict} as such; anything else as that very text."""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return _scalar(text)
    for reader in (_json, _hydra):
        try:
            return reader(text)
        except (ValueError, RecursionError):
            continue
    return text


def plain(value: Any) -> Value:
    """A value of Python's as what `write` takes."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return Plain(str(value).lower())
    return Plain("null" if value is None else repr(value))


def write(value: Value) -> str:
    """What stands behind the `=` of an override; raises ValueError for what Hydra cannot hold."""
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{write_key(key)}:{write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Plain) or (_WORD.fullmatch(value) and not _NAMED.fullmatch(value)):
        return str(value)
    if value == "???":
        raise ValueError("??? means missing to Hydra; leave the argument out, or name another value")
    if re.search("[\0\ud800-\udfff]", value):  # JSON can spell both
        raise ValueError("holds NUL or half a character, which no argument can carry; leave it out")
    return quoted(literal(value))  # ${ would be looked up even inside quotes


def literal(text: str) -> str:
    """Text as a config's value that refers to nothing: a backslash before each ${, and those before that doubled."""
    return re.sub(r"(?<!\\)(\\*)\$\{", r"\1\1\\${", text)


def quoted(text: str) -> str:
    """Text in quotes, its references left alone."""
    # Inside quotes, backslashes count only before a quote or at the end.
    return "'" + re.sub(r"(?<!\\)(\\*)('|\Z)", lambda m: m[1] * 2 + (m[2] and "\\'"), text) + "'"


def integral(number: Plain) -> Plain:
    """`64.0` as `64`; anything that is no whole number, or too large for a double to be sure of, as it is."""
    try:
        value = float(number)
    except ValueError:
        return number
    return Plain(int(value)) if value.is_integer() and abs(value) <= 2**53 else number


def _scalar(text: str) -> Value:
    if _NAMED.fullmatch(text):
        return Plain(text)
    return Plain(text) if _NUMBER.fullmatch(text) and _held(text) else text


def _held(number: str) -> bool:
    """Whether Python's int or float holds it: it has not too many digits, nor overflows, nor vanishes."""
    mantissa, *exponent = number.lower().split("e")
    if not exponent and "." not in mantissa:
        return len(number) <= 4300  # Python converts no more
    value = float(number)
    return math.isfinite(value) and (value != 0 or not re.search(r"[1-9]", mantissa))


def _json(text: str) -> Value:
    import json

    def typed(value: Any) -> Value:
        if isinstance(value, dict):
            return {key: typed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [typed(item) for item in value]
        return value if isinstance(value, str) else Plain({True: "true", False: "false", None: "null"}[value])

    constant = {"NaN": Plain("nan"), "Infinity": Plain("inf"), "-Infinity": Plain("-inf")}
    return typed(json.loads(text, parse_int=_scalar, parse_float=_scalar, parse_constant=constant.__getitem__))


def _hydra(text: str) -> Value:
    value, end = _element(text, 0)
    if end != len(text):
        raise ValueError(text)
    return value


def _element(text: str, at: int) -> tuple[Value, int]:
    """The element of a Hydra list or dict that starts at `at`, and where it ends."""
    if text[at : at + 1] == "[":
        items, at = _items(text, at, "]", lambda start: _element(text, start))
        return items, at
    if text[at : at + 1] == "{":
        pairs, at = _items(text, at, "}", lambda start: _pair(text, start))
        return dict(pairs), at
    if string := _STRING.match(text, at):
        quote, inside = string[0][0], string[0][1:-1]
        return re.sub(rf"(?<!\\)\\+(?:{quote}|\Z)", lambda m: m[0][1::2], inside), string.end()
    return _unquoted(text, at, _TOKEN)


def _pair(text: str, at: int) -> tuple[tuple[str, Value], int]:
    key, at = _unquoted(text, at, _KEY_TOKEN)
    colon = _expect(r"[ \t]*:[ \t]*", text, at)
    value, at = _element(text, colon)
    return (str(key), value), at


def _items(text: str, at: int, close: str, read_one: Any) -> tuple[list[Any], int]:
    """What stands between brackets, separated by commas."""
    items: list[Any] = []
    at = _expect(r".[ \t]*", text, at)
    if text[at : at + 1] == close:
        return items, at + 1
    while True:
        item, at = read_one(at)
        items.append(item)
        comma = re.compile(r"[ \t]*,[ \t]*").match(text, at)
        if not comma:
            return items, _expect(rf"[ \t]*\{close}", text, at)
        at = comma.end()


def _unquoted(text: str, at: int, token: re.Pattern[str]) -> tuple[Value, int]:
    tokens: list[str] = []
    while match := token.match(text, at):
        tokens.append(match[0])
        at = match.end()
    while tokens and not tokens[-1].strip(" \t"):
        tokens.pop()
    if not tokens:
        raise ValueError(text)
    joined = "".join(t[1::2] if len(t) > 1 and t[0] == "\\" else t for t in tokens)
    return (_scalar(joined) if joined == "".join(tokens) else joined), at


def _expect(pattern: str, text: str, at: int) -> int:
    match = re.compile(pattern).match(text, at)
    if not match:
        raise ValueError(text)
    return match.end()


def write_key(key: str) -> str:
    """A dict's key: Hydra knows no quotes there, and types what looks like a number."""
    if not re.fullmatch(r"[\w/\\+.$%*@?|()\[\]{}:=, \t-]+", key, re.ASCII):
        raise ValueError(f"the key {key!r} cannot be written; Hydra's are letters, digits and /\\+.$%*@?|()[]{{}}:=,-")
    if _HYDRA_NUMBER.fullmatch(key) and not re.fullmatch(r"0|-?[1-9]\d*", key):
        raise ValueError(f"the key {key} would turn into another number; only whole numbers can be keys")
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", key)
