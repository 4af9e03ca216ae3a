"""`alphard retrain`: the best trial's config on fresh seeds, and then, once, the test split."""

import contextlib
import io
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from alphard import tables
from alphard.compose import Refusals, first_line, must_be_sound
from alphard.errors import UserError
from alphard.search import report, results, tracked, winner

SEEDS = 5


def main(arguments: Sequence[str]) -> int:
    """Train STUDY's winner: `STUDY seeds=5 key=value…`."""
    if not arguments or "=" in arguments[0]:
        raise UserError(f"alphard retrain: {' '.join(arguments) or 'no argument'}: give a study, studies/NAME seeds=5")
    folder = Path(arguments[0].rstrip("/"))
    count, overrides = _seeds(arguments[1:])
    said, found, _ = results.rows(folder)
    if not found or found[0]["state"] != "complete":
        raise UserError(f"{folder}: has no complete trial yet; there is nothing to retrain")
    objective, sign = said["search"]["objective"], 1 if said["search"]["direction"] == "maximize" else -1
    report.write_winner(folder, said, found[0])
    seeds = _fresh(folder, said, found, count)
    configs = [_config(folder, said, seed, overrides) for seed in seeds]
    for config in configs:
        must_be_sound(config)
    runs = []
    for config in configs:
        runs.append(_run(config, folder / "retrain" / str(config.seed), objective))
        print(f"seed {config.seed}: {objective} {runs[-1][objective]:.6f}", flush=True)
    best = max(range(count), key=lambda i: sign * runs[i][objective])
    _conclude(folder, configs, runs, best, objective, found[0])
    return 0


def _seeds(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """The number of seeds, and what else was said."""
    given = [word.partition("=")[2] for word in arguments if word.startswith("seeds=")]
    text = given[-1] if given else str(SEEDS)
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"seeds: {text!r}: give how many, a whole number from 1")
    return int(text), [word for word in arguments if not word.startswith("seeds=")]


def _fresh(folder: Path, said: dict[str, Any], found: list[results.Row], count: int) -> list[int]:
    """Seeds that no trial had."""
    own = winner.compose(folder, results.configs_of(folder, said)).seed
    last = max([own, *(row["seed"] for row in found if row.get("seed") is not None)])
    return list(range(last + 1, last + 1 + count))


def _config(folder: Path, said: dict[str, Any], seed: int, overrides: Sequence[str]) -> DictConfig:
    """The winner's config on another seed, and on all training rows."""
    configs = results.configs_of(folder, said)
    given = [f"seed={seed}", "score_test=false"]
    if winner.compose(folder, configs).data.get("fraction", 1) != 1:
        given.append("data.fraction=1")
    try:
        return winner.compose(folder, configs, *given, *overrides)
    except Refusals as refusal:
        raise UserError(f"{' '.join(overrides)}: {first_line(refusal)}") from None


def _run(config: DictConfig, folder: Path, objective: str, score_test: bool = False) -> dict[str, Any]:
    """A run's metrics; what it says stands in its training.log."""
    from alphard.run import run, settings_of

    place = None if score_test else tracked.place_of_retrain(config, folder.parent.parent)
    settings = settings_of(config) | {"output_dir": str(folder), "score_test": score_test, "objective": objective}
    with contextlib.redirect_stdout(io.StringIO()):
        return run(config, str(folder), place=place, **settings).metrics


def _conclude(
    folder: Path, configs: list[DictConfig], runs: list[dict[str, Any]], best: int, objective: str, trial: results.Row
) -> None:
    table = Table("seed", objective, "epochs")
    for config, run in zip(configs, runs, strict=True):
        table.add_row(str(config.seed), f"{run[objective]:.6f}", str(run["stopped_epoch"]))
    tables.show(table)
    values = [run[objective] for run in runs]
    spread = f" +- {statistics.stdev(values):.6f} (standard deviation)" if len(values) > 1 else ""
    share = winner.compose(folder, results.configs_of(folder, results.about(folder))).data.get("fraction", 1)
    fewer = f" on {share:g} of the training rows" if share != 1 else ""
    rows = runs[best].get("val_rows")
    print(f"{objective}: mean {statistics.mean(values):.6f}{spread}; in the search, {trial[objective]:.6f}{fewer}")
    if (noise := results.binomial_error(statistics.mean(values), rows, objective)) is not None:
        print(f"validation rows: {rows}, so a binomial standard error of {noise:.6f}")
    _keep(folder / "retrain" / str(configs[best].seed), folder / "winner")
    metrics = runs[best]
    if metrics.get("test_rows"):
        metrics = _run(configs[best], folder / "winner", objective, score_test=True)
        said = "  ".join(f"{k}: {v:.6f}" for k, v in metrics.items() if k.startswith("test_") and isinstance(v, float))
        print(f"test split, {metrics['test_rows']} rows, for seed {configs[best].seed} alone: {said}")
    else:
        print("test split: there is none; data.test_fraction makes one before the search")
    print(f"winner: {folder / 'winner'}")
    print(f"{objective}: {runs[best][objective]:.6f}", flush=True)


def _keep(run: Path, place: Path) -> None:
    """A copy of the run as `place`, whole or not at all."""
    beside = place.with_name(f".{place.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(run, beside)
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)
