"""What a command asks of a run's probes, and whether a run has it."""

import dataclasses
import math
from typing import Any

from src.catalogue import PROBES
from src.settings import Settings

Needs = dict[str, dict[str, Any]]


def needs(settings: Settings) -> Needs:
    """Return, by probe a command asks for, its cadence and the settings it heeds."""
    asked = dataclasses.asdict(settings.probes)
    return {
        probe: {key: asked[key] for key in ("every", *PROBES[probe])} for probe in asked["which"]
    }


def met(have: Needs, wanted: Needs) -> bool:
    """Tell whether a run that holds ``have`` serves a command that asks for ``wanted``.

    It does where it looked as often and more, at as many metrics, directions, layers and units of
    the activations and more; all else must be equal.
    """
    return all(
        probe in have and _serves(probe, have[probe], asked) for probe, asked in wanted.items()
    )


def merged(have: Needs, wanted: Needs) -> Needs:
    """Return what serves both; where two settings of a probe exclude each other, the wanted."""
    both = dict(have)
    for probe, asked in wanted.items():
        old = have.get(probe, asked)
        joined = {key: _joined(probe, key, old.get(key), value) for key, value in asked.items()}
        both[probe] = joined if _serves(probe, joined, old) else joined | {"every": asked["every"]}
    return both


def _serves(probe: str, have: dict[str, Any], asked: dict[str, Any]) -> bool:
    return all(
        _joined(probe, key, have.get(key), value) == have.get(key) for key, value in asked.items()
    )


def _joined(probe: str, key: str, have: Any, asked: Any) -> Any:
    """Return the least that serves both values of a setting; where nothing does, the asked."""
    match key:
        case _ if have is None:
            return asked
        case "every":
            return math.gcd(have, asked)
        case "metrics" | "directions":
            return list(dict.fromkeys([*have, *asked]))
        case "layers" if have and asked:
            return list(dict.fromkeys([*have, *asked]))
        case "layers" if probe != "activations":  # one of them is []: all; there, all but the last
            return []
        case "units" if probe == "activations":  # the first of one permutation
            return max(have, asked)
    return asked
