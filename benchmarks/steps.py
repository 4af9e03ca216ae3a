"""Time per optimizer step of the real fit path, against stock Lightning and a hand-written loop, in one process.

    python benchmarks/steps.py        about 2 minutes

20,000 rows of 64 features, 64→128→64→10, batch 256, AdamW, 2 threads.  The contenders
take turns; medians over the turns.  The promise: at most 0.65 of stock Lightning, and within 0.9 ms of the loop.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from alphard.build import data_of, model_of, trainer_of
from alphard.compose import compose, must_be_sound
from alphard.quiet import quiet

ROOT = Path(__file__).resolve().parents[1]
TURNS, EPOCHS, BATCH = 7, 6, 256
LINE = (
    "data=synthetic", "data.rows=20100", "data.validation_fraction=0.005", f"batch_size={BATCH}", f"epochs={EPOCHS}",
    "model.net.hidden=[128,64]", "model.net.dropout=0", "callbacks=none", "trainer=cpu", "+trainer.limit_val_batches=0",
)  # fmt: skip


class Clock(pl.Callback):
    """Seconds of the epochs after the first, which warms up."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.began = time.perf_counter()

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
    config = compose(ROOT / "configs", LINE)
    must_be_sound(config)
    data = data_of(config)
    assert len(data.splits.train) == 20_000
    clock = Clock()
    trainer = trainer_of(config, [clock], Path(tempfile.gettempdir()))
    trainer.fit(model_of(config, data.facts), datamodule=data)
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
    contenders = {"ours": ours, "stock Lightning": stock, "loop": lambda: loop(False), "fused loop": lambda: loop(True)}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with quiet():
        for _ in range(TURNS):
            for name, run in contenders.items():
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    taken[name].append(run())
    for name, seconds in taken.items():
        middle = 1e3 * statistics.median(seconds)
        print(f"{name:<16} {middle:.2f} ms a step  ({1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f})")
    share = statistics.median(a / b for a, b in zip(taken["ours"], taken["stock Lightning"], strict=True))
    above = 1e3 * statistics.median(a - b for a, b in zip(taken["ours"], taken["loop"], strict=True))
    print(f"ours / stock Lightning: {share:.2f}  (promised: at most 0.65)")
    print(f"ours - loop: {above:.2f} ms  (promised: at most 0.9)")
    return int(share > 0.65 or above > 0.9)


if __name__ == "__main__":
    sys.exit(main())
