"""Hydra's way to alphard.search: `python train.py search=NAME` chooses this sweeper."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class AlphardSweeper(Sweeper):
    """Hands the config and the command line over; trials are not Hydra's jobs but processes of the search."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the config; Hydra calls this first."""
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Search to the end."""
        from alphard.search.command import search

        assert self.config is not None, "Hydra calls setup first"
        search(self.config, arguments)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="alphard",
    node={"_target_": "hydra_plugins.alphard_sweeper.AlphardSweeper"},
    provider="alphard",
)
