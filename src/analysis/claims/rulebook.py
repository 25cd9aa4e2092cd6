"""The rules: what each claim says and when it holds, fixed before the runs."""

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("rules.yaml")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One claim, as ``rules.yaml`` has it.

    Attributes:
        id: The claim's.
        sentence: The claim in our words.
        source: Where it was made.
        sweep: The runs it needs.
        models: The variants it compares; the first is what the others are compared with.
        axes: The configuration keys that its runs differ in by design; any other is a reading.
        table: The probe whose table it needs; null: metrics alone.
        quantity: What is measured.
        rule: When it is supported and when contradicted.
        settings: The numbers it is judged by, given to its function; by scale where they are.
        defaults: The main reading of each key that its runs may differ in.
        needed: Of these the claim's own of its probe: runs of other sweeps must have them.
        measured: Readings of the same runs, the main one first.
        confirmatory: Whether it is in the Holm family.
        paper: The paper's own number.
        would_change: What would change our mind.
        figure: The figure that shows it.
        fixed: When it was fixed, in seconds since 1970.
    """

    id: str
    sentence: str
    source: str
    sweep: str
    models: list[str]
    axes: list[str]
    table: str | None
    quantity: str
    rule: str
    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]
    needed: Mapping[str, Any]
    measured: list[dict[str, str]]
    confirmatory: bool
    paper: str | None
    would_change: str
    figure: str
    fixed: float

    def at(self, scale: str) -> dict[str, Any]:
        """Return the settings at a scale."""
        return {name: _at(value, scale) for name, value in self.settings.items()}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What ``rules.yaml`` holds.

    Attributes:
        hash: Of the file; each report prints it.
        fixed: When the file was fixed.
        level: Of the intervals.
        seeds: Fewer pairs are inconclusive.
        scales: From the smallest to the largest.
        chance: The accuracy of a net that has learnt nothing; a diverged run counts as that.
        trains: The final training accuracy from which a net counts as training, by scale.
        images: How many an accuracy is taken of: seeds that agree better than that can tell are
            not taken to.
        machine: The columns that make a kind of machine; pairs are never made across.
        defaults: The main reading of each key that runs may differ in; a claim may have its own.
        claims: By id.
    """

    hash: str
    fixed: datetime.datetime
    level: float
    seeds: int
    scales: list[str]
    chance: float
    trains: Mapping[str, float]
    images: int
    machine: list[str]
    defaults: Mapping[str, Any]
    claims: Mapping[str, Rule]


@cache
def rules() -> Rules:
    """Return the rules."""
    text = FILE.read_bytes()
    content = yaml.load(text, yaml.CSafeLoader)
    fixed = content.pop("fixed")
    claims = {}
    for name, entries in content.pop("claims").items():
        own_probe = f"probes.{entries.get('table')}."
        peculiar = entries.get("defaults", {})
        usual = content["defaults"] | peculiar
        entries["needed"] = {k: v for k, v in peculiar.items() if k.startswith(own_probe)}
        entries["defaults"] = {
            key: value
            for key, value in usual.items()
            if key.startswith(own_probe) or not key.startswith("probes.")
        }
        own = entries.pop("fixed", fixed).timestamp()
        claims[name] = Rule(id=name, fixed=own, **_ABSENT | entries)
    return Rules(hash=hashlib.sha256(text).hexdigest()[:12], fixed=fixed, claims=claims, **content)


_ABSENT: dict[str, Any] = {
    "axes": ["optim.lr"],
    "table": None,
    "settings": {},
    "measured": [{}],
    "confirmatory": False,
    "paper": None,
}


def _at(value: Any, scale: str) -> Any:
    by_scale = isinstance(value, dict) and set(value) <= set(rules().scales)
    return value[scale] if by_scale else value
