"""What of a net cannot be stacked, and whether K copies of it are one net at all."""

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from alphard.packs import layers
from alphard.packs.loss import gradient, targets
from alphard.packs.stack import Stack

PLAIN = (int, float, str, bool, bytes, type(None), torch.dtype, torch.device, torch.Size)
CLOSE = 1e-3  # relative, of a stacked net's numbers to the net's own; a wrong one is off by far more
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Unpackable(Exception):
    """Why a config's trials train one at a time, as a clause.  path: the config path that is to blame."""

    def __init__(self, why: str, path: str) -> None:
        super().__init__(why)
        self.path = path


def structure(net: nn.Module) -> str:
    """A digest of all that must be equal for nets to stack: modules, their attributes, and shapes.

    A Dropout's p is none of it, for p stacks.  Raises Unpackable for modules that hold what no copy can share.
    """
    lines = [f"{name} {tuple(p.shape)} {p.dtype}" for name, p in net.named_parameters(remove_duplicate=False)]
    lines += [f"{name} {tuple(b.shape)} {b.dtype}" for name, b in net.named_buffers(remove_duplicate=False)]
    for name, module in net.named_modules():
        kind = type(module)
        if parametrize.is_parametrized(module):
            raise Unpackable(
                f"model.net holds a parametrization at {name or 'its root'}, which vmap cannot stack", "model.net"
            )
        if isinstance(module, nn.RNNBase):  # it keeps its weights in a list of its own, which no copy's would replace
            raise Unpackable(f"model.net holds a {kind.__name__}, which vmap cannot stack", "model.net")
        if any(getattr(module, hooks, None) for hooks in HOOKS):
            raise Unpackable(
                f"model.net has hooks at {name or 'its root'}, which would see all trials as one", "model.net"
            )
        lines.append(f"{name}: {kind.__module__}.{kind.__qualname__} {_attributes(module)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _attributes(module: nn.Module) -> str:
    own = {name: value for name, value in vars(module).items() if name not in _OF_TORCH}
    if type(module) is nn.Dropout:
        own.pop("p")
    return ", ".join(f"{name}={_said(own[name])}" for name in sorted(own))


_OF_TORCH = set(vars(nn.Module()))


def _said(value: Any) -> str:
    """Equal for equal values; for what cannot be compared, its own address, which no other has."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, list | tuple | set | frozenset):
        return f"{type(value).__name__}({', '.join(map(_said, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_said(k)}: {_said(v)}' for k, v in value.items())}}}"
    if isinstance(value, Tensor):
        return f"{value.dtype}{value.tolist()}"
    if callable(value) and hasattr(value, "__qualname__") and "<locals>" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}"
    return f"{type(value).__name__} at {id(value)}"


def must_stack(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, torch.Size]:
    """Raise Unpackable unless two nets like `net`, stacked, have the logits and gradients of each alone.

    x, y: some rows (B, F) and (B,).

    Returns the shape of a row at each dropout.
    """
    drops = layers.dropouts(net)
    shapes = _shapes_at(net, drops, x)
    before = structure(net)
    kept = {name: (p.detach().clone()) for name, p in net.state_dict().items()}
    rates = {name: module.p for name, module in drops.items()}
    try:
        for module in drops.values():
            module.p = 0.0
        _compare(net, x, y, shapes)
    finally:
        for name, module in drops.items():
            module.p = rates[name]
        net.load_state_dict(kept)
        net.zero_grad()
        net.train()
    if structure(net) != before:
        raise Unpackable("model.net changes its own attributes as it computes", "model.net")
    return shapes


def _shapes_at(net: nn.Module, drops: dict[str, nn.Dropout], x: Tensor) -> dict[str, torch.Size]:
    found: dict[str, list[torch.Size]] = {name: [] for name in drops}
    handles = [
        module.register_forward_pre_hook(lambda _, given, name=name: found[name].append(given[0].shape))
        for name, module in drops.items()
    ]
    try:
        with torch.no_grad():
            net.eval()(x)
    finally:
        for handle in handles:
            handle.remove()
    for name, shapes in found.items():
        if len(shapes) != 1 or shapes[0][0] != len(x):
            raise Unpackable(
                f"model.net calls its dropout {name} {len(shapes)} times, or not with rows first", "model.net"
            )
    return {name: shapes[0][1:] for name, shapes in found.items()}


def _compare(net: nn.Module, x: Tensor, y: Tensor, shapes: dict[str, torch.Size]) -> None:
    stack = Stack(net, (), x.device, x.dtype)
    stack.make_room(2)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    alone: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
    for row, factor in enumerate((1.0, 0.5)):
        net.load_state_dict(state)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(factor)
        net.train()
        stack.put(row, net)
        net.zero_grad()
        z = net(x)
        F.cross_entropy(z, y).backward()  # type: ignore[no-untyped-call]
        lost = [name for name, p in net.named_parameters() if p.grad is None]
        if lost:
            raise Unpackable(f"model.net never uses its {lost[0]}, which an optimizer leaves alone", "model.net")
        gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
        alone.append((z.detach(), net.eval()(x).detach(), gradients))
    nets, classes = stack.nets(2), alone[0][0].shape[-1]
    nets.noise = {f"{name}.noise": x.new_ones(2, len(x), *shape) for name, shape in shapes.items()}
    nets.noise |= {f"{name}.{what}": x.new_full((2,), what == "scale") for name in shapes for what in ("p", "scale")}
    rows = layers.filled(x, 0).expand(2, -1, -1)
    goal = targets(y, classes, rows.shape[1], x)
    try:
        with torch.no_grad():
            nets.rows = len(x)
            z, back = stack.logits(nets, rows, classes)
            back(gradient(z.log_softmax(1), goal))
            nets.training = False
            judged, _ = stack.logits(nets, rows, classes)
    except Exception as error:  # whatever vmap, or a module of the user's, finds to say
        said = str(error).strip().splitlines()
        raise Unpackable(
            f"vmap cannot stack model.net ({said[0][:120] if said else type(error).__name__})", "model.net"
        ) from error
    for row, (trained, validated, gradients) in enumerate(alone):
        pairs = [(z[row, :, : len(x)].T, trained), (judged[row, :, : len(x)].T, validated)]
        pairs += [(stack.parameters(2, "gradient")[name][row], single) for name, single in gradients.items()]
        if not all(_close(a, b) for a, b in pairs):
            raise Unpackable("model.net computes something else where two of it are stacked", "model.net")


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).norm() <= CLOSE * (b.norm() + 1e-3))
