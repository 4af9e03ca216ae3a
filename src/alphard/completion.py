"""What a shell may complete a word of `alphard` by; argcomplete speaks with the shell."""

import argparse
import csv
import os
import shlex
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.shell_integration import shellcode

from alphard.errors import UserError
from alphard.subcommands import SUBCOMMANDS, Subcommand

SHELLS = ("bash", "zsh")
CONFIGS = Path("configs")
JOB = Path("vertex_ai/configs/job.yaml")
# zsh has no `compdef` before its completion system is on.
ZSH = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"


def main(arguments: Sequence[str]) -> int:
    """Print the shell's side: `bash` or `zsh`."""
    shell = " ".join(arguments) or os.path.basename(os.environ.get("SHELL", ""))
    if shell not in SHELLS:
        near = get_close_matches(shell, SHELLS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"as in {SUBCOMMANDS['completion'].example}"
        raise UserError(f"alphard completion: {shell or 'no shell'}: give bash or zsh; {hint}")
    code = shellcode(["alphard"], shell=shell)
    print(f"{ZSH}\n{code}" if shell == "zsh" else code)
    return 0


def answer() -> None:
    """Tell the shell that asks, and end the process; what goes wrong is no word."""
    parser = argparse.ArgumentParser(add_help=False)
    words: Any = parser.add_argument("words", nargs="*")
    words.completer = _completer
    argcomplete.autocomplete(parser, always_complete_options=False, validator=lambda *_: True)


def _completer(prefix: str, **_: Any) -> list[str]:
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    try:
        before = shlex.split(line.removesuffix(prefix))[1:]
    except ValueError:  # inside a quotation
        return []
    return complete(before, prefix)


def complete(before: Sequence[str], prefix: str) -> list[str]:
    """The words that `prefix` may become, after the words `before` it; none where the shell's own files will do."""
    if not before:
        found: Iterator[str] = iter([*SUBCOMMANDS, "--help", "--version"])
    elif (this := SUBCOMMANDS.get(before[0])) is None:
        found = iter(())
    elif "=" in prefix:
        key = prefix.partition("=")[0]
        found = (f"{key}={one}" for one in _values(this, before[1:], key))
    else:
        found = _words(this, before[1:], prefix)
    return sorted({word for word in found if word.startswith(prefix)})


def _words(this: Subcommand, before: Sequence[str], prefix: str) -> Iterator[str]:
    yield "--help"
    placed = [word for word in before if "=" not in word]
    if not placed:
        yield from this.takes.split("|") if this.takes.islower() else ()
        for pattern in this.folders:
            yield from (str(path) for path in Path().glob(pattern) if path.is_dir())
    keys = [*this.words, *(_job_settings() if this.job else ())]
    if this.overrides:
        known = [*_config_paths(before)]
        # All keys at once are more than anybody reads: those of a group come when its dot has been typed.
        keys += [path for path in known if "." in prefix or "." not in path]
    yield from (f"{key}=" for key in keys)


def _values(this: Subcommand, before: Sequence[str], key: str) -> Iterator[str]:
    if this.words.get(key, "").endswith(("; true", "; false")):
        yield from ("true", "false")
    elif key == "target" and key in this.words:
        yield from _columns(before)
    elif this.overrides:
        from omegaconf import OmegaConf

        from alphard.lookup import options

        yield from options(CONFIGS, key)
        config = _config(before)
        if config is not None and isinstance(OmegaConf.select(config, key, throw_on_resolution_failure=False), bool):
            yield from ("true", "false")


def _config(before: Sequence[str]) -> Any:
    """The config of the overrides so far, or where they make none yet, of none; None outside a project."""
    from alphard.compose import Refusals, compose

    if not (CONFIGS / "config.yaml").is_file():
        return None
    overrides = [word for word in before if "=" in word and word.partition("=")[2]]
    for given in (overrides, []):
        try:
            return compose(CONFIGS, given)
        except (*Refusals, OSError):
            continue
    return None


def _config_paths(before: Sequence[str]) -> Iterator[str]:
    from alphard.lookup import paths

    config = _config(before)
    if config is not None:
        yield from (path for path in paths(config) if not path.rpartition(".")[2].startswith("_"))
        yield from ("experiment", "search")  # groups that have no node until one is chosen


def _job_settings() -> Iterator[str]:
    import yaml

    if JOB.is_file():
        yield from yaml.safe_load(JOB.read_text())


def _columns(before: Sequence[str]) -> Iterator[str]:
    """The columns of the CSV file that a word before names."""
    for word in before:
        if "=" not in word and word.endswith(".csv") and Path(word).is_file():
            with open(word, encoding="utf-8", errors="replace", newline="") as file:
                yield from next(csv.reader([file.readline()]), [])
