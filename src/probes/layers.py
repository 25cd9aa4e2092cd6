"""Which parameters make a layer."""

from collections.abc import Sequence

from torch import nn

Layers = Sequence[Sequence[str]]


def default_layers(model: nn.Module) -> list[list[str]]:
    """Return the parameter names of each layer, the weight first, in the order of the modules.

    A layer is a convolution or linear map and what follows it up to the next one: its norm, for
    example. What comes before the first belongs to no layer, and a weight used in two places makes
    one layer, at the first.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    maps = [path for path, module in model.named_modules() if isinstance(module, kinds)]
    weights = {f"{path}.weight".lstrip(".") for path in maps}
    layers: list[list[str]] = []
    for name, _ in model.named_parameters():
        if name in weights:
            layers.append([name])
        elif layers:
            layers[-1].append(name)
    return layers
