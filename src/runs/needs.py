"""What a command asks of a run's probes, and whether a run has it."""

import dataclasses
import math
from typing import Any

from src.settings import Settings

Needs = dict[str, dict[str, Any]]


def needs(settings: Settings) -> Needs:
    """Return the settings of each probe a command asks for, by probe."""
    asked = dataclasses.asdict(settings.probes)
    return {probe: asked for probe in asked.pop("which")}


def met(have: Needs, wanted: Needs) -> bool:
    """Tell whether a run that holds ``have`` serves a command that asks for ``wanted``.

    A cadence serves another that is a multiple of it; all else must be equal.
    """
    return all(probe in have and _serves(have[probe], asked) for probe, asked in wanted.items())


def merged(have: Needs, wanted: Needs) -> Needs:
    """Return what serves both; where two settings of a probe exclude each other, the wanted."""
    both = dict(have)
    for probe, asked in wanted.items():
        every = math.gcd(asked["every"], have.get(probe, asked)["every"])
        held = have.get(probe, asked) | {"every": every}
        both[probe] = held if _serves(held, asked) else asked
    return both


def _serves(have: dict[str, Any], asked: dict[str, Any]) -> bool:
    return asked["every"] % have["every"] == 0 and have | {"every": asked["every"]} == asked
