"""Layers as a stacked model calls them.  Shapes: K trials, B rows, I and O features in and out.

A member's own modules stay what they are; a copy of them, the pack's, has these forwards in their place.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIMS = tuple[int | None, ...]
LINE = 16  # numbers of float32 in a cache line


class _Linear(torch.autograd.Function):
    """x Wᵀ + b.  Under vmap one baddbmm, where vmap's own rule makes a product and then a sum."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        raise AssertionError("only ever called under vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(info: Any, dims: DIMS, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, int]:
        given = zip((x, weight, bias), dims, strict=True)
        x, weight, bias = (_stacked(each, dim, info.batch_size) for each, dim in given)
        made: Tensor = _Product.apply(x.reshape(len(x), -1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
        return made.view(*x.shape[:-1], made.shape[-1]), 0


class _Product(torch.autograd.Function):
    """(K, B, I), (K, O, I), (K, O) -> (K, B, O).

    One product a trial, never one over the columns of all, whose sums would depend on how many there are.  And each
    matrix begins on a cache line, filled up with zeros where it would not: MKL sums another way elsewhere, and so a
    trial's last bits would depend on its row.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows, width = ctx.sizes = x.shape[1], weight.shape[1]
        x = filled(x, 1)
        if width * weight.shape[2] % LINE:
            weight, bias = filled(weight, 1), filled(bias, 1)
        ctx.save_for_backward(x, weight)
        made = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
        return made if made.shape[1:] == (rows, width) else made[:, :rows, :width].contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (x, weight), (rows, width) = ctx.saved_tensors, ctx.sizes
        filled = gradient.contiguous()
        if (x.shape[1], weight.shape[1]) != (rows, width):
            filled = F.pad(gradient, (0, weight.shape[1] - width, 0, x.shape[1] - rows))
        of_weight = torch.bmm(filled.transpose(1, 2), x)[:, :width]
        of_x = torch.bmm(filled, weight)[:, :rows] if ctx.needs_input_grad[0] else None
        return of_x, of_weight, gradient.sum(1)


def whole(number: int, of: int = LINE) -> int:
    """The next multiple."""
    return -(-number // of) * of


def filled(x: Tensor, *dims: int) -> Tensor:
    """With zeros at the end of these dimensions, up to whole lines."""
    more = {dim: whole(x.shape[dim]) - x.shape[dim] for dim in dims}
    return F.pad(x, [n for dim in reversed(range(x.dim())) for n in (0, more.get(dim, 0))]) if any(more.values()) else x


def _stacked(each: Tensor, dim: int | None, k: int) -> Tensor:
    return each.expand(k, *each.shape) if dim is None else each.movedim(dim, 0)


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    made: Tensor = _Linear.apply(x, module.weight, module.bias)  # type: ignore[no-untyped-call]  # torch's own
    return made


def _silu(_: nn.SiLU, x: Tensor) -> Tensor:
    # torch's own gives another last bit to what its vectorised loop leaves over, and so to some row of some trial.
    return x / (1 + (-x).exp())


def _batch_norm(module: Any, x: Tensor) -> Tensor:
    """Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; torch's kernel sums another way among other columns."""
    if x.dim() != 2:
        return nn.BatchNorm1d.forward(module, x)
    if module.training:
        mean = x.mean(0)
        apart = x - mean
        variance = (apart * apart).mean(0)
        with torch.no_grad():
            module.num_batches_tracked.add_(1)
            unbiased = variance.detach() * (len(x) / (len(x) - 1))
            module.running_mean.mul_(1 - module.momentum).add_(module.momentum * mean.detach())
            module.running_var.mul_(1 - module.momentum).add_(module.momentum * unbiased)
    else:
        apart, variance = x - module.running_mean, module.running_var
    made: Tensor = apart * (variance + module.eps).rsqrt()
    return made * module.weight + module.bias if module.affine else made


def _dropout(module: Any, x: Tensor) -> Tensor:
    """Zero where the noise is below the trial's p (Srivastava et al. 2014), as nn.Dropout scaled by 1/(1-p)."""
    return x * kept(module.noise, module.p, module.scale) if module.training else x


def kept(noise: Tensor, p: Tensor, scale: Tensor) -> Tensor:
    """What a dropout multiplies with."""
    made: Tensor = (noise >= p) * scale
    return made


def dropouts(net: nn.Module) -> dict[str, nn.Dropout]:
    """The net's, by name."""
    return {name: module for name, module in net.named_modules() if type(module) is nn.Dropout}


def replace(net: nn.Module) -> None:
    """Give the pack's copy of a net the forwards above; p, scale and noise of a dropout come in as buffers."""
    for module in net.modules():
        if type(module).forward is nn.Linear.forward and isinstance(module, nn.Linear) and module.bias is not None:
            _give(module, _linear)
        elif type(module) is nn.SiLU and not module.inplace:
            _give(module, _silu)
        elif type(module) is nn.BatchNorm1d and module.track_running_stats and module.momentum is not None:
            _give(module, _batch_norm)
        elif type(module) is nn.Dropout:
            del module.p
            for name in ("p", "scale", "noise"):
                module.register_buffer(name, torch.zeros(()), persistent=False)
            _give(module, _dropout)


def _give(module: nn.Module, forward: Any) -> None:
    module.forward = forward.__get__(module)
