"""What the container has to be told, so that it trains what train.py would train here."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alphard import literals
from alphard.compose import of_one_run
from alphard.errors import UserError
from alphard.search.configs import Configs, group_choices
from alphard.storage import is_url
from vertex_ai.settings import SERVICE

LOCAL = "local@_global_"  # configs/local is the user's alone, and in no image
ASIDE = ("experiment", "search", LOCAL)
UNSAID = "no container's argument says this; put it into a file of configs/ that the image has"
DATA = re.compile(r"\.(csv|tsv|parquet|pq|npz|npy|feather|arrow|txt)(\.\w+)?$")  # a file's name, there or misspelt
KEY = re.compile(r"[A-Za-z_][\w-]*")  # one that a path may go through
VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)\s*\}")  # without a default


def arguments(
    configs: Path, given: Sequence[str], config: DictConfig, choices: Mapping[str, Any], tuned: Collection[str]
) -> list[str]:
    """The container's arguments: the command line's, and what the search's file and configs/local add to the config.

    tuned: what every trial is given anyway.
    """
    own = [text for text in given if not re.match(r"[+~]{0,2}search\b", text)]
    without = (f"~{LOCAL}",) if (configs / "local").is_dir() else ()
    plain = Configs(str(configs.absolute()), "config", (), without)
    theirs = group_choices(plain.compose(*own, hydra=True))
    for group, option in choices.items():
        if group not in ASIDE and option != theirs.get(group):
            own.append(f"{group}={literals.write(literals.plain(option))}")
    there, wanted = (_flat(each, tuned) for each in (of_one_run(plain.compose(*own)), config))
    own += [f"~{path}" for path in there if path not in wanted]
    for path, value in wanted.items():
        if path not in there or _differ(there[path], value):
            own.append(f"{'' if path in there else '+'}{path}={_written(path, value)}")
    now = _flat(of_one_run(plain.compose(*own)), tuned)
    if wrong := next((path for path in {**wanted, **now} if _differ(now.get(path), wanted.get(path))), None):
        raise UserError(f"{wrong}: {wanted.get(wrong)!r}: {UNSAID}")
    return own


def _flat(config: DictConfig, tuned: Collection[str]) -> dict[str, Any]:
    """Every leaf by its path, unresolved; the output folder aside, which is the service's to say."""
    found: dict[str, Any] = {}

    def walk(node: Any, at: str) -> None:
        for key, value in node.items():
            path = f"{at}.{key}" if at else str(key)
            if isinstance(value, dict) and value and all(KEY.fullmatch(str(inner)) for inner in value):
                walk(value, path)
            else:
                found[path] = value

    walk(OmegaConf.to_container(config, resolve=False), "")
    return {path: value for path, value in found.items() if path not in ("output_dir", "overwrite", *tuned)}


def _differ(there: Any, wanted: Any) -> bool:
    return there != wanted or type(there) is not type(wanted)


def _written(path: str, value: Any) -> str:
    """A leaf as an override; a reference stays one."""
    if isinstance(value, str) and "${" in value:
        return value if re.fullmatch(r"\$\{[\w.]+\}", value) else literals.quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(_written(path, inner) for inner in value) + "]"
    try:
        if isinstance(value, dict):
            pairs = (f"{literals.write_key(str(key))}:{_written(path, inner)}" for key, inner in value.items())
            return "{" + ",".join(pairs) + "}"
        return literals.write(literals.plain(value))
    except ValueError:
        raise UserError(f"{path}: {value!r}: {UNSAID}") from None


def unset(config: DictConfig, environment: Collection[str]) -> Iterator[str]:
    """Where the config needs a variable of the environment that neither the job nor the service sets."""
    for path, value in _flat(config, ()).items():
        for name in VARIABLE.findall(str(value)):
            if name not in environment and not re.match(SERVICE, name):
                remedy = f"give environment.{name}=…, or a default in the reference"
                yield f"{path}: {value}: {name} is not set where the job runs; {remedy}"


def local_paths(node: Any, at: str = "data") -> Iterator[str]:
    """Values of the data's config that are files or folders of this machine."""
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    if isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from local_paths(value, f"{at}.{key}" if isinstance(plain, dict) else f"{at}[{key}]")
    elif isinstance(plain, str) and re.search(r"[/.]\w", plain) and not is_url(plain):
        try:
            there = Path(plain).expanduser().exists()
        except OSError:  # no name of a file at all
            return
        if (there or DATA.search(plain)) and not plain.startswith("/gcs/"):
            yield f"{at}: {plain}"
