"""What a setting may be: a predicate on the field of a dataclass, and the words that say it."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Range(NamedTuple):
    """A predicate on a value and the words that say what it allows."""

    holds: Callable[[Any], bool]
    allowed: str


_WORDS = {
    bool: "true or false",
    str: "text",
    str | None: "text or null",
    list[str]: "a list of words",
}


def ranged(holds: Callable[[Any], bool], allowed: str) -> Any:
    """Return a field whose values are those for which ``holds`` is true."""
    return dataclasses.field(metadata={"range": Range(holds, allowed)})


def at_least(low: float) -> Any:
    """Return a field of finite numbers from ``low``."""
    return ranged(lambda v: math.isfinite(v) and v >= low, f"a number of at least {low}")


def above(low: float) -> Any:
    """Return a field of finite numbers above ``low``."""
    return ranged(lambda v: math.isfinite(v) and v > low, f"a number above {low}")


def whole(low: int) -> Any:
    """Return a field of whole numbers from ``low``."""
    return ranged(lambda v: v >= low, f"a whole number of at least {low}")


def one_of(*values: object) -> Any:
    """Return a field of one of these values."""
    return ranged(lambda v: v in values, "one of " + ", ".join(map(str, values)))


def list_of(*values: object) -> Any:
    """Return a field of lists of these values."""
    allowed = "a list of " + ", ".join(map(str, values))
    return ranged(lambda given: all(v in values for v in given), allowed)


def list_above(low: float, what: str = "numbers") -> Any:
    """Return a field of lists of finite numbers above ``low``."""
    allowed = f"a list of {what} above {low}"
    return ranged(lambda given: all(math.isfinite(v) and v > low for v in given), allowed)


def fields(kind: Any) -> dict[str, Any]:
    """Return the fields, by name, of a kind of settings and of all kinds derived from it."""
    found = {field.name: field for field in dataclasses.fields(kind)}
    for derived in kind.__subclasses__():
        found |= fields(derived)
    return found


def allowed(kind: Any, path: str) -> str | None:
    """Say what a kind's setting ``path``, as ``optim.lr``, may be; None where there is none."""
    span = None
    for name in path.split("."):
        field = fields(kind).get(name) if dataclasses.is_dataclass(kind) else None
        if field is None:
            return None
        kind, span = field.type, field.metadata.get("range")
    return span.allowed if span else _WORDS.get(kind)


def outside(settings: Any, prefix: str = "") -> Iterator[str]:
    """Yield a line for each value outside its range."""
    for field in dataclasses.fields(settings):
        value, path = getattr(settings, field.name), prefix + field.name
        span = field.metadata.get("range")
        if dataclasses.is_dataclass(value):
            yield from outside(value, path + ".")
        elif span and not span.holds(value):
            yield f"{path}={value}: allowed is {span.allowed}"
