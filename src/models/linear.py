"""The deep linear network (Santurkar et al. 2018, Appendix A.1) and its variants."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from src.models.between import Noisy, Normalised, NormalisedNoisy
from src.models.network import Network
from src.settings import LinearSettings, Settings


class DeepLinear(Network):
    """A product of square matrices, [N, dimension] to the same: no bias, no non-linearity.

    What a variant adds stands after every layer but the last, or with ``model.normalise_last``
    after all.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        model = settings.model
        assert isinstance(model, LinearSettings)
        self.reduction = model.loss
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for layer in range(1, model.layers + 1):
            modules[f"linear{layer}"] = nn.Linear(model.dimension, model.dimension, bias=False)
            if layer < model.layers or model.normalise_last:
                modules |= self.between(layer, model.dimension, spatial=False)
        self.assemble(modules)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of outputs and targets, both [N, dimension].

        It is summed over the coordinates and over the batch, as ``model.loss`` says: ``half_sum``
        is half of it, ``mean`` its mean over the batch. The paper gives the sum over the
        coordinates; only a sum over the batch too makes its rate of 1e-6 train.
        """
        wide = torch.promote_types(output.dtype, torch.float32)
        total = (output.to(wide) - target.to(wide)).square().sum()
        return total * {"half_sum": 0.5, "sum": 1.0, "mean": 1 / len(output)}[self.reduction]


class DeepLinearBatchNorm(Normalised, DeepLinear):
    """BatchNorm between the layers."""


class DeepLinearNoisyBatchNorm(NormalisedNoisy, DeepLinear):
    """Noise after BatchNorm."""


class DeepLinearPlainNoisy(Noisy, DeepLinear):
    """The same noise at the same places without BatchNorm."""


class DeepLinearL1(Normalised, DeepLinear):
    """Normalisation by the mean absolute value."""


class DeepLinearL2(Normalised, DeepLinear):
    """Normalisation by the root of the mean square."""


class DeepLinearLInf(Normalised, DeepLinear):
    """Normalisation by the largest absolute value."""
