"""Named random streams: each a function of (seed, purpose, index) alone.

No stream reads another's state and none reads torch's global one, so variants with one seed are
paired, a probe changes nothing, and a resumed run draws what an uninterrupted one would have drawn.
"""

import hashlib

import torch


def generator(
    seed: int, purpose: str, *index: int | str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a fresh generator for one stream.

    Purposes in use: ``init`` (by parameter name), ``order`` (by epoch), ``augment`` (by step),
    ``noise`` (by step, layer), ``noise_eval`` (by step, layer, batch, pass), ``dropout`` (by step,
    layer), ``data``, ``probe``. Torch's CPU generator keeps the low 32 bits of the 63-bit seed.
    """
    key = repr((seed, purpose, *index)).encode()
    digest = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
    return torch.Generator(device=device).manual_seed(digest >> 1)
