"""Which function judges which claim."""

from collections.abc import Callable

from src.analysis.claims.verdict import Finding

Judge = Callable[..., Finding]
CLAIMS: dict[str, Judge] = {}


def claim(function: Judge, *names: str) -> Judge:
    """Register what judges some claims, by default the one it is named after.

    It takes the cells and the rule's settings.
    """
    CLAIMS.update(dict.fromkeys(names or [function.__name__], function))
    return function
