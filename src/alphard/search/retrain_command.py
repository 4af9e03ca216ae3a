"""`alphard retrain`: the best trial's config on fresh seeds, beside baselines, and then, once, the test split."""

import contextlib
import io
import re
import shutil
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from alphard import imported, tables
from alphard.check import nearest
from alphard.compose import Refusals, first_line, meant, must_be_sound
from alphard.errors import UserError
from alphard.noise import rows_line
from alphard.search import report, results, tracked, winner
from alphard.storage import Folder, is_url

WORDS = {"seeds": "5", "baselines": "true"}  # and what each is where nothing is said


def main(arguments: Sequence[str]) -> int:
    """Train STUDY's winner: `STUDY seeds=5 baselines=true key=value…`."""
    if not arguments or "=" in arguments[0]:
        raise UserError(f"alphard retrain: {' '.join(arguments) or 'no argument'}: give a study, studies/NAME seeds=5")
    if is_url(arguments[0]):
        where = f"`alphard results {arguments[0]}` brings the study into studies/"
        raise UserError(f"alphard retrain: {arguments[0]}: {where}; give the folder that it names")
    folder = Path(arguments[0].rstrip("/"))
    count, baselines, overrides = _words(arguments[1:])
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
    _conclude(folder, configs, runs, best, objective, found[0], baselines)
    return 0


def _words(arguments: Sequence[str]) -> tuple[int, bool, list[str]]:
    """The number of seeds, whether baselines are wanted, and what else was said."""
    said = dict(WORDS)
    rest = []
    for word in arguments:
        key, _, value = word.partition("=")
        if key in said:
            said[key] = value
        else:
            rest.append(word)
    if not said["seeds"].isdigit() or int(said["seeds"]) < 1:
        raise UserError(f"seeds: {said['seeds']!r}: give how many, a whole number from 1")
    if said["baselines"].lower() not in ("true", "false"):
        raise UserError(f"baselines: {said['baselines']!r}: give true or false")
    return int(said["seeds"]), said["baselines"].lower() == "true", rest


def _fresh(folder: Path, said: dict[str, Any], found: list[results.Row], count: int) -> list[int]:
    """Seeds that no trial had."""
    own = winner.compose(folder, results.configs_of(folder, said)).seed
    last = max([own, *(row["seed"] for row in found if row.get("seed") is not None)])
    return list(range(last + 1, last + 1 + count))


def _config(folder: Path, said: dict[str, Any], seed: int, overrides: Sequence[str]) -> DictConfig:
    """The winner's config on another seed, and on all training rows."""
    configs = results.configs_of(folder, said)
    given = [f"seed={seed}", "score_test=false", "baselines=false"]
    if winner.compose(folder, configs).data.get("fraction", 1) != 1:
        given.append("data.fraction=1")
    try:
        return winner.compose(folder, configs, *given, *overrides)
    except Refusals as refusal:
        problems = [*_unknown(Path(configs.folder), winner.compose(folder, configs), overrides)]
        raise UserError(*(problems or [f"{' '.join(overrides)}: {first_line(refusal)}"])) from None


def _unknown(configs: Path, config: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    for word in overrides:
        key = word.partition("=")[0]
        if re.fullmatch(r"[\w.]+", key) and OmegaConf.select(config, key, default=word) == word:
            yield f"{key}: no such key{nearest(key, WORDS) or meant(configs, word, key, config)}"


def _run(config: DictConfig, folder: Path, objective: str, **asked: bool) -> dict[str, Any]:
    """A run's metrics; what it says stands in its training.log."""
    with imported.for_good():
        from alphard.run import run, settings_of

    place = None if asked else tracked.place_of_retrain(config, folder.parent.parent)
    settings = settings_of(config) | {"output_dir": str(folder), "objective": objective} | asked
    with contextlib.redirect_stdout(io.StringIO()):
        return run(config, str(folder), place=place, **settings).metrics


def _conclude(
    folder: Path,
    configs: list[DictConfig],
    runs: list[dict[str, Any]],
    best: int,
    objective: str,
    trial: results.Row,
    baselines: bool,
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
    if rows is not None:
        print(rows_line("validation", rows, statistics.mean(values), objective))
    before = Folder(str(folder / "winner")).read("config.yaml")
    _keep(folder / "retrain" / str(configs[best].seed), folder / "winner")
    if before is not None and before != Folder(str(folder / "winner")).read("config.yaml"):
        print(f"winner: the one that was there is replaced by seed {configs[best].seed}'s")
    opened = bool(runs[best].get("test_rows"))
    baselines = baselines and rows is not None  # a data module of another kind has none to show
    metrics = _run(configs[best], folder / "winner", objective, score_test=opened, baselines=baselines)
    if baselines:
        _show_beside(runs, f"winner, seed {configs[best].seed}", metrics)
    if opened:
        said = "  ".join(f"{k}: {v:.6f}" for k, v in metrics.items() if k.startswith("test_") and isinstance(v, float))
        print(f"test split, for seed {configs[best].seed} alone: {said}")
        print(rows_line("test", metrics["test_rows"], metrics.get("test_accuracy", 0.0), "test_accuracy"))
    else:
        print("test split: there is none; data.test_fraction makes one before the search")
    print(f"winner: {folder / 'winner'}")
    print(f"{objective}: {runs[best][objective]:.6f}", flush=True)


def _show_beside(runs: list[dict[str, Any]], name: str, winner: dict[str, Any]) -> None:
    from alphard.progress import show_baselines

    known = [key for key in winner if all(isinstance(run.get(key), float) for run in runs)]
    mean = {key: statistics.mean(run[key] for run in runs) for key in known}
    show_baselines({f"mean of {len(runs)} seeds": mean, name: winner}, winner)


def _keep(run: Path, place: Path) -> None:
    """A copy of the run as `place`, whole or not at all."""
    beside = place.with_name(f".{place.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(run, beside)
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)
