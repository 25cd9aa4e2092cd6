"""VGG (Simonyan & Zisserman 2015) for 32x32 images and the variants of Santurkar et al. (2018)."""

from collections import OrderedDict

from torch import nn

from src.models.classifier import Classifier
from src.models.init import initialise
from src.models.moment import Dropout
from src.models.noise import Noise, NoiseShape
from src.models.norms import Affine, BatchNorm
from src.settings import Settings

# Convolutions by width between the five poolings: configurations A, B, D and E.
PLANS = {
    11: [[64], [128], [256, 256], [512, 512], [512, 512]],
    13: [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    16: [[64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3],
    19: [[64, 64], [128, 128], [256] * 4, [512] * 4, [512] * 4],
}
HEADS = {"linear": [], "512": [512, 512], "4096": [4096, 4096]}
ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class VGG(Classifier):
    """The standard network: nothing between a linear map and its non-linearity.

    Layers count from 1; convolution i is ``network.conv<i>``, linear map i ``network.linear<i>``.
    The variants override :meth:`between`.
    """

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__(settings, classes)
        model = settings.model
        activation = ACTIVATIONS[model.activation]
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        layer, inputs = 0, 3
        for stage, widths in enumerate(PLANS[model.depth], start=1):
            for width in widths:
                layer, units = layer + 1, max(1, round(width * model.width))
                between = self.between(layer, units, spatial=True)
                modules[f"conv{layer}"] = nn.Conv2d(
                    inputs, units, 3, padding=1, bias=not settings.variant.norm
                )
                modules |= between | {f"activation{layer}": activation()}
                inputs = units
            modules[f"pool{stage}"] = nn.MaxPool2d(2)
        modules["flatten"] = nn.Flatten()
        for units in HEADS[model.head]:
            layer += 1
            treated = model.normalise_head
            between = self.between(layer, units, spatial=False) if treated else {}
            modules[f"linear{layer}"] = nn.Linear(
                inputs, units, bias=not (settings.variant.norm and treated)
            )
            modules |= between | {f"activation{layer}": activation()}
            if model.dropout:
                modules[f"dropout{layer}"] = Dropout(model.dropout, layer, self.moment)
            inputs = units
        modules[f"linear{layer + 1}"] = nn.Linear(inputs, classes)
        self.network = nn.Sequential(modules)
        initialise(self.network, settings.seed, settings.init.name, settings.init.gain)

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return what stands between linear map ``layer`` and its non-linearity, by name."""
        return {}

    def _norm(self, units: int, spatial: bool, affine: bool) -> nn.Module:
        model = self.settings.model
        if model.batch_norm == "scratch":
            return BatchNorm(units, model.eps, model.momentum, affine)
        fused = nn.BatchNorm2d if spatial else nn.BatchNorm1d
        return fused(units, model.eps, model.momentum, affine)

    def _noise(self, layer: int) -> Noise:
        noise = self.settings.noise
        shape = NoiseShape(
            n_mu=noise.n_mu,
            n_sigma=noise.n_sigma,
            r_mu=noise.r_mu,
            r_sigma=noise.r_sigma if noise.r_sigma_is == "std" else noise.r_sigma**0.5,
            per_position=noise.per == "position",
        )
        return Noise(shape, layer, self.moment)


class VGGBatchNorm(VGG):
    """BatchNorm before every non-linearity, in place of the bias."""

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return BatchNorm."""
        return {f"norm{layer}": self._norm(units, spatial, self.settings.model.affine)}


class VGGNoisyBatchNorm(VGG):
    """The paper's "noisy BatchNorm": noise on what BatchNorm gives to the non-linearity."""

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return BatchNorm and noise, gamma and beta before the noise or after it."""
        affine = self.settings.model.affine
        noise = {f"noise{layer}": self._noise(layer)}
        if self.settings.noise.placement == "after_affine" or not affine:
            return {f"norm{layer}": self._norm(units, spatial, affine), **noise}
        norm = {f"norm{layer}": self._norm(units, spatial, affine=False)}
        return {**norm, **noise, f"affine{layer}": Affine(units)}


class VGGPlainNoisy(VGG):
    """The same noise at the same places of the standard network."""

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return noise."""
        return {f"noise{layer}": self._noise(layer)}
