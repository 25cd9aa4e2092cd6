"""Initial weights, each drawn from the ``init`` stream of its own name."""

from collections.abc import Callable

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
}


def initialise(network: nn.Module, seed: int, name: str, gain: float = 1.0) -> None:
    """Draw every convolution's and linear map's weight anew and set its bias to zero.

    The draw depends on (seed, parameter name) alone: variants that share a layer start equal.

    Args:
        network: Its norms keep gamma = 1 and beta = 0.
        seed: The run's seed.
        name: A key of ``DISTRIBUTIONS``.
        gain: A factor on every weight.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            DISTRIBUTIONS[name](module.weight, generator=generator(seed, "init", path + ".weight"))
            module.weight.data.mul_(gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
