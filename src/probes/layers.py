"""Which parameters make a layer."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

Layers = Sequence[Sequence[str]]


def default_layers(model: nn.Module) -> list[list[str]]:
    """Return the parameter names of each layer, the weight first, in the order of the modules.

    A layer is a convolution or linear map and what follows it up to the next one: its norm, for
    example. What comes before the first belongs to no layer, and a weight used in two places makes
    one layer, at the first.

    Raises:
        ValueError: If a map's weight is no parameter, but computed from others.
    """
    kinds = (_ConvNd, nn.Linear)
    maps = {path: m for path, m in model.named_modules() if isinstance(m, kinds)}
    for path, module in maps.items():
        if not isinstance(module.weight, nn.Parameter):
            told = "its weight is no parameter, but computed from others: say what the layers are"
            raise ValueError(f"{path or type(module).__name__}: {told}")
    weights = {id(module.weight) for module in maps.values()}
    layers: list[list[str]] = []
    for name, parameter in model.named_parameters():
        if id(parameter) in weights:
            layers.append([name])
        elif layers:
            layers[-1].append(name)
    return layers
