"""A cloud's arguments as Hydra overrides: `python -m alphard.arguments ARGUMENT...`, for convert_command.sh.

`--key=value`, `--key value` and `-k value` are data, which arrives as it was meant; `key=value` and its like are Hydra
syntax and pass verbatim.  Prints Hydra's own flags, then the overrides in their order, each ended by NUL.
"""

import os
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from alphard import literals
from alphard.errors import UserError
from alphard.own_values import OwnValues

# Hydra's flags, by their full names: an abbreviation is a hyperparameter.
SWITCHES = {"--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"}
SWITCHES |= {"--shell-completion", "-sc"}
LONG = {"-c": "--cfg", "-p": "--package", "-i": "--info"}
LONG |= {"-cn": "--config-name", "-cd": "--config-dir", "-cp": "--config-path"}
VALUED = {*LONG.values(), "--experimental-rerun"}
CHOICES: dict[str, tuple[str, ...]] = {"--cfg": ("job", "hydra", "all")}
CHOICES |= {"--info": ("all", "aliases", "config", "defaults", "defaults-tree", "plugins", "searchpath")}

_ID = r"[A-Za-z_$][\w$]*"
_PART = rf"(?:{_ID}|0|[1-9]\d*)"
_PATH = rf"(?:{_ID}(?:/{_ID})+|{_PART}(?:\.{_PART})+|{_ID})"
KEY = re.compile(rf"\+{{0,2}}{_PATH}(?:@{_PATH})?", re.ASCII)

_LOOSE = r"[\w$./@\[\]\\-]+"  # Hydra's own error is the better one for what is wrong in its syntax
NATIVE = re.compile(rf"\+{{0,2}}{_LOOSE}=.*|~{_LOOSE}(?:=.*)?", re.ASCII | re.DOTALL)
# Text that Hydra might take for one override: no second `=` outside quotes and parentheses.
_NESTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|\([^()]*(?:\([^()]*\)[^()]*)*\)"
LIKE_NATIVE = re.compile(rf"[+~]{{0,2}}{_LOOSE}=(?:{_NESTED}|[^='\"()])*|~[\w$.@-]+", re.ASCII | re.DOTALL)
OPTION = re.compile(r"--.*|-(?:[A-Za-z]|c[dnp]|sc)(?:=.*)?", re.DOTALL)

Flag = tuple[str, str | None]


class Override(NamedTuple):
    """`key` with its + or ++, and `text`: data as it came or, where it is not data, the whole argument."""

    key: str
    text: str
    is_data: bool = True


def rewrite(arguments: Sequence[str], configs: Path, pairs: bool = False) -> list[str]:
    """The words for train.py; raises UserError at the first argument that makes no sense.

    pairs: every two arguments are a name and its value, as SageMaker's toolkit passes them.
    """
    for argument in arguments:
        if re.search("[\ud800-\udfff]", argument):
            raise _refused(argument, "is not UTF-8, which every argument has to be")
    words = deque(arguments[1:] if arguments[:1] == ["train"] else arguments)
    flags, overrides = ([], [*_read_pairs(words)]) if pairs else _read(words)
    own = OwnValues(configs, dict(flags), overrides)
    front = [name if value is None else f"{name}={value}" for name, value in flags]
    return front + [_hydra_text(override, own) for override in _last_wins(overrides)]


def must_be_hydras(arguments: Sequence[str]) -> None:
    """Raise UserError for `--key=value` on train.py's own command line, where Hydra's syntax is without dashes."""
    known = {*SWITCHES, *VALUED}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        # argparse would read -patience=3 as -p atience=3.
        glued = re.fullmatch(r"-[A-Za-z][\w.-]+", name) and name not in LONG.keys() | SWITCHES
        if equals and (glued or (name.startswith("--") and not any(flag.startswith(name) for flag in known))):
            key = name.lstrip("-").replace("-", "_")
            raise UserError(
                f"{argument}: train.py speaks Hydra's syntax, {key}={value}; convert_command.sh takes dashes"
            )


def _read(words: deque[str]) -> tuple[list[Flag], list[Override]]:
    """Arguments as people, gcloud and Vertex AI write them."""
    flags: list[Flag] = []
    overrides: list[Override] = []
    # --package says what --cfg shows; alone it can only be a hyperparameter.
    shows = any(re.match(r"(?:--cfg|-c)(?:=|\Z)", word) for word in words)
    valued = VALUED if shows else VALUED - {"--package", "-p"}
    while words:
        word = words.popleft()
        name, equals, value = word.partition("=")
        flag = LONG.get(name, name)
        if word == "--":
            overrides += [_native(rest) for rest in words]
            words.clear()
        elif word in SWITCHES:
            flags.append((word, None))
        elif flag in valued:
            flags.append((flag, _flag_value(flag, value if equals else _next(flag, words))))
        elif re.match(r"--|-[A-Za-z](?:=|\Z)", word):
            overrides.append(_data(word, words))
        else:
            overrides.append(_native(word))
    return flags, overrides


def _read_pairs(words: deque[str]) -> Iterator[Override]:
    """Arguments as SageMaker's toolkit passes them: a value may look like anything, for its place says what it is."""
    while words:
        word = words.popleft()
        name, equals, value = word.partition("=")
        if not re.match(r"--|-[A-Za-z](?:=|\Z)", word):
            raise _refused(word, "stands where SageMaker's toolkit passes a name; as --name value")
        if not equals and not words:
            raise _refused(word, "has no value; with SM_HPS set, each name is followed by one")
        yield Override(_key(word, name), value if equals else words.popleft())


def _data(word: str, words: deque[str]) -> Override:
    """`--key=value`, or `--key` with the value that may follow it."""
    name, equals, value = word.partition("=")
    key = _key(word, name)
    if equals:
        return Override(key, value)
    if words and not OPTION.fullmatch(words[0]):
        if LIKE_NATIVE.fullmatch(words[0]):
            both = f"{word} {words[0]}"
            raise _refused(both, f"has two readings; write {word}={words[0]} for that text, {word}=true for a flag")
        return Override(key, words.popleft())
    if not name.startswith("--"):
        raise _refused(word, f"has no value; write {word} VALUE, or --{key} for {key}=true")
    return Override(key, "true")


def _next(flag: str, words: deque[str]) -> str:
    if flag == "--info":
        return words.popleft() if words and words[0] in CHOICES[flag] else "all"
    if not words or words[0].startswith("-"):
        raise _refused(flag, f"has no value; write {flag}=VALUE")
    return words.popleft()


def _flag_value(flag: str, value: str) -> str:
    if value not in CHOICES.get(flag, (value,)):
        raise _refused(f"{flag}={value}", f"is Hydra's flag, and shows one of {', '.join(CHOICES[flag])}")
    return value


def _native(word: str) -> Override:
    if word.startswith("-"):  # Hydra would take it for a flag of its own, as -patience=3 for -p atience=3
        bare = word.lstrip("-")
        data = f"--{bare} before any --" if word.startswith("--") else f"--{bare}"
        raise _refused(word, f"is neither --key=value nor Hydra's syntax; write {data}, or {bare} for Hydra's")
    if not NATIVE.fullmatch(word):
        raise _refused(word, "belongs to no key; write --key=value, in quotes if it holds blanks or commas")
    return Override(word.partition("=")[0], word, is_data=False)


def _key(word: str, name: str) -> str:
    bare = name.removeprefix("--") if name.startswith("--") else name[1:]
    key = bare.replace("-", "_")
    if bare.startswith("-") or not KEY.fullmatch(key):
        raise _refused(word, "has no legal key; it needs letters, digits and _, no digit first, as in a_b.c")
    return key


def _last_wins(overrides: list[Override]) -> list[Override]:
    """Without what a later argument repeats.  A repetition in Hydra syntax alone is Hydra's to judge."""
    kept: list[Override] = []
    later: dict[str, bool] = {}  # key -> whether any that stands later is data
    for override in reversed(overrides):
        if override.key not in later or not (override.is_data or later[override.key]):
            kept.append(override)
        later[override.key] = later.get(override.key, False) or override.is_data
    return kept[::-1]


def _hydra_text(override: Override, own: OwnValues) -> str:
    if not override.is_data:
        return override.text
    try:
        return f"{override.key}={literals.write(own.typed(override.key, override.text))}"
    except ValueError as error:
        raise _refused(f"--{override.key}={override.text}", str(error)) from None


def _refused(argument: str, why: str) -> UserError:
    shown = argument if argument.isprintable() and argument.strip() else repr(argument)
    return UserError(f"{shown if len(shown) <= 120 else shown[:117] + '...'}: {why}")


def main() -> int:
    """Print the words for train.py, or one line that says what is wrong; returns the exit status."""
    here = Path(__file__).resolve().parents[2] / "configs"
    configs = Path(os.environ.get("ALPHARD_CONFIGS", here))
    try:
        words = rewrite(sys.argv[1:], configs, pairs="SM_HPS" in os.environ)
    except UserError as error:
        print(f"convert_command.sh: {error}", file=sys.stderr)
        return error.status
    sys.stdout.buffer.write(b"".join(os.fsencode(word) + b"\0" for word in words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
