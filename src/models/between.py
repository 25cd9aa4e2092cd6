"""What stands between a linear map and its non-linearity: one class a treatment, for any family."""

from torch import nn

from src.models.network import Network
from src.models.noise import Noise, NoiseShape
from src.models.norms import Affine, BatchNorm
from src.settings import ModelSettings


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
        noise = self.settings.noise
        shape = NoiseShape(
            n_mu=noise.n_mu,
            n_sigma=noise.n_sigma,
            r_mu=noise.r_mu,
            r_sigma=noise.r_sigma if noise.r_sigma_is == "std" else noise.r_sigma**0.5,
            per_position=noise.per == "position",
        )
        return {f"noise{layer}": Noise(shape, layer, self.moment)}


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


def make_norm(
    kind: str, model: ModelSettings, units: int, spatial: bool, affine: bool
) -> nn.Module:
    """Return a norm for [N, units, H, W] where ``spatial``, else for [N, units].

    Raises:
        NotImplementedError: There is no norm of this kind.
    """
    if kind != "batch":
        raise NotImplementedError(f"there is no norm {kind!r}: allowed is batch")
    if model.batch_norm == "scratch":
        return BatchNorm(units, model.eps, model.momentum, affine)
    fused = nn.BatchNorm2d if spatial else nn.BatchNorm1d
    return fused(units, model.eps, model.momentum, affine)
