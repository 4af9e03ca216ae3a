"""Time per optimizer step of the real fit path, against stock Lightning and a hand-written loop, in one process.

    python benchmarks/steps.py        about 2 minutes

20,000 rows of 64 features, 64→128→64→10, batch 256, AdamW, 2 threads.  The contenders take turns; medians of the turns'
ratios.  `run` is a whole training, which validates 5,000 rows and writes a checkpoint each epoch, keeps the best
weights, and stops early if it comes to that; `ours` is its steps alone.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

from alphard import imported

with imported.for_good():  # as train.py does it; all contenders gain
    import pytorch_lightning as pl
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from alphard.build import data_of, model_of, trainer_of
    from alphard.checkpoint import Store
    from alphard.compose import compose, must_be_sound
    from alphard.in_one_go import InOneGo
    from alphard.objective import Reporter
    from alphard.quiet import quiet
    from alphard.resume import Checkpoints
    from alphard.storage import Folder
    from alphard.training import Training

ROOT = Path(__file__).resolve().parents[1]
TURNS, EPOCHS, BATCH = 9, 6, 256
LINE = (
    "data=synthetic", "data.rows=25000", f"batch_size={BATCH}", f"epochs={EPOCHS}", f"patience={EPOCHS}",
    "model.net.hidden=[128,64]", "model.net.dropout=0", "trainer=cpu", "threads=2",
)  # fmt: skip
STEPS_ALONE = ("callbacks=none", f"+trainer.check_val_every_n_epoch={2 * EPOCHS}")
PROMISED = {
    ("ours", "fused loop"): 1.12,
    ("ours", "loop"): 0.95,
    ("ours", "stock Lightning"): 0.4,
    ("run", "fused loop"): 1.3,
}


class Clock(pl.Callback):
    """Seconds of the epochs after the first, which warms up; where there are checkpoints, one is due each epoch."""

    def __init__(self, checkpoints: Checkpoints | None = None) -> None:
        self.checkpoints = checkpoints

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.began = time.perf_counter()
        if self.checkpoints:
            self.checkpoints.due = 0.0

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = time.perf_counter() - self.began


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


class Stock(pl.LightningModule):
    """As Lightning's documentation writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(20_000, 64, generator=random), torch.randint(10, (20_000,), generator=random)


def steps() -> int:
    return -(-20_000 // BATCH) * (EPOCHS - 1)


def ours() -> float:
    config = compose(ROOT / "configs", (*LINE, *STEPS_ALONE))
    must_be_sound(config)
    data = data_of(config)
    assert len(data.splits.train) == 20_000
    clock = Clock()
    trainer = trainer_of(config, [clock, InOneGo()], Path(tempfile.gettempdir()))
    trainer.fit(model_of(config, data.facts), datamodule=data)
    return clock.seconds / steps()


class Counting(Store):
    written = 0

    def add(self, step: int, content: bytes) -> None:
        super().add(step, content)
        self.written += 1


def whole() -> float:
    config = compose(ROOT / "configs", LINE)
    must_be_sound(config)
    with tempfile.TemporaryDirectory() as folder:
        home, store = Folder(folder), Counting(Folder(f"{folder}/checkpoints"))
        checkpoints = Checkpoints(store, config, "never", 3600.0)
        reporter = Reporter(config.objective, False)
        training = Training(config, home, Path(folder), reporter, lean=True, checkpoints=checkpoints)
        clock = Clock(checkpoints)
        training.trainer.callbacks.insert(0, clock)
        training.train()
    assert store.written == EPOCHS
    return clock.seconds / steps()


def stock() -> float:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", callbacks=[clock], enable_progress_bar=False, default_root_dir=folder
        )
        trainer.fit(Stock(), DataLoader(TensorDataset(*rows()), batch_size=BATCH, shuffle=True))
    return clock.seconds / steps()


def loop(fused: bool) -> float:
    (X, y), model = rows(), net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    for epoch in range(EPOCHS):
        if epoch == 1:
            began = time.perf_counter()
        for part in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(X[part]), y[part]).backward()
            optimizer.step()
    return (time.perf_counter() - began) / steps()


def main() -> int:
    torch.set_num_threads(2)
    contenders = {
        "ours": ours,
        "run": whole,
        "stock Lightning": stock,
        "loop": lambda: loop(False),
        "fused loop": lambda: loop(True),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with quiet():
        for _ in range(TURNS):
            for name, run in contenders.items():
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    taken[name].append(run())
    for name, seconds in taken.items():
        middle = 1e3 * statistics.median(seconds)
        print(f"{name:<16} {middle:.2f} ms a step  ({1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f})")
    kept = True
    for (name, reference), most in PROMISED.items():
        share = statistics.median(a / b for a, b in zip(taken[name], taken[reference], strict=True))
        print(f"{name} / {reference}: {share:.2f}  (promised: at most {most})")
        kept &= share <= most
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
