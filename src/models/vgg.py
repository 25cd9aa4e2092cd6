"""VGG (Simonyan & Zisserman 2015) for 32x32 images and the variants of Santurkar et al. (2018)."""

from collections import OrderedDict

from torch import nn

from src.models.between import Noisy, Normalised, NormalisedNoisy
from src.models.dropout import Dropout
from src.models.network import ACTIVATIONS, Classifier
from src.settings import Settings, VGGSettings

# Convolutions by width between the five poolings: configurations A, B, D and E.
PLANS = {
    11: [[64], [128], [256, 256], [512, 512], [512, 512]],
    13: [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    16: [[64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3],
    19: [[64, 64], [128, 128], [256] * 4, [512] * 4, [512] * 4],
}
HEADS = {"linear": [], "512": [512, 512], "4096": [4096, 4096]}


class VGG(Classifier):
    """The standard network: nothing between a linear map and its non-linearity."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__(settings, classes)
        model = settings.model
        assert isinstance(model, VGGSettings)
        activation = ACTIVATIONS[model.activation]
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        normed = settings.variant.norm is not None
        layer, inputs = 0, 3
        for stage, widths in enumerate(PLANS[model.depth], start=1):
            for width in widths:
                layer, units = layer + 1, max(1, round(width * model.width))
                between = self.between(layer, units, spatial=True)
                modules[f"conv{layer}"] = nn.Conv2d(inputs, units, 3, padding=1, bias=not normed)
                modules |= between | {f"activation{layer}": activation()}
                inputs = units
            modules[f"pool{stage}"] = nn.MaxPool2d(2)
        modules["flatten"] = nn.Flatten()
        for units in HEADS[model.head]:
            layer += 1
            treated = model.normalise_head
            between = self.between(layer, units, spatial=False) if treated else {}
            modules[f"linear{layer}"] = nn.Linear(inputs, units, bias=not (normed and treated))
            modules |= between | {f"activation{layer}": activation()}
            if model.dropout:
                modules[f"dropout{layer}"] = Dropout(model.dropout, layer, self.clock)
            inputs = units
        modules[f"linear{layer + 1}"] = nn.Linear(inputs, classes)
        self.assemble(modules)


class VGGBatchNorm(Normalised, VGG):
    """BatchNorm before every non-linearity."""


class VGGNoisyBatchNorm(NormalisedNoisy, VGG):
    """The paper's "noisy BatchNorm": noise after BatchNorm."""


class VGGPlainNoisy(Noisy, VGG):
    """The same noise at the same places of the standard network."""


class VGGL1(Normalised, VGG):
    """Normalisation by the mean absolute value."""


class VGGL2(Normalised, VGG):
    """Normalisation by the root of the mean square."""


class VGGLInf(Normalised, VGG):
    """Normalisation by the largest absolute value."""


class VGGLayerNorm(Normalised, VGG):
    """Layer normalisation."""


class VGGGroupNorm(Normalised, VGG):
    """Group normalisation."""


class VGGInstanceNorm(Normalised, VGG):
    """Instance normalisation."""
