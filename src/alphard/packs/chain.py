"""K nets forward and backward, layer by layer.  Shapes: K trials, B rows, W features between layers, C classes.

Of a small net's step autograd and vmap take longer than the arithmetic.  So linear layers, their relu, dropout and
residual blocks have a backward of a few lines here; what stands between them, and a net of any other form as a whole,
goes through vmap and autograd.

Rows and features are filled up with zeros to whole cache lines, (K, B', W'), and so are the outputs of weights: each
trial's matrix begins on a line then, without which MKL sums another way, and a trial's last bits depend on its row.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from alphard.models import MLP
from alphard.models.networks import Residual
from alphard.packs.layers import filled, kept

BETWEEN = ("torch.nn.modules.activation", "torch.nn.modules.batchnorm", "torch.nn.modules.normalization")
Tensors = Mapping[str, Tensor]
Back = Callable[[Tensor], Tensor]


@dataclass
class Nets:
    """The first K rows of a stack, as layers read and write them, and the step that they are in.

    weights, gradients: by parameter, (K, O', …) where a single one's is (O, …).
    buffers:            by name, (K, …).
    rows:               B.
    noise:              of dropouts by name (K, B, …), and their p and scale (K,).
    """

    weights: Tensors
    gradients: Tensors
    buffers: Tensors
    training: bool = True
    rows: int = 0
    noise: Tensors = field(default_factory=dict)


class Layer(ABC):
    """A part of K nets.  needs: whether anything before it has weights, and so wants to know a gradient."""

    needs: bool

    @abstractmethod
    def forward(self, nets: Nets, x: Tensor) -> tuple[Tensor, Back]:
        """(K, B', W'), and what makes of the loss's gradient by it that by x, and fills `nets.gradients` on the way."""


class Chain(Layer):
    """Layers in a row."""

    def __init__(self, parts: list[tuple[str, nn.Module]], needs: bool = False, width: int | None = None) -> None:
        self.needs, self.layers = needs, list[Layer]()
        while parts:
            name, module = parts.pop(0)
            if _is_linear(module):
                rectified = bool(parts) and type(parts[0][1]) is nn.ReLU
                if rectified:
                    parts.pop(0)
                self.layers.append(Linear(name, module, rectified, needs))
                width = module.out_features
            elif type(module) is nn.Dropout:
                self.layers.append(Dropout(name, needs))
            elif type(module) is Residual:
                self.layers.append(Block(name, module, needs, width))
            else:
                others = {name: module}
                while parts and not _by_hand(parts[0][1]):
                    others |= [parts.pop(0)]
                self.layers.append(Others(others, needs, width))
            needs = needs or next(module.parameters(), None) is not None

    def forward(self, nets: Nets, x: Tensor) -> tuple[Tensor, Back]:
        backs: list[tuple[Layer, Back]] = []
        for layer in self.layers:
            x, back = layer.forward(nets, x)
            backs.append((layer, back))

        def through_all(gradient: Tensor) -> Tensor:
            for layer, back in reversed(backs):
                gradient = back(gradient)
                if not layer.needs:
                    break
            return gradient

        return x, through_all


class Linear(Layer):
    """x Wᵀ + b, and relu of it.  One product a trial: over the columns of all, sums depend on how many there are."""

    def __init__(self, name: str, module: nn.Linear, rectified: bool, needs: bool) -> None:
        self.weight, self.bias = f"{name}weight", f"{name}bias" if module.bias is not None else None
        self.width, self.rectified, self.needs = module.in_features, rectified, needs

    def forward(self, nets: Nets, x: Tensor) -> tuple[Tensor, Back]:
        x, weight = x[..., : self.width], nets.weights[self.weight]
        if self.bias is None:
            made = torch.bmm(x, weight.transpose(1, 2))
        else:
            made = torch.baddbmm(nets.weights[self.bias].unsqueeze(1), x, weight.transpose(1, 2))
        if self.rectified:
            made.relu_()

        def back(gradient: Tensor) -> Tensor:
            if self.rectified:
                gradient = torch.ops.aten.threshold_backward(gradient, made, 0)
            torch.bmm(gradient.transpose(1, 2), x, out=nets.gradients[self.weight])
            if self.bias is not None:
                torch.sum(gradient, 1, out=nets.gradients[self.bias])
            return filled(torch.bmm(gradient, weight), 1, 2) if self.needs else gradient

        return made, back


class Dropout(Layer):
    """Srivastava et al. 2014, each trial with its own p."""

    def __init__(self, name: str, needs: bool) -> None:
        self.name, self.needs = name, needs

    def forward(self, nets: Nets, x: Tensor) -> tuple[Tensor, Back]:
        if not nets.training:
            return x, lambda gradient: gradient
        noise, p, scale = (nets.noise[f"{self.name}{what}"] for what in ("noise", "p", "scale"))
        by = filled(kept(noise, p.view(-1, 1, 1), scale.view(-1, 1, 1)), 1, 2)
        return x * by[..., : x.shape[2]], lambda gradient: gradient * by


class Block(Layer):
    """x + layers(x)."""

    def __init__(self, name: str, module: nn.Module, needs: bool, width: int | None) -> None:
        self.needs = needs
        self.layers = Chain([(f"{name}{own}.", each) for own, each in module.named_children()], needs, width)

    def forward(self, nets: Nets, x: Tensor) -> tuple[Tensor, Back]:
        made, back = self.layers.forward(nets, x)
        return filled(x, 1, 2) + made, lambda gradient: gradient + back(gradient)


class Others(Layer):
    """Modules of whatever kind, one after another; names as in the whole net, each with its dot."""

    def __init__(self, modules: dict[str, nn.Module], needs: bool, width: int | None) -> None:
        self.needs, self.width, self.net = needs, width, nn.Sequential(*modules.values())
        self.names = {
            f"{i}.{own}": f"{name}{own}"
            for i, (name, module) in enumerate(modules.items())
            for own in (*dict(module.named_parameters()), *dict(module.named_buffers()))
        }

    def forward(self, nets: Nets, x: Tensor) -> tuple[Tensor, Back]:
        self.net.train(nets.training)
        weights = {own: _own(nets.weights[self.names[own]], p).detach() for own, p in self.net.named_parameters()}
        given = x[:, : nets.rows, : self.width].detach()
        found = {**nets.buffers, **nets.noise}
        rest = {own: found[name] for own, name in self.names.items() if name in found}
        wanted = [*weights.values(), *([given] if self.needs else [])]
        with torch.set_grad_enabled(nets.training):
            for each in wanted:
                each.requires_grad_(nets.training)
            made = self._stacked(weights | rest, given)

        def back(gradient: Tensor) -> Tensor:
            found = torch.autograd.grad(made, wanted, gradient[:, : made.shape[1], : made.shape[2]])
            for own, each in zip(weights, found, strict=False):
                _own(nets.gradients[self.names[own]], each[0]).copy_(each)
            return filled(found[-1], 1, 2) if self.needs else gradient

        return filled(made.detach(), 1, 2), back

    def _stacked(self, own: dict[str, Tensor], x: Tensor) -> Tensor:
        def one(own: dict[str, Tensor], rows: Tensor) -> Any:
            return functional_call(self.net, own, (rows,))

        made: Tensor = vmap(one, randomness="error")(own, x)
        return made


def chain_of(net: nn.Module) -> Chain:
    """A net's layers; as one, where it is no row of layers that are known."""
    parts = [*_parts(net, "")]
    known = all(_by_hand(part) or type(part).__module__ in BETWEEN for _, part in parts)
    return Chain(parts if known else [("", net)])


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if type(module) in (MLP, nn.Sequential):
        for own, child in module.named_children():
            yield from _parts(child, f"{name}{own}.")
    elif type(module) is not nn.Identity:
        yield name, module


def _is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def _by_hand(module: nn.Module) -> bool:
    return _is_linear(module) or type(module) in (nn.Dropout, Residual)


def _own(each: Tensor, single: Tensor) -> Tensor:
    """(K, O', …) without what fills it up."""
    return each[:, : len(single)] if single.dim() else each
