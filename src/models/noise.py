"""Time-varying, non-zero-mean noise (Santurkar et al. 2018, Appendix A.2.1, Algorithm 1)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from src.models.clock import Clock, Key
from src.models.norms import but_units
from src.randomness import generator
from src.settings import NoiseSettings

_CELL = 2**-15  # the width of each of 65,536 equal cells of [-1, 1]
_BLOCK = 1 << 17  # numbers drawn by one stream: blocks fill in parallel, whatever the threads


@dataclass(frozen=True)
class NoiseShape:
    """The constants of Algorithm 1 and how its silent points are read.

    Attributes:
        n_mu: Unit means are uniform on [-n_mu, n_mu].
        n_sigma: Unit scales are uniform on [1, n_sigma].
        r_mu: Shifts are uniform within r_mu of the unit mean.
        r_sigma: Standard deviation of the scales about the unit scale.
        per_position: Draw afresh at every pixel (height and width count as batch), not once a
            sample and channel.
        relative: Disturb the unit as standardised over the batch, by its mean and standard
            deviation there, constants to the gradient.
        redrawn: Draw anew each step and at each pass of an evaluation, not once for all of them.
    """

    n_mu: float = 0.5
    n_sigma: float = 1.25
    r_mu: float = 0.1
    r_sigma: float = 0.1
    per_position: bool = True
    relative: bool = False
    redrawn: bool = True


def make_noise(settings: NoiseSettings, layer: int, clock: Clock) -> "Noise":
    """Return the noise of one layer; ``strength`` multiplies all by which it differs from none."""
    r_sigma = settings.r_sigma if settings.r_sigma_is == "std" else settings.r_sigma**0.5
    shape = NoiseShape(
        n_mu=settings.strength * settings.n_mu,
        n_sigma=1 + settings.strength * (settings.n_sigma - 1),
        r_mu=settings.strength * settings.r_mu,
        r_sigma=settings.strength * r_sigma,
        per_position=settings.per == "position",
        relative=settings.relative,
        redrawn=settings.redraw == "step",
    )
    return Noise(shape, layer, clock)


class Noise(nn.Module):
    """``a -> s * a + m``, drawn anew each step from the ``noise`` stream.

    For unit j, shared by the batch: mu_j ~ U(-n_mu, n_mu) and sigma_j ~ U(1, n_sigma). For
    sample i: m_ij ~ U(mu_j - r_mu, mu_j + r_mu), on the CPU at the middles of 65,536 equal cells,
    and s_ij ~ N(sigma_j, r_sigma). It acts in evaluation too.
    With ``expected`` set, m and s take their expectations, given mu_j and sigma_j where they are
    drawn but once; with ``off`` set, a passes unchanged.
    """

    def __init__(self, shape: NoiseShape, layer: int, clock: Clock) -> None:
        super().__init__()
        self.shape, self.layer, self.clock = shape, layer, clock
        self.expected = self.off = False
        self._drawn: tuple[object, ...] | None = None
        self._scale = self._shift = torch.empty(0)

    def forward(self, a: Tensor) -> Tensor:
        """Disturb a, [N, C] or [N, C, H, W]; what is drawn or relative, in at least float32.

        The draws are float32 in any precision, so a float64 probe measures the noise of the run.
        """
        if self.off:
            return a
        if not self.shape.relative:
            return self._disturbed(a)
        a = a.to(torch.promote_types(a.dtype, torch.float32))
        std, mean = torch.std_mean(a.detach(), but_units(a), correction=0, keepdim=True)
        return mean + self._disturbed(a - mean, std)

    def _disturbed(self, a: Tensor, unit: Tensor | None = None) -> Tensor:
        """Return s * a + m, the shifts in multiples of ``unit``."""
        if self.expected and self.shape.redrawn:
            return a * (1 + (self.shape.n_sigma - 1) / 2)
        a = a.to(torch.promote_types(a.dtype, torch.float32))
        drawn = self._of_units(self._key(), a) if self.expected else self.draw(a)
        scale, shift = (part.to(a.dtype) for part in drawn)
        return torch.addcmul(shift if unit is None else shift * unit, a, scale)

    @torch.inference_mode(False)  # buffers made in an evaluation must serve in training too
    @torch.no_grad()
    def draw(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return (s, m), float32, for activations like a; kept until step or layout changes."""
        key = self._key()
        wanted = (key, a.shape, a.stride(), a.device)
        if self._drawn != wanted:
            shape = self.shape
            scale, shift = self._of_units(key, a)
            like = a if shape.per_position else a.new_empty([*a.shape[:2], *scale.shape[2:]])
            if self._drawn is None or self._drawn[1:] != wanted[1:]:
                self._scale = torch.empty_like(like, dtype=torch.float32)
                self._shift = torch.empty_like(self._scale)
            self._drawn = None  # an interrupted fill must not pass for a finished one
            _fill(self._scale, self._shift, shape.r_sigma, key)
            self._scale += scale
            shift += shape.r_mu * _CELL / 2  # to the middle of the cell
            torch.add(shift, self._shift, alpha=shape.r_mu * _CELL, out=self._shift)
            self._drawn = wanted
        return self._scale, self._shift

    def _key(self) -> Key:
        clock = self.clock if self.shape.redrawn else Clock(self.clock.seed)
        return clock.key("noise", self.layer)

    def _of_units(self, key: Key, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma_j and mu_j, [1, C] or [1, C, 1, 1]."""
        units = [1, a.shape[1], *[1] * (a.dim() - 2)]
        stream = generator(*key, "unit", device=a.device)
        mu, sigma = torch.rand(2, *units, generator=stream, device=a.device, dtype=torch.float32)
        return 1 + (self.shape.n_sigma - 1) * sigma, self.shape.n_mu * (2 * mu - 1)


def _fill(normal: Tensor, cell: Tensor, std: float, key: Key) -> None:
    """Fill ``normal`` with N(0, std) and ``cell`` so that ``_CELL * (cell + 1/2)`` is U(-1, 1).

    On the CPU a cell has a whole number, and both are filled in the order of their storage; they
    have one layout.
    """
    if (
        normal.device.type != "cpu"
    ):  # alike in any layout: cuDNN has channels last, but not of float64
        stream = generator(*key, device=normal.device)
        drawn = torch.empty(normal.shape, device=normal.device)
        normal.copy_(drawn.normal_(0, std, generator=stream))
        cell.copy_(drawn.uniform_(-(2**15), 2**15, generator=stream).sub_(0.5))
        return
    z, u = (t.as_strided([t.numel()], [1]) for t in (normal, cell))
    words = torch.empty(-(-len(u) // 4), dtype=torch.int64)  # four cells in each

    def block(number: int) -> None:
        stream = generator(*key, number)
        z[number * _BLOCK :][:_BLOCK].normal_(0, std, generator=stream)
        words[number * _BLOCK // 4 :][: _BLOCK // 4].random_(-(2**63), None, generator=stream)

    list(_pool(torch.get_num_threads()).map(block, range(-(-len(z) // _BLOCK))))
    u.copy_(words.view(torch.int16)[: len(u)])


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="noise")
