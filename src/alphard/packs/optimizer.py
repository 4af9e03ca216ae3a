"""torch.optim's update rules over one matrix, a row a trial.  Shapes: K trials, P parameters of one.

Weights, gradients and states are (K, P); what a trial chooses is a column (K, 1), which broadcasts.  So a rule costs
the launches of one trial, and each is the formula of the class in torch.optim that it is named after.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Columns = dict[str, Tensor]  # by name, (K, 1), for one step
SMALLEST = 1e-30  # a rate of 0, which divides; what it adds to a weight is nothing


class Stacked(ABC):
    """One step of K optimizers.

    states:  the names of what it keeps of each weight.
    choices: what of a param_group it reads beside lr and weight_decay.
    """

    states: tuple[str, ...]
    choices: tuple[str, ...]

    @abstractmethod
    def _columns(self, group: Mapping[str, Tensor], t: Tensor) -> Columns:
        """(S, K, 1) from the choices (K, 1), and t (S, K, 1), the numbers of the steps, from 1."""

    @abstractmethod
    def step(self, weights: Tensor, gradient: Tensor, states: Mapping[str, Tensor], by: Columns, spare: Tensor) -> None:
        """Change `weights` and `states` in place; `gradient` and `spare`, (K, P) too, are overwritten."""

    def columns(
        self, groups: Sequence[Mapping[str, Any]], taken: Sequence[int], steps: int, like: Tensor
    ) -> list[Columns]:
        """What the next `steps` steps of each trial need, made in float64, as torch.optim does.

        groups: each trial's param_group.
        taken:  how many steps each has behind it.
        """
        names = {"lr", "weight_decay", *self.choices}
        group = {name: torch.tensor([_numbers(g, name) for g in groups], dtype=torch.float64) for name in names}
        group = {name: values.unsqueeze(1) for name, values in group.items()}
        t = torch.tensor(taken, dtype=torch.float64).view(1, -1, 1) + torch.arange(1, steps + 1).view(-1, 1, 1)
        made = {name: column.expand(*t.shape).to(like) for name, column in self._columns(group, t).items()}
        return [{name: column[s] for name, column in made.items()} for s in range(steps)]


def _numbers(group: Mapping[str, Any], name: str) -> float:
    if name in ("beta1", "beta2"):
        return float(group["betas"][name == "beta2"])
    return float(group[name])


class AdamW(Stacked):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101, algorithm 2)."""

    states = ("first", "second")
    choices = ("beta1", "beta2", "eps")

    def _columns(self, group: Mapping[str, Tensor], t: Tensor) -> Columns:
        rate = (group["lr"] / (1 - group["beta1"] ** t)).clamp(min=SMALLEST)
        root = (1 - group["beta2"] ** t).sqrt()
        return {
            "kept": 1 - group["lr"] * group["weight_decay"],
            "decay": group["weight_decay"],
            "first": 1 - group["beta1"],
            "beta2": group["beta2"],  # 0.999 in float32 is 1e-8 off, and so is torch.optim's
            "second": 1 - group["beta2"],
            "scale": 1 / (root * rate),
            "eps": group["eps"] / rate,
        }

    def step(self, weights: Tensor, gradient: Tensor, states: Mapping[str, Tensor], by: Columns, spare: Tensor) -> None:
        weights.mul_(by["kept"])
        self._move(weights, gradient, states, by, spare)

    def _move(
        self, weights: Tensor, gradient: Tensor, states: Mapping[str, Tensor], by: Columns, spare: Tensor
    ) -> None:
        """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980): θ -= lr/(1-β₁ᵗ) m / (√v/√(1-β₂ᵗ) + ε).

        The rate goes into the denominator, as in torch.optim's capturable form, for a column is no scalar argument.
        """
        first, second = states["first"], states["second"]
        first.lerp_(gradient, by["first"])
        second.mul_(by["beta2"]).addcmul_(torch.mul(gradient, by["second"], out=spare), gradient)
        torch.sqrt(second, out=spare)
        weights.addcdiv_(first, torch.addcmul(by["eps"], spare, by["scale"], out=spare), value=-1)


class Adam(AdamW):
    """Adam with weight decay as an L2 term in the gradient (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980)."""

    def step(self, weights: Tensor, gradient: Tensor, states: Mapping[str, Tensor], by: Columns, spare: Tensor) -> None:
        gradient.addcmul_(weights, by["decay"])
        self._move(weights, gradient, states, by, spare)


class SGD(Stacked):
    """Gradient descent with momentum (Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html).

    As torch.optim writes it: b = μ b + (1-τ) g, whose first b is g, then θ -= lr b.  A trial without momentum has μ = 0
    and no dampening τ.
    """

    states = ("momentum",)
    choices = ("momentum", "dampening")

    def _columns(self, group: Mapping[str, Tensor], t: Tensor) -> Columns:
        plain = (t == 1) | (group["momentum"] == 0)
        return {
            "decay": group["weight_decay"],
            "momentum": group["momentum"],
            "new": torch.where(plain, 1.0, 1 - group["dampening"]),
            "rate": group["lr"],
        }

    def step(self, weights: Tensor, gradient: Tensor, states: Mapping[str, Tensor], by: Columns, spare: Tensor) -> None:
        gradient.addcmul_(weights, by["decay"])
        momentum = states["momentum"].mul_(by["momentum"]).addcmul_(gradient, by["new"])
        weights.addcmul_(self._direction(gradient, momentum, by), by["rate"], value=-1)

    def _direction(self, gradient: Tensor, momentum: Tensor, by: Columns) -> Tensor:
        return momentum


class Nesterov(SGD):
    """SGD that looks ahead: θ -= lr (g + μ b), Sutskever et al. 2013, section 2."""

    def _direction(self, gradient: Tensor, momentum: Tensor, by: Columns) -> Tensor:
        return gradient.addcmul_(momentum, by["momentum"])


KINDS: dict[str, Stacked] = {"AdamW": AdamW(), "Adam": Adam(), "SGD": SGD(), "SGD with Nesterov": Nesterov()}
