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
    configs: Path,
    given: Sequence[str],
    config: DictConfig,
    choices: Mapping[str, Any],
    tuned: Collection[str],
    beside: Sequence[str] | None = None,
) -> list[str]:
    """The container's arguments: the command line's, and what the search's file and configs/local add to the config.

    tuned:  what every trial is given anyway.
    beside: of a container that runs the search too, which has the search's file: options of the tuned groups, with
            which `config` was composed.  None is one that trains one trial, and is told nothing of the search.
    """
    searches, beside = beside is not None, tuple(beside or ())
    own = [text for text in given if searches or not re.match(r"[+~]{0,2}search\b", text)]
    plain = Configs(str(configs.absolute()), "config", (), without_local(configs))
    theirs = group_choices(plain.compose(*own, *beside, hydra=True))
    for group, option in choices.items():
        if group not in (*ASIDE, *tuned) and option != theirs.get(group):
            own.append(f"{group}={literals.write(literals.plain(option))}")
    there, wanted = (leaves(each, tuned, searches) for each in (plain.compose(*own, *beside), config))
    own += [f"~{path}" for path in there if path not in wanted]
    for path, value in wanted.items():
        if path not in there or _differ(there[path], value):
            own.append(f"{'' if path in there else '+'}{path}={_written(path, value)}")
    now = leaves(plain.compose(*own, *beside), tuned, searches)
    if wrong := differs(now, wanted):
        raise UserError(f"{wrong}: {wanted.get(wrong)!r}: {UNSAID}")
    return own


def without_local(configs: Path) -> tuple[str, ...]:
    """The override that leaves configs/local out, as an image does."""
    return (f"~{LOCAL}",) if (configs / "local").is_dir() else ()


def differs(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first path at which two configs' leaves differ."""
    return next((path for path in {**wanted, **there} if _differ(there.get(path), wanted.get(path))), None)


def leaves(config: DictConfig, tuned: Collection[str] = (), searches: bool = False) -> dict[str, Any]:
    """Every leaf of a run's config by its path, unresolved; the output folder aside, which is the service's to say.

    searches: the settings of the search around it are among them.  Its space has a grammar of its own.
    """
    whole: Any = OmegaConf.to_container(config, resolve=False)
    found = _flat(OmegaConf.to_container(of_one_run(config), resolve=False))
    found |= of_search(whole["search"]) if searches else {}
    return {path: value for path, value in found.items() if path not in ("output_dir", "overwrite", *tuned)}


def of_search(node: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a search's node, but for its space."""
    return _flat({key: value for key, value in node.items() if key != "space"}, "search")


def _flat(node: Any, at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        path = f"{at}.{key}" if at else str(key)
        if isinstance(value, dict) and value and all(KEY.fullmatch(str(inner)) for inner in value):
            found |= _flat(value, path)
        else:
            found[path] = value
    return found


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


def unset(found: Mapping[str, Any], environment: Collection[str]) -> Iterator[str]:
    """Which leaves need a variable of the environment that neither the job nor the service sets."""
    for path, value in found.items():
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
