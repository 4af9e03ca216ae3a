"""Layers of a pack by hand: the logits and gradients of each net alone, whatever the net is made of."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alphard.models import MLP
from alphard.models.networks import Residual
from alphard.packs import chain
from alphard.packs.chain import Chain
from alphard.packs.layers import filled
from alphard.packs.loss import gradient, targets
from alphard.packs.stack import Stack

FEATURES, CLASSES, ROWS = 7, 3, 21


class Own(nn.Module):
    """A form that no row of layers has."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.shortcut = nn.Linear(FEATURES, 5), nn.Linear(FEATURES, CLASSES)
        self.out = nn.Linear(5, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).sin()) + self.shortcut(x)


def own_forward() -> nn.Module:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    return nn.Sequential(Doubled(FEATURES, 5), nn.ReLU(), nn.Linear(5, CLASSES))


NETS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(FEATURES, CLASSES),
    "mlp": lambda: MLP(FEATURES, CLASSES, [13, 6]),
    "no bias": lambda: nn.Sequential(nn.Linear(FEATURES, 9, bias=False), nn.ReLU(), nn.Linear(9, CLASSES, bias=False)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(FEATURES, 16), nn.Identity(), nn.Tanh()), nn.Sequential(nn.Linear(16, CLASSES))
    ),
    "norm first": lambda: nn.Sequential(nn.LayerNorm(FEATURES), nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 3)),
    "norms": lambda: MLP(FEATURES, CLASSES, [13, 6], activation="gelu", normalisation="batch"),
    "activation first": lambda: nn.Sequential(nn.PReLU(), nn.Sigmoid(), nn.Linear(FEATURES, CLASSES)),
    "activation last": lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Softplus()),
    "residual": lambda: MLP(FEATURES, CLASSES, [13, 13, 13], residual=True, normalisation="layer"),
    "residual first": lambda: nn.Sequential(
        Residual(nn.Linear(FEATURES, FEATURES), nn.ReLU()), nn.Linear(FEATURES, CLASSES)
    ),
    "own": Own,
    "own forward": own_forward,
}


@pytest.mark.parametrize("name", NETS)
def test_logits_and_gradients_are_those_of_each_net_alone(name: str) -> None:
    torch.manual_seed(0)
    nets = [NETS[name]().double().train() for _ in range(3)]
    x, y = torch.randn(ROWS, FEATURES, dtype=torch.float64), torch.randint(CLASSES, (ROWS,))
    stack = Stack(nets[0], (), x.device, x.dtype)
    stack.make_room(3)
    for row, net in enumerate(nets):
        stack.put(row, net)
    rows, given = filled(x, 0), stack.nets(3)
    given.rows = ROWS
    with torch.no_grad():
        z, back = stack.logits(given, rows.expand(3, -1, -1), CLASSES)
        back(gradient(z.log_softmax(1), targets(y, CLASSES, len(rows), x)))
    for row, net in enumerate(nets):
        alone = net(x)
        F.cross_entropy(alone, y).backward()
        torch.testing.assert_close(z[row, :, :ROWS].T, alone.detach(), rtol=1e-12, atol=1e-12)
        for each, parameter in net.named_parameters():
            found = stack.parameters(3, "gradient")[each][row]
            torch.testing.assert_close(found, parameter.grad, rtol=1e-11, atol=1e-13, msg=lambda m, e=each: f"{e}: {m}")
    filling = stack.tables["gradient"].clone()
    for name_, (start, stop, _) in stack.columns.items():
        assert filling[:, start:stop].any(), name_
        filling[:, start:stop] = 0
    assert not filling.any(), "what fills up learns nothing"


def test_what_a_search_varies_most_needs_neither_vmap_nor_autograd() -> None:
    net = MLP(FEATURES, CLASSES, [16, 16, 8], dropout=0.2, residual=True)
    stack = Stack(net, (), torch.device("cpu"), torch.float32)

    def kinds(layers: Chain) -> set[type]:
        return {
            kind
            for each in layers.layers
            for kind in (kinds(each.layers) if type(each) is chain.Block else {type(each)})
        }

    assert kinds(stack.chain) == {chain.Linear, chain.Dropout}


def test_nothing_before_the_first_weights_is_asked_for_a_gradient() -> None:
    stack = Stack(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), (), torch.device("cpu"), torch.float32)
    assert [each.needs for each in stack.chain.layers] == [False, False]
