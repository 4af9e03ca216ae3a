"""Config files from outside configs/, judged before Hydra reads them: --config-path, --config-dir, hydra.searchpath.

Hydra acts on its own node (callbacks, logging, launcher) before any config is checked.  In such a folder no file may
set more of it than HARMLESS, or than configs/ says as well.  A file reaches that node by a key `hydra`, a package
header, a folder called hydra, or an entry of a defaults list; each has the word in it as it stands.
"""

import os
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from alphard.documents import unfolds_too_far
from alphard.errors import UserError
from alphard.guard import LEAVES, SAYS_HYDRA, leaves, parse

HARMLESS = re.compile(
    r"hydra\.(?:run\.dir|sweep\.(?:dir|subdir)|output_subdir|mode|verbose|(?:help|hydra_help)\.\w+"
    r"|job\.(?:name|chdir|id|num|config\.override_dirname\.\w+))"
)
# Which of Hydra's options is chosen is harmless: they are Hydra's, a plugin's, or files that are judged here.
CHOICE = re.compile(r"(?:optional\s+|override\s+)*/?hydra/(?:job_logging|hydra_logging|launcher|sweeper|output|env)")
# An entry of a defaults list, and an option in it, that stay in their folder.
_NAME = r"(?:[\w.-]|\$\{[\w./@-]+\})+(?:/(?:[\w.-]|\$\{[\w./@-]+\})+)*"
ENTRY = re.compile(rf"(?:optional\s+|override\s+)*/?{_NAME}(?:@[\w.]+)?")
OPTION = re.compile(_NAME)
# What YAML that reaches hydra, or another file, must have in it: the word, or a way to spell it otherwise.
SUSPECT = re.compile(r"hydra|defaults|[\\!]", re.IGNORECASE)
# Directory entries, and files to parse, in a folder: what has more is no folder of configs, nor a study of its trials.
MOST, MOST_YAML = 500_000, 2_000
BOMB = "means more by its aliases, *name, than a config holds; write the values without them"
REMEDY = "can run code before the config is checked; leave it out, or look at it and put it into configs/"


def refuse(line: Namespace, configs: Path) -> None:
    """Raise UserError with every file in the folders of a command line that reaches further than it may."""
    problems: list[str] = []
    roots = [configs]
    problems += [f"{path}: {BOMB}" for path in sorted(configs.rglob("*.yaml")) if unfolds_too_far(path)]
    for said, folder in _folders(line, configs):
        roots.append(folder)
        if folder.is_dir() and configs.resolve() not in (folder.resolve(), *folder.resolve().parents):
            problems += _folder(said, folder, configs, line.config_name or "config")
    problems += [
        f"{text}: names a file outside its group; put it into configs/, or add its folder with --config-dir=…"
        for text in line.overrides
        if _is_group(text.partition("=")[0], roots) and leaves(text.partition("=")[2])
    ]
    if problems:
        raise UserError(*problems)


def leads_elsewhere(line: Namespace) -> bool:
    """Whether a command line's config is another than configs/config.yaml."""
    return any(value is not None for value in (line.config_path, line.config_dir, line.config_name))


def _folders(line: Namespace, configs: Path) -> Iterator[tuple[str, Path]]:
    """Each folder that is not configs/, with what names it; what comes from an installed package is not foreign."""
    if line.config_path is not None:  # as Hydra reads it: seen from train.py, `..` without a look at links
        folder = os.path.join(configs.parent.resolve(), line.config_path)
        yield (
            f"--config-path={line.config_path}",
            Path(folder if os.path.isabs(line.config_path) else os.path.normpath(folder)),
        )
    if line.config_dir is not None:
        yield f"--config-dir={line.config_dir}", Path(os.path.abspath(line.config_dir))
    for text in line.overrides:
        if parse(text.partition("=")[0])[1] != "hydra.searchpath":
            continue
        try:
            value = OverridesParser.create().parse_override(text).value()
        except (HydraException, ValueError):
            continue  # Hydra will refuse it
        for path in value if isinstance(value, list) else []:
            yield text, Path(str(path).removeprefix("file://"))


def _is_group(key: str, roots: list[Path]) -> bool:
    group = key.lstrip("+~").partition("@")[0]
    return "/" in key or "@" in key or any((root / group).is_dir() for root in roots)


def _folder(said: str, folder: Path, configs: Path, primary: str) -> Iterator[str]:
    entries = yamls = 0
    for here, folders, files in os.walk(folder, followlinks=True):
        entries += len(folders) + len(files)
        for name in sorted(files):
            if not name.lower().endswith((".yaml", ".yml")):
                continue
            path = Path(here, name)
            relative = path.relative_to(folder)
            if unfolds_too_far(path):
                yield f"{said}: {relative}: {BOMB}"
                continue
            if "hydra" not in relative.parts and not _suspect(path):
                continue
            yamls += 1
            # Beside a run's config.yaml Hydra may have left its own node, which only its name would bring in.
            if relative != Path("hydra.yaml") or primary in ("hydra", "hydra.yaml"):
                yield from (f"{said}: {relative}: {why}" for why in _file(path, relative, configs))
        if entries > MOST or yamls > MOST_YAML:
            yield f"{said}: holds more than {MOST} files, or {MOST_YAML} configs; name a folder of configs alone"
            return


def _suspect(path: Path) -> bool:
    try:
        return SUSPECT.search(path.read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False  # what cannot be read here, Hydra cannot read


def _file(path: Path, relative: Path, configs: Path) -> Iterator[str]:
    own = configs / relative
    try:
        if own.is_file() and own.read_bytes() == path.read_bytes():
            return
        text = path.read_text(encoding="utf-8")
        with path.open(encoding="utf-8") as stream:
            content = OmegaConf.to_container(OmegaConf.load(stream), resolve=False)
    except Exception:  # what cannot be read here, Hydra cannot read
        return
    for words in text[:512].splitlines():
        if re.match(r"\s*#\s*@", words) and SAYS_HYDRA.search(words):
            yield f"{words.strip()}: {REMEDY}"
    if not isinstance(content, dict):
        return
    if "hydra" in relative.parts[:-1]:
        place = ".".join(relative.parts[relative.parts.index("hydra") : -1])
        yield from _leaves(place, {key: value for key, value in content.items() if key != "defaults"}, {})
    if "hydra" in content:
        yield from _leaves("hydra", content["hydra"], _own(configs))
    for entry in content.get("defaults") or [] if isinstance(content.get("defaults"), list) else []:
        yield from _default(entry)


def _leaves(place: str, value: Any, own: dict[str, Any]) -> Iterator[str]:
    """What a node under hydra sets beyond what is harmless or our own; nothing at all is harmless."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{place}.{key}", item, own)
    elif value not in (None, []) and not HARMLESS.fullmatch(place) and own.get(place) != value:
        yield f"{place}: {value!r}: {REMEDY}"


def _own(configs: Path) -> dict[str, Any]:
    """What config.yaml in configs/ says of hydra, by dotted paths."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(configs / "config.yaml"), resolve=False)
    except Exception:  # it is refused where it is composed
        return {}
    return dict(_flat("hydra", found.get("hydra")))


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield place, value
        return
    for key, item in value.items():
        yield from _flat(f"{place}.{key}", item)


def _default(entry: Any) -> Iterator[str]:
    """An entry of a defaults list: it may choose one of Hydra's options, and leads nowhere out of its folder."""
    for key, value in entry.items() if isinstance(entry, dict) else [(entry, None)]:
        values = [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
        chooses = CHOICE.fullmatch(str(key)) and all(re.fullmatch(r"[\w-]+", one) for one in values)
        stays = ENTRY.fullmatch(str(key)) and all(map(OPTION.fullmatch, values))
        if not chooses and any(map(SAYS_HYDRA.search, (str(key), *values))):
            yield f"defaults: {entry}: {REMEDY}"
        elif not stays or any(map(LEAVES.search, (str(key), *values))):
            yield f"defaults: {entry}: leads out of its folder, or may; name a file in it"
