"""What dropouts draw in a pack.  Shapes: K trials, B rows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from alphard.packs.member import Member
from alphard.packs.serving import Group


def noise_of(
    members: Sequence[Member], names: Sequence[str], groups: Sequence[Group], place: Tensor, like: Tensor
) -> Callable[[int], dict[str, Tensor]]:
    """An epoch's noise: from a step's B to the buffers of all dropouts, (1, …) where all trials have the same.

    The noise of a step is a function of seed, epoch, step and layer, by one generator a (seed, epoch): no other member
    changes it, and a checkpoint need not hold it.

    names: of the dropouts.
    place: the group of each row, (K,); the last is the empty row's.  On the noise's device, for a list's way to a GPU
        would make the host wait for it, at every step.
    like:  of the device and type of the result.
    """
    if not names:
        return lambda _: {}
    generators = [torch.Generator(like.device).manual_seed(_mixed(*group)) for group in groups]
    fixed: dict[str, Tensor] = {}
    for name in names:
        p = torch.tensor([*(_p(m, name) for m in members), 0.0], dtype=torch.float64)
        scale = torch.where(p < 1, 1 / (1 - p), 0.0)
        fixed |= {f"{name}.p": p.to(like), f"{name}.scale": scale.to(like)}

    def of_step(rows: int) -> dict[str, Tensor]:
        made = dict(fixed)
        for name in names:
            drawn = [torch.rand(rows, *members[0].shapes[name], generator=g, device=like.device) for g in generators]
            made[f"{name}.noise"] = drawn[0].unsqueeze(0) if len(drawn) == 1 else torch.stack(drawn)[place]
        return made

    return of_step


def _p(member: Member, name: str) -> float:
    module: Any = member.net.get_submodule(name)
    return float(module.p)


def _mixed(seed: int, order: int, epoch: int) -> int:
    """A seed for each; the order of batches has another."""
    return (seed * 1_000_003 + epoch) * 1_000_003 + order + 1 & (1 << 63) - 1
