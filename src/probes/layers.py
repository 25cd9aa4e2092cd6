"""Which parameters make a layer."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

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


def scales(params: Mapping[str, Tensor], layers: Layers) -> dict[str, Tensor]:
    """Return D of the relative metric: for each parameter the norm of its layer's weight.

    A parameter of no layer has its own norm.
    """
    norms = {name: value.norm() for name, value in params.items()}
    owner = {name: layer[0] for layer in layers for name in layer}
    return {name: norms[owner.get(name, name)] for name in params}
