"""What a config and its groups have, and which of it a misspelt key may have meant."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alphard.errors import UserError
from alphard.refusals import Refusals

# What other programs call a setting.
SHORT = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "max_epochs": "epochs", "n_epochs": "epochs"}


def here() -> Path:
    """The configs of the project in whose folder a command is called; UserError elsewhere."""
    configs = Path("configs")
    if not (configs / "config.yaml").exists():
        raise UserError(f"configs: no configs/config.yaml in {Path.cwd()}; call alphard in the project's folder")
    return configs


def paths(config: Any, at: str = "") -> Iterator[str]:
    """Every config path, without following references."""
    plain: Any = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    if isinstance(plain, dict):
        for key, value in plain.items():
            path = f"{at}.{key}" if at else str(key)
            yield path
            yield from paths(value, path)


def similar(key: str, config: Any) -> tuple[list[str], bool]:
    """The keys that a misspelt one may have been, and whether it was their own last word, as dropout is."""
    known, (parent, dot, last) = list(paths(config)), key.rpartition(".")
    # `dropout` is model.net.dropout; and a misspelt last word is nearer to its siblings than to all paths.
    deeper = [path for path in known if path.startswith(f"{parent}{dot}") and path.endswith(f".{last}")]
    exact = [SHORT[key]] if SHORT.get(key) in known else deeper
    siblings = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == parent]
    near = [f"{parent}{dot}{name}" for name in get_close_matches(last, siblings, n=1)]
    return exact[:3] or near, bool(exact)


def options_with(configs: Path, key: str) -> list[str]:
    """Of `data.path`, GROUP=OPTION for the options of `data` that have a `path`."""
    group, _, rest = key.partition(".")
    names = []
    for option in options(configs, group) if rest else []:
        try:
            found = OmegaConf.load(configs / group / f"{option}.yaml")
        except (OSError, *Refusals):
            continue
        if rest in paths(found):
            names.append(f"{group}={option}")
    return names


def options(configs: Path, group: str) -> list[str]:
    """The options of a config group, or none where `group` is no group."""
    if not group or "." in group:
        return []
    return sorted(path.stem for path in (configs / group).glob("*.yaml"))


def how_to_choose(configs: Path, group: str) -> str:
    """`GROUP=OPTION`, and the other options, without the one that the others start from."""
    first, *others = [name for name in options(configs, group) if name != "default"] or ["NAME"]
    return f"{group}={first}" + (f" (or {', '.join(others)})" if others else "")
