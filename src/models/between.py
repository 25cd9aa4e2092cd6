"""What stands between a linear map and its non-linearity: one class a treatment, for any family."""

from torch import nn

from src.models.network import Network
from src.models.noise import make_noise
from src.models.norms import Affine, make_norm


class Normalised(Network):
    """The variant's norm, in place of the bias."""

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return the norm."""
        return self._norm(layer, units, spatial, self.settings.model.affine)

    def _norm(self, layer: int, units: int, spatial: bool, affine: bool) -> dict[str, nn.Module]:
        kind = str(self.settings.variant.norm)
        return {f"norm{layer}": make_norm(kind, self.settings.model, units, spatial, affine)}


class Noisy(Network):
    """Noise."""

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return noise."""
        return {f"noise{layer}": make_noise(self.settings.noise, layer, self.clock)}


class NormalisedNoisy(Normalised, Noisy):
    """Noise on what the norm gives to the non-linearity."""

    def between(self, layer: int, units: int, spatial: bool) -> dict[str, nn.Module]:
        """Return norm and noise, gamma and beta before the noise or after it."""
        affine = self.settings.model.affine
        noise = Noisy.between(self, layer, units, spatial)
        if self.settings.noise.placement == "after_affine" or not affine:
            return self._norm(layer, units, spatial, affine) | noise
        norm = self._norm(layer, units, spatial, affine=False)
        return norm | noise | {f"affine{layer}": Affine(units)}
