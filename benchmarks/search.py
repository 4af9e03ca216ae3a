"""A search's trials a minute against the same runs as processes, and how good its choices are against plain Optuna's.

    python benchmarks/search.py            about 6 minutes; `speed`, `busy` or `quality` alone as an argument

Speed: 60 trials (digits, 10 epochs) with 2 workers, start and end of the process included, against `python train.py`,
two at a time, in turns.  Overhead: the workers' time that is no epoch's, a trial, after each worker's first.  Busy: the
share of the workers' time spent on trials while trials of 1 and 4 seconds wait.  Quality: 40 trials on a fixed table,
benchmarks/search_table.csv: the validation loss of 360 trainings on a fifth of digits (`search.algorithm=grid`); the
median of the best value found, over 30 seeds, or 10 of the slow `gp`: ten of tpe's differ by chance more than samplers
do.

Promised: 5 times the trials a minute, 100 ms of overhead, 90% busy; `tpe` and `gp` at least as good as plain Optuna
with the same sampler's defaults, and better than `random`.
"""

import bisect
import csv
import itertools
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna

from alphard.search import grammar
from alphard.search.results import load
from alphard.search.settings import Settings
from alphard.search.study import Study

ROOT = Path(__file__).resolve().parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
TRIALS, PROCESSES, TURNS = 60, 8, 2
SEEDS, CHOICES = {"random": 30, "tpe": 30, "gp": 10}, 40
FIXED = ["epochs=10", "threads=1", "search.pruner.kind=none", "search.algorithm=random"]

SPACE = grammar.read(
    {
        "learning_rate": "tag(log, interval(1e-4, 1e-1))",
        "dropout": "interval(0, 0.5)",
        "hidden": "choice([64], [128, 64], [256, 128])",
        "optimizer": "choice(adamw, sgd)",
    }
)
Value = Callable[[dict], float]


def speed() -> bool:
    searched, alone, overheads = [], [], []
    for _ in range(TURNS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            line = [*TRAIN, "search=mlp", f"search.trials={TRIALS}", "search.parallel=2", *FIXED]
            subprocess.run(line, cwd=folder, check=True, capture_output=True)
            searched.append(60 * TRIALS / (time.perf_counter() - began))
            overheads.append(overhead(Path(folder, "studies/mlp"), workers=2))
            began = time.perf_counter()
            for pair in [(n, n + 1) for n in range(0, PROCESSES, 2)]:
                line = [*TRAIN, "epochs=10", "threads=1"]
                running = [
                    subprocess.Popen([*line, f"seed={n}", f"output_dir=run{n}"], cwd=folder, stdout=subprocess.DEVNULL)
                    for n in pair
                ]
                assert [process.wait() for process in running] == [0, 0]
            alone.append(60 * PROCESSES / (time.perf_counter() - began))
    ratio = statistics.median(a / b for a, b in zip(searched, alone, strict=True))
    print(f"search=mlp, 2 workers         {statistics.median(searched):.0f} trials a minute")
    print(f"python train.py, 2 at a time  {statistics.median(alone):.0f} trials a minute")
    print(f"ratio: {ratio:.1f}  (promised: at least 5)")
    spent, first = (statistics.median(each) for each in zip(*overheads, strict=True))
    print(f"overhead: {1000 * spent:.0f} ms a trial  (promised: at most 100)")
    print(f"          {first:.1f} s in each worker's first trial, once", flush=True)
    return ratio >= 5 and spent <= 0.1


def overhead(study: Path, workers: int) -> tuple[float, float]:
    """Seconds a trial that were no epoch's: its own, and those for which its worker stood free before it.

    The trials that were each worker's first, which load what all need, are left out; second, their mean.
    """
    _, trials = load(study)
    trials = sorted(trials, key=lambda trial: trial.datetime_start)
    beside = []
    for trial in trials:
        with (study / "trials" / str(trial.number) / "eval_history.csv").open() as file:
            epochs = sum(float(row["seconds"]) for row in csv.DictReader(file))
        beside.append((trial.datetime_complete - trial.datetime_start).total_seconds() - epochs)
    # A worker is free from one trial's end to the next one's start, and whose they are is nothing to their sum.
    begun = [trial.datetime_start for trial in trials[workers:]]
    ended = sorted(trial.datetime_complete for trial in trials)[: len(begun)]
    free = sum((start - end).total_seconds() for start, end in zip(begun, ended, strict=True))
    return (sum(beside[workers:]) + free) / len(begun), statistics.mean(beside[:workers])


def busy() -> bool:
    """Trials of 1 and 4 epochs of about a second; counted while more of them wait."""
    with tempfile.TemporaryDirectory() as folder:
        line = [*TRAIN, "search=mlp", "search.trials=24", "search.parallel=2", *FIXED[1:], "epochs=choice(1,4)"]
        line += ["data=synthetic", "data.rows=60000", "model.net.hidden=choice([64])", "search.seed=1"]
        subprocess.run(line, cwd=folder, check=True, capture_output=True)
        _, trials = load(Path(folder, "studies/mlp"))
    first, last = (pick(trial.datetime_start for trial in trials) for pick in (min, max))
    spent = sum(min(trial.user_attrs["seconds"], (last - trial.datetime_start).total_seconds()) for trial in trials)
    share = spent / (2 * (last - first).total_seconds())
    lengths = sorted(trial.user_attrs["seconds"] for trial in trials)
    print(f"busy: {share:.1%} of the time, trials of {lengths[1]:.1f} to {lengths[-2]:.1f} s  (promised: at least 90%)")
    return share >= 0.9


def table() -> Value:
    """The table's loss, linear between its rates (by their logarithms) and dropouts."""
    rows = list(csv.DictReader((ROOT / "benchmarks/search_table.csv").read_text().splitlines()))
    cells = {(r["optimizer"], r["hidden"], float(r["learning_rate"]), float(r["dropout"])): r for r in rows}
    rates, dropouts = (sorted({key[at] for key in cells}) for at in (2, 3))

    def value(chosen: dict) -> float:
        parts = (share(rates, chosen["learning_rate"], math.log), share(dropouts, chosen["dropout"], float))
        return sum(
            p * q * float(cells[chosen["optimizer"], chosen["hidden"], rate, dropout]["validation_loss"])
            for (rate, p), (dropout, q) in itertools.product(*parts)
        )

    return value


def share(points: list[float], at: float, scale: Callable[[float], float]) -> list[tuple[float, float]]:
    """The two points around `at`, each with its share."""
    right = min(max(bisect.bisect(points, at), 1), len(points) - 1)
    low, high = points[right - 1], points[right]
    part = (scale(at) - scale(low)) / (scale(high) - scale(low))
    return [(low, 1 - part), (high, part)]


def ours(algorithm: str, seed: int, value: Value) -> float:
    from optuna.trial import TrialState

    settings = Settings(
        objective="validation_loss", direction="minimize", trials=CHOICES, algorithm=algorithm, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder, "study"), settings, SPACE, {}, epochs=10)
        while (trial := study.take()) is not None:
            study.tell(trial, TrialState.COMPLETE, value(trial.chosen), {})
        best = study.best()
        study.close()
    assert best is not None
    return float(best.value)


def plain(sampler: optuna.samplers.BaseSampler, value: Value) -> float:
    def objective(trial: optuna.Trial) -> float:
        return value(
            {
                "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
                "dropout": trial.suggest_float("dropout", 0, 0.5),
                "hidden": trial.suggest_categorical("hidden", ["[64]", "[128,64]", "[256,128]"]),
                "optimizer": trial.suggest_categorical("optimizer", ["adamw", "sgd"]),
            }
        )

    study = optuna.create_study(direction="minimize", sampler=sampler)
    study.optimize(objective, n_trials=CHOICES)
    return study.best_value


def quality() -> bool:
    value = table()
    medians = {"random": statistics.median(ours("random", seed, value) for seed in range(SEEDS["random"]))}
    print(f"random  {medians['random']:.6f}", flush=True)
    kept = True
    for algorithm, sampler in (("tpe", optuna.samplers.TPESampler), ("gp", optuna.samplers.GPSampler)):
        seeds = range(SEEDS[algorithm])
        found = [ours(algorithm, seed, value) for seed in seeds]
        theirs = [plain(sampler(seed=seed), value) for seed in seeds]
        a, b = statistics.median(found), statistics.median(theirs)
        means = f"means {statistics.mean(found):.6f}, {statistics.mean(theirs):.6f}"
        print(f"{algorithm:<7} {a:.6f}   plain Optuna's {b:.6f}  ({means})", flush=True)
        kept &= a <= b and a < medians["random"]
    return kept


def main() -> int:
    warnings.simplefilter("ignore")
    asked = sys.argv[1:] or ["speed", "busy", "quality"]
    kept = [{"speed": speed, "busy": busy, "quality": quality}[name]() for name in asked]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
