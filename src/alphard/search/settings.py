"""What a search config's `search:` node may say, apart from the space."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from alphard import schema
from alphard.types import Count, Positive, Seed, Whole

if TYPE_CHECKING:
    from alphard.search.space import Space

# Suggestions that tpe, gp and cmaes make at most before the first of them is known, and one in SHARE of a search's
# trials: more cost quality, fewer cost speed.  In 40 trials tpe loses a seventh of what it gains on chance with 10
# pending, and two fifths with 32 (medians; benchmarks/packs_search.py pending).
PENDING, SHARE = 32, 4
LEARNING = ("tpe", "gp", "cmaes")


@dataclass(frozen=True, kw_only=True)
class Pruner:
    """When a trial ends early for being worse than the others.

    asha (Li et al. 2020): after grace_epochs, and each time `reduction` times as many, one in `reduction` goes on.
    hyperband (Li et al. 2018): several such ladders, with later first looks.
    median: worse than the median of the others at the same epoch, from grace_epochs on.
    """

    kind: Literal["asha", "hyperband", "median", "none"] = "none"
    grace_epochs: Count = 5
    reduction: Annotated[int, Ge(2)] = 3


@dataclass(frozen=True, kw_only=True)
class Pack:
    """How trials train as one stacked model, with engine=packed.

    size:   trials of a pack at most, and with an algorithm that learns, trials under way at a time, of all packs; None
        is what fits, as long as more make a trial cheaper, and with an algorithm that learns as Settings.pending says.
    memory: GiB for the packs of all workers that share a device; None is half of what is free.
    keep:   so many of the best trials have a folder of their own.
    """

    size: Annotated[int, Ge(2)] | None = None
    memory: Positive | None = None
    keep: Count = 10


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a space is searched.

    trials:       of the study in all, over every time that its line is said.
    parallel:     trials at a time, each in a process of its own; with engine=packed, processes, each with its packs.
    engine:       packed trains trials that differ in values alone, and not in shape, as one stacked model.
    initial:      values of dimensions, tried first; the dimensions that one leaves out are chosen for it.
    warm_start:   another study's folder, whose finished trials count as known.
    seed:         the search's own randomness; a trial's is the config's `seed`.
    max_failures: trials that may fail; one more ends the search.
    time_budget:  minutes after which no trial begins.
    storage:      an Optuna storage URL; None is a journal in the study's folder.
    folder:       of the study; None is studies/<experiment>-<search>.
    """

    objective: str
    direction: Literal["maximize", "minimize"] = "maximize"
    trials: Count = 50
    parallel: Count = 1
    engine: Literal["local", "packed"] = "local"
    algorithm: Literal["tpe", "gp", "cmaes", "random", "grid", "qmc"] = "tpe"
    pruner: Pruner = field(default_factory=Pruner)
    pack: Pack = field(default_factory=Pack)
    initial: list[dict[str, Any]] = field(default_factory=list)
    warm_start: str | None = None
    seed: Seed = 0
    max_failures: Whole = 5
    time_budget: Positive | None = None
    storage: str | None = None
    folder: str | None = None

    @property
    def pending(self) -> int | None:
        """Trials under way at a time with engine=packed; None where no suggestion depends on the others."""
        if self.algorithm not in LEARNING:
            return None
        return self.pack.size or max(2, min(PENDING, self.trials // SHARE))

    def total(self, space: "Space") -> int:
        """Trials of a study of that space: a grid has no more than its combinations."""
        return min(self.trials, space.combinations()) if self.algorithm == "grid" else self.trials


def read(node: Mapping[str, Any]) -> Settings:
    """The settings of a resolved `search:` node; UserError with every problem."""
    return schema.read(Settings, {k: v for k, v in node.items() if k != "space"}, "search", "a search")
