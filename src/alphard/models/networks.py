"""Networks for rows.  Shapes: B rows in a batch, F features, C classes."""

from typing import Literal

from torch import Tensor, nn

from alphard.types import Count, Share

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
NORMALISATIONS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(nn.Module):
    """(B, F) -> (B, C) logits through fully connected layers.

    hidden:   widths of the hidden layers; an empty list is a linear model.
    dropout:  after each activation, in [0, 1).
    residual: add a hidden layer's input to its output where their widths agree.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: list[Count],
        activation: Literal["relu", "gelu", "silu", "tanh"] = "relu",
        dropout: Share = 0.0,
        normalisation: Literal["none", "batch", "layer"] = "none",
        residual: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width in zip([features, *hidden], hidden, strict=False):
            parts: list[nn.Module] = [nn.Linear(width_in, width)]
            if normalisation != "none":
                parts.append(NORMALISATIONS[normalisation](width))
            parts.append(ACTIVATIONS[activation]())
            if dropout:
                parts.append(nn.Dropout(dropout))
            layers += [Residual(*parts)] if residual and width_in == width else parts
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else features, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class Linear(nn.Linear):
    """(B, F) -> (B, C) logits: with cross-entropy, multinomial logistic regression."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)


class Residual(nn.Sequential):
    """(B, W) -> (B, W): layers in a row, and their input added to what they give."""

    def forward(self, x: Tensor) -> Tensor:
        changed = x
        for part in self:
            changed = part(changed)
        return x + changed
