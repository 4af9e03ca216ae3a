"""A whole search in packs against the local engine, 2 workers each: trials a minute, and what is no training.

    python benchmarks/packs_search.py            about 12 minutes; or some of `speed whole pending`

Speed: 1,024 trials in packs and 128 on the local engine (digits, 10 epochs, batch 64, net 64-32, adamw), from the
first trial's beginning to the last one's end: start and end of the processes, with what they import, are left out.
Overhead: of that time of both workers all that is no epoch's, a trial: suggestions, configs and nets, curves stored,
checkpoints, the folders of the best; also what comes once, as each worker's measuring of how many fit into a pack, and
how long one waits at the end for the other.  Pending: how much quality `tpe` loses where so many suggestions are made
before the first of them is known (search.pack.size), on search.py's table.

Promised: 3 times the trials a minute of the local engine; at most 8 ms a trial outside training, told beside what a
hand-written step of steps.py takes in the same run, for a slow machine is slow in both; and with all rows in a batch
never slower than the local engine.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from optuna.trial import FrozenTrial, TrialState
from search import CHOICES, SPACE, TRAIN, table
from steps import loop

from alphard.search.results import load
from alphard.search.settings import SHARE, Settings
from alphard.search.study import Study

WORKERS = 2
LINE = ["search=mlp", f"search.parallel={WORKERS}", "search.algorithm=random", "search.pruner.kind=none"]
LINE += ["search.initial=[]", "epochs=10", "threads=1", "model.net.hidden=[64,32]", "optimizer=adamw", "patience=10"]
TRIALS = {"packed": 1024, "local": 128}
WHOLE, EQUAL = 64, 0.95  # trials; what falls back is the local engine itself, but for noise
SEEDS = 90
# Of so many trials, so many pending: more at a time, and more in the time that this saves.
CASES = (
    (CHOICES, 1),
    (CHOICES, CHOICES // SHARE),
    (CHOICES, 32),
    (2 * CHOICES, 2 * CHOICES // SHARE),
    (2 * CHOICES, 32),
)


def speed() -> bool:
    pace, steps = {}, []
    torch.set_num_threads(2)
    for engine in ("local", "packed"):
        steps += [loop(False) for _ in range(3)]
        span, whole, trials = _searched(engine, TRIALS[engine])
        pace[engine] = 60 * len(trials) / span
        print(
            f"{engine:<7} {pace[engine]:.0f} trials a minute, {60 * len(trials) / whole:.0f} with start and end",
            flush=True,
        )
    spent = (WORKERS * span - sum(trial.user_attrs["seconds"] for trial in trials)) / len(trials)
    steps += [loop(False) for _ in range(3)]
    print(f"a hand-written step: {1000 * statistics.median(steps):.2f} ms")
    print(f"overhead: {1000 * spent:.1f} ms of a worker a trial  (promised: at most 8)")
    ratio = pace["packed"] / pace["local"]
    print(f"ratio: {ratio:.1f}  (promised: at least 3)")
    return ratio >= 3 and spent <= 0.008


def whole() -> bool:
    """All rows in a batch, where packs gain little or nothing: large nets go to the local engine by themselves."""
    kept = True
    for hidden in ("[64,32]", "[512,512]"):
        line = ["batch_size=null", f"model.net.hidden={hidden}"]
        turns = [[_searched(engine, WHOLE, *line)[0] for engine in ("local", "packed")] for _ in range(3)]
        ratio = statistics.median(local / packed for local, packed in turns)
        kept &= ratio >= EQUAL
        print(
            f"all rows in a batch, hidden {hidden}: {ratio:.2f} of the local engine's  (promised: at least 1)",
            flush=True,
        )
    return kept


def _searched(engine: str, trials: int, *line: str) -> tuple[float, float, list[FrozenTrial]]:
    """Seconds from the first trial's beginning to the last one's end, those of the whole process, and the trials."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        words = [*TRAIN, *LINE, f"search.engine={engine}", f"search.trials={trials}", *line]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        whole = time.perf_counter() - began
        _, found = load(Path(folder, "studies/mlp"))
    first = min(trial.datetime_start for trial in found)
    return (max(trial.datetime_complete for trial in found) - first).total_seconds(), whole, found


def pending() -> bool:
    """tpe's best on the table, by how many suggestions are pending at a time, over 90 seeds."""
    value = table()
    for algorithm, trials, size in [*(("tpe", *case) for case in CASES), ("random", CHOICES, 1)]:
        found = [_best(algorithm, trials, size, seed, value) for seed in range(SEEDS)]
        name = f"{algorithm}, {size} of {trials}"
        print(f"{name:<15} median {statistics.median(found):.4f}  mean {statistics.mean(found):.4f}", flush=True)
    return True


def _best(algorithm: str, trials: int, size: int, seed: int, value) -> float:
    given = {"trials": trials, "algorithm": algorithm, "seed": seed, "engine": "packed"}
    settings = Settings(objective="validation_loss", direction="minimize", **given)
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder, "study"), settings, SPACE, {}, epochs=10)
        while taken := study.take_many(size):
            for trial in taken:
                study.tell(trial, TrialState.COMPLETE, value(trial.chosen), {})
        best = study.best()
        study.close()
    assert best is not None
    return float(best.value)


def main() -> int:
    asked = sys.argv[1:] or ["speed", "whole", "pending"]
    kept = [{"speed": speed, "whole": whole, "pending": pending}[name]() for name in asked]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
