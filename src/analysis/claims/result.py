"""What is found of a claim, as the page, ``claims.json`` and ``claims.csv`` show it."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from src.analysis.statistics import Bound

Verdict = Literal["supported", "contradicted", "mixed", "inconclusive", "not run"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Component:
    """One part of a claim: a site, a rate, a level, a window of training.

    Attributes:
        label: Which.
        effect_label: What the effect is, such as "ratio of steps, BatchNorm / standard".
        effect: Null where nothing could be measured.
        interval: 95 %; null where there is no spread to judge by. In files an infinite effect or
            end is null, too.
        bound: Where runs were censored, what the effect is of the true one.
        seeds: Paired seeds behind it.
        p: Of the test its verdict rests on.
        verdict: By itself.
        values: The effect at each seed alone.
    """

    label: str
    effect_label: str
    effect: float | None
    interval: Interval | None
    bound: Bound | None
    seeds: int
    p: float | None
    verdict: Verdict
    values: Mapping[int, float] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Which part, and what its effect is."""
        return ": ".join(filter(None, (self.label, self.effect_label)))


class _Parted:
    whole: Component | None
    components: list[Component]

    @property
    def judged(self) -> list[Component]:
        """All that was judged, the whole first."""
        return [*([self.whole] if self.whole else []), *self.components]


@dataclass(frozen=True)
class Reading(_Parted):
    """The verdict under one reading of what the paper leaves open.

    Attributes:
        reading: What tells it from the others.
        label: The part whose numbers these are.
        verdict: Of the claim, so read.
        effect: Of that part, and so are ``interval``, ``bound`` and ``seeds``.
        whole: As a :class:`Result`'s.
        components: The parts of the claim.
    """

    reading: str
    label: str
    verdict: Verdict
    effect: float | None
    interval: Interval | None
    bound: Bound | None
    seeds: int
    whole: Component | None
    components: list[Component]


@dataclass(frozen=True)
class Result(_Parted):
    """One claim, judged.

    Attributes:
        id: The claim's, as in the rules.
        family: The file it is defined in.
        sentence: The claim in our words.
        source: Where it was made.
        sweep: The runs it needs.
        scale: Of the runs it was judged on; null where there are none.
        quantity: What is measured.
        rule: When it is supported and when contradicted.
        settings: The numbers it was judged by, at the scale.
        confirmatory: Whether it is one of the few in the Holm family; else exploratory.
        paper: The paper's own number; null where it gives none.
        verdict: Of the main reading, which stands first in ``readings``.
        effect: The number the verdict rests on; null where there is none.
        effect_label: What that number is.
        interval: 95 %.
        bound: Where runs were censored, what the effect is of the true one.
        seeds: Paired seeds.
        values: The effect at each seed alone.
        p: Of the test the verdict rests on, before Holm's correction.
        p_holm: After it; null for an exploratory claim, and where no p speaks for the verdict.
        diverged: How many of the runs used diverged, by variant.
        whole: The number that decides, where the parts are but details of it.
        components: The parts of the claim.
        readings: The verdict under each reading that was run.
        note: What a reader must know of these numbers; may be empty.
        would_change: What would change our mind.
        figure: The figure that shows it.
        runs: How many it rests on.
        older_than_rule: How many of these began before the rule was fixed.
    """

    id: str
    family: str
    sentence: str
    source: str
    sweep: str
    scale: str | None
    quantity: str
    rule: str
    settings: Mapping[str, Any]
    confirmatory: bool
    paper: str | None
    verdict: Verdict
    effect: float | None
    effect_label: str
    interval: Interval | None
    bound: Bound | None
    seeds: int
    values: Mapping[int, float]
    p: float | None
    p_holm: float | None
    diverged: dict[str, int]
    whole: Component | None
    components: list[Component]
    readings: list[Reading]
    note: str
    would_change: str
    figure: str
    runs: int
    older_than_rule: int


def to_json(results: Sequence[Result], rules_hash: str) -> str:
    """Return ``claims.json``; a number that does not exist is null."""
    claims = [_finite(dataclasses.asdict(result)) for result in results]
    return json.dumps({"rules": rules_hash, "claims": claims}, indent=1, allow_nan=False) + "\n"


def to_csv(results: Sequence[Result], rules_hash: str) -> str:
    """Return ``claims.csv``: a row a claim, without its components, readings and single seeds."""
    text = io.StringIO()
    nested = {"whole", "components", "readings", "interval", "diverged", "values", "settings"}
    names = [f.name for f in dataclasses.fields(Result) if f.name not in nested]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "low", "high", "diverged", "rules"])
    for result in results:
        told = _finite(dataclasses.asdict(result))
        low, high = told["interval"] or (None, None)
        diverged = " ".join(f"{variant}:{n}" for variant, n in told["diverged"].items())
        writer.writerow([*(told[name] for name in names), low, high, diverged, rules_hash])
    return text.getvalue()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
