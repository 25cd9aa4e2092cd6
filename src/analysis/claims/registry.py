"""Which function judges which claim."""

from collections.abc import Callable

from src.analysis.claims.verdict import Finding

Judge = Callable[..., Finding]
CLAIMS: dict[str, Judge] = {}


def claim(function: Judge) -> Judge:
    """Register a function as the claim it is named after; it takes the cells and the settings."""
    CLAIMS[function.__name__] = function
    return function
