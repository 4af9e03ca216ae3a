"""The lesson's 200 epochs as a whole process, against a script of the lesson's own kind: plain torch, no Lightning.

    python benchmarks/lesson.py        about 2 minutes

Both read the same arrays (569 and 143 rows of 7 features), train the same network on all rows at once, validate each
epoch, keep the best weights, and leave model.pt, metrics.json and eval_history.csv; ours a report, plots and the rest
as well.  Whole processes in turns; medians of the ratios.  Promised: at most 1.6.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# As a person writes it who has not heard of Lightning.
SCRIPT = """
import argparse
import copy
import csv
import json

import numpy as np
import torch
from torch import nn


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train")
    parser.add_argument("--val")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--patience", type=int)
    parser.add_argument("--min_delta", type=float)
    args = parser.parse_args()
    torch.manual_seed(0)
    train, val = np.load(args.train), np.load(args.val)
    X, y = torch.tensor(train["X_train"], dtype=torch.float32), torch.tensor(train["y_train"])
    X_val, y_val = torch.tensor(val["X_val"], dtype=torch.float32), torch.tensor(val["y_val"])
    model = nn.Sequential(nn.Linear(X.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    loss_of = nn.CrossEntropyLoss()
    best, best_state, waited, history = float("inf"), None, 0, []
    for epoch in range(1, args.epochs + 1):
        model.train()
        optimizer.zero_grad()
        loss = loss_of(model(X), y)
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(X_val)
            val_loss = loss_of(logits, y_val).item()
            accuracy = (logits.argmax(1) == y_val).float().mean().item()
        history.append([epoch, loss.item(), val_loss, accuracy])
        print(f"epoch {epoch}: train_loss {loss.item():.4f} val_loss {val_loss:.4f} val_accuracy {accuracy:.4f}")
        if val_loss < best - args.min_delta:
            best, best_state, waited = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited > args.patience:
                break
    model.load_state_dict(best_state)
    torch.save(model.state_dict(), "model.pt")
    with open("eval_history.csv", "w", newline="") as file:
        csv.writer(file).writerows([["epoch", "train_loss", "val_loss", "val_accuracy"], *history])
    with open("metrics.json", "w") as file:
        json.dump({"best_val_loss": best, "stopped_epoch": len(history)}, file)


main()
"""
EPOCHS, TURNS = 200, 7
SETTINGS = {"epochs": EPOCHS, "learning_rate": 0.001, "patience": EPOCHS, "min_delta": 0.0}


def arrays(folder: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    X = random.normal(size=(712, 7))
    y = (X[:, 0] + X[:, 1] * X[:, 2] + random.normal(size=712) > 0).astype(np.int64)
    np.savez(folder / "T.npz", X_train=X[:569], y_train=y[:569])
    np.savez(folder / "V.npz", X_val=X[569:], y_val=y[569:])
    return {"train": folder / "T.npz", "val": folder / "V.npz"}


def seconds(command: list[str], folder: Path) -> float:
    folder.mkdir()
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    spent = time.perf_counter() - began
    rows = next(folder.rglob("eval_history.csv")).read_text().splitlines()
    assert len(rows) == EPOCHS + 1, "all epochs are trained"
    return spent


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        given = {**arrays(here), **SETTINGS}
        (here / "lesson.py").write_text(SCRIPT)
        ours = [str(ROOT / "train.py"), "experiment=titanic_lesson", "model_out=out"]
        commands = {
            "the lesson's kind": [str(here / "lesson.py"), *(f"--{k}={v}" for k, v in given.items())],
            "train.py": ours + [f"{k}={v}" for k, v in given.items()],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(TURNS + 1):  # the first fills the disk's cache
            for name, command in commands.items():
                spent = seconds(command, here / f"{turn}-{command[0].rpartition('/')[2]}")
                taken[name] += [spent] if turn else []
    for name, spent in taken.items():
        print(f"{name:<18} {statistics.median(spent):.2f} s  ({min(spent):.2f} to {max(spent):.2f})")
    script, trained = taken.values()
    share = statistics.median(a / b for a, b in zip(trained, script, strict=True))
    print(f"train.py / the lesson's kind: {share:.2f}  (promised: at most 1.6)")
    return int(share > 1.6)


if __name__ == "__main__":
    sys.exit(main())
