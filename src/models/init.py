"""Initial weights, each drawn from the ``init`` stream of its own name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.randomness import generator

DISTRIBUTIONS: dict[str, Callable[..., Tensor]] = {
    "glorot_normal": nn.init.xavier_normal_,
    "glorot_uniform": nn.init.xavier_uniform_,
    "he_normal": lambda w, generator: nn.init.kaiming_normal_(
        w, nonlinearity="relu", generator=generator
    ),
    "he_uniform": lambda w, generator: nn.init.kaiming_uniform_(
        w, nonlinearity="relu", generator=generator
    ),
    "orthogonal": nn.init.orthogonal_,
    "gaussian": nn.init.normal_,
    "torch": lambda w, generator: nn.init.kaiming_uniform_(w, a=5**0.5, generator=generator),
    "unit_variance": nn.init.orthogonal_,
}


def initialise(
    network: nn.Module, seed: int, name: str, gain: float = 1.0, std: float = 0.01
) -> None:
    """Draw every convolution's and linear map's weight anew and set its bias to zero.

    The draw depends on (seed, parameter name) alone: variants that share a layer start equal.
    Torch's default draws the biases too. What :func:`scale_to_unit_variance` completes is
    orthogonal here.

    Args:
        network: Its norms keep gamma = 1 and beta = 0.
        seed: The run's seed.
        name: A key of ``DISTRIBUTIONS``.
        gain: A factor on every weight.
        std: The standard deviation of ``gaussian``, before the gain.
    """
    options = {"std": std} if name == "gaussian" else {}
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            stream = generator(seed, "init", path + ".weight")
            DISTRIBUTIONS[name](module.weight, generator=stream, **options)
            module.weight.data.mul_(gain)
            if module.bias is not None and name == "torch":
                bound = module.weight[0].numel() ** -0.5
                stream = generator(seed, "init", path + ".bias")
                nn.init.uniform_(module.bias, -bound, bound, generator=stream)
            elif module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def scale_to_unit_variance(network: nn.Sequential, inputs: Tensor, gain: float = 1.0) -> None:
    """Scale each layer's weight so that its outputs have variance 1 (Mishkin & Matas 2016).

    The variance is over all entries of the output, layer by layer, each behind those already
    scaled; with biases of 0 one division is exact. Norms, noise and dropout are passed over, so
    variants that share a seed start equal.

    Args:
        network: Its layers named as in ``src.models.vgg``.
        inputs: One batch, [N, ...], in any precision and on any device.
        gain: A factor on every weight, once all are scaled.

    Raises:
        ValueError: If a layer puts out the same value everywhere, which no scale can change.
    """
    inputs, maps = inputs.to(next(network.parameters())), []
    for name, module in network.named_children():
        if name.startswith(("norm", "affine", "noise", "dropout")):
            continue
        if isinstance(module, nn.Conv2d | nn.Linear):
            std = module(inputs).std(correction=0)
            if not std > 0:
                raise ValueError(f"init=unit_variance: the outputs of {name} have no variance")
            module.weight.div_(std)
            maps.append(module)
        inputs = module(inputs)
    for module in maps:
        module.weight.mul_(gain)
