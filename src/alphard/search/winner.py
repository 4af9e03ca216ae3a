"""The best trial as an experiment: `python train.py --config-dir studies/NAME experiment=NAME_best` repeats it."""

import tempfile
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from alphard import documents
from alphard.compose import of_one_run
from alphard.fingerprint import flat, without
from alphard.search import results
from alphard.search.configs import Configs, group_choices
from alphard.storage import Folder

SKIPPED = ("experiment", "search", "local@_global_")  # groups that are no part of what a trial is


def name_of(folder: Path) -> str:
    """The experiment's name."""
    return f"{folder.absolute().name}_best"


def write(folder: Path, said: Mapping[str, Any], number: int, chosen: Mapping[str, Any], says: str) -> None:
    """Write trial `number` as an experiment in `folder`: group options, and every value that these do not give.

    said:   study.yaml.
    chosen: the trial's value of each dimension, which is written even where the config says the same today.
    says:   a line about the trial.
    """
    configs = results.configs_of(folder, said)
    ours = said["configs"]["choices"] | {group: chosen.get(group) for group in said["configs"]["groups"]}
    theirs = group_choices(configs.compose(hydra=True))
    stated = _stated(folder, said, number, chosen)
    # An override changes an entry of the defaults list; what has none there is added.
    defaults: list[Any] = [
        {f"override /{group}" if group in theirs else f"/{group}": option}
        for group, option in ours.items()
        if group not in SKIPPED and (option != theirs.get(group) or group in chosen)
    ]
    # Hydra tells no choice of a group of which the line took several options, as in logger=[csv,mlflow].
    overrides = tuple(f"{group}={_option(ours[group])}" for group in theirs if group in ours and group not in SKIPPED)
    base = OmegaConf.to_container(results.configs_of(folder, said, overrides).compose(), resolve=False)
    name = name_of(folder)
    head = f"# @package _global_\n# python train.py --config-dir {folder} experiment={name}\n# {says}\n"
    body = {"defaults": defaults} | _beyond(stated, base, [key for key in chosen if key not in ours])
    text = head + yaml.safe_dump(body, sort_keys=False, default_flow_style=None, allow_unicode=True)
    with tempfile.TemporaryDirectory(prefix="alphard-") as scratch:  # a file that does not compose is not left behind
        aside = Path(scratch) / folder.absolute().name
        Folder(str(aside)).write(f"experiment/{name}.yaml", text.encode())
        _verify(aside, configs, stated)
    Folder(str(folder)).write(f"experiment/{name}.yaml", text.encode())


def _stated(folder: Path, said: Mapping[str, Any], number: int, chosen: Mapping[str, Any]) -> Any:
    """What the trial trained: its config.yaml, or where that is lost, its values in today's configs."""
    home = Folder(str(folder / "trials" / str(number)), "trial")
    content = home.read("config.yaml")
    if content is not None:
        return OmegaConf.to_container(documents.config(content, home.uri("config.yaml")), resolve=False)
    groups = [f"{group}={chosen[group]}" for group in said["configs"]["groups"] if group in chosen]
    config = of_one_run(results.configs_of(folder, said, (*said["configs"]["overrides"], *groups)).compose())
    for key, value in chosen.items():
        if key not in said["configs"]["groups"]:
            OmegaConf.update(config, key, value)
    return without(config, ("output_dir", "overwrite"))


def compose(folder: Path, configs: Configs, *overrides: str) -> DictConfig:
    """The winner's config, with `overrides` on it."""
    extra = (*configs.extra, str(folder))
    return Configs(configs.folder, configs.name, extra, (f"experiment={name_of(folder)}",)).compose(*overrides)


def _beyond(stated: Any, base: Any, always: Collection[str], at: str = "") -> dict[str, Any]:
    """What of `stated` does not stand in `base`, or is one of the paths `always`."""
    found: dict[str, Any] = {}
    for key, value in stated.items():
        path = f"{at}.{key}" if at else str(key)
        if path in always:
            found[key] = value
        elif key in base and isinstance(value, dict) and isinstance(base[key], dict):
            if inner := _beyond(value, base[key], always, path):
                found[key] = inner
        elif key not in base or base[key] != value or type(base[key]) is not type(value):
            found[key] = value
    return found


def _option(choice: Any) -> str:
    if choice is None:
        return "null"
    return f"[{','.join(map(str, choice))}]" if isinstance(choice, list) else str(choice)


def _verify(folder: Path, configs: Configs, stated: Any) -> None:
    """An experiment cannot take a key away; say where one that the command line removed is back."""
    now: Any = OmegaConf.to_container(compose(folder, configs), resolve=False)
    aside = ("output_dir", "overwrite")  # of a run, and not of its config.yaml
    back = [key for key in flat(now) if key not in flat(stated) and key not in aside]
    if back:
        warnings.warn(f"{name_of(folder)}: an experiment cannot remove {', '.join(back[:3])}; add ~KEY", stacklevel=2)
