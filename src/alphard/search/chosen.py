"""The search that a command line chooses, judged before Hydra acts: without our sweeper, its own would run jobs."""

import os
from argparse import Namespace
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from alphard.errors import UserError
from alphard.lookup import how_to_choose
from alphard.refusals import Refusals, shown
from alphard.search.configs import Configs

SWEEPER = "hydra_plugins.alphard_sweeper.AlphardSweeper"


def must_be_one(line: Namespace, configs: Path) -> None:
    """Raise UserError where `search=` names several searches, or a file that is none.

    configs: the folder that the command line may replace.  What Hydra refuses is left to it.
    """
    parser, said, fixed = OverridesParser.create(), "", []
    try:
        for text in line.overrides:
            override = parser.parse_override(text)
            if override.key_or_group == "search":
                said = text.partition("=")[2]
                if isinstance(override.value(), list):
                    remedy = how_to_choose(configs, "search")
                    raise UserError(f"search: {said}: a search is chosen by one name; give {remedy}")
                if override.is_sweep_override():
                    raise UserError(f"search: {said}: a search is not swept; run one at a time")
            if not override.is_sweep_override():
                fixed.append(text)
        folder = os.path.normpath(configs.parent / (line.config_path or configs.name))
        extra = (line.config_dir,) if line.config_dir else ()
        config = Configs(folder, line.config_name or "config", extra, tuple(fixed)).compose(hydra=True)
    except Refusals:
        return
    node, sources = config.get("search"), config.hydra.runtime.config_sources
    folders = [Path(source.path) for source in sources if source.provider != "hydra" and source.schema == "file"]
    file = next((path for each in folders if (path := each / "search" / f"{said}.yaml").is_file()), None)
    if file is None:
        return  # made of several, or by code
    sweeper = config.hydra.sweeper.get("_target_")
    if sweeper != SWEEPER or not isinstance(node, DictConfig) or "search" in node:
        remedy = "must begin with `# @package _global_` and have `defaults: [default]`"
        raise UserError(f"search={said}: {shown(file)} {remedy}")
    if said == "default" and node.get("space") is None:
        remedy = f"choose {how_to_choose(folders[0], 'search')}"
        raise UserError(f"search: default: is what others start from; {remedy}")
