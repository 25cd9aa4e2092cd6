"""What a command asks of a run's probes, and whether a run has it."""

import dataclasses
import math
from typing import Any

from src.settings import PROBES, Settings

Needs = dict[str, dict[str, Any]]

_OWN_ROWS = ("metrics", "directions")  # lists: each entry has rows of its own


def needs(settings: Settings) -> Needs:
    """Return, by probe a command asks for, its cadence and the settings it heeds."""
    asked = dataclasses.asdict(settings.probes)
    return {
        probe: {key: asked[key] for key in ("every", *PROBES[probe])} for probe in asked["which"]
    }


def met(have: Needs, wanted: Needs) -> bool:
    """Tell whether a run that holds ``have`` serves a command that asks for ``wanted``.

    A cadence serves another that is a multiple of it; several metrics or directions serve some of
    them; all else must be equal.
    """
    return all(probe in have and _serves(have[probe], asked) for probe, asked in wanted.items())


def merged(have: Needs, wanted: Needs) -> Needs:
    """Return what serves both; where two settings of a probe exclude each other, the wanted."""
    both = dict(have)
    for probe, asked in wanted.items():
        old = have.get(probe, asked)
        held = old | {"every": math.gcd(asked["every"], old["every"])}
        rows = {
            key: list(dict.fromkeys([*old.get(key, []), *asked[key]]))
            for key in _OWN_ROWS
            if key in asked
        }
        both[probe] = (held if _serves(held | rows, asked) else asked) | rows
    return both


def _serves(have: dict[str, Any], asked: dict[str, Any]) -> bool:
    free = {"every", *(k for k in _OWN_ROWS if set(asked.get(k, ())) <= set(have.get(k, ())))}
    held, wanted = ({k: v for k, v in side.items() if k not in free} for side in (have, asked))
    return asked["every"] % have["every"] == 0 and held == wanted
