"""All a report says, before it is a page: claims judged, figures drawn, runs listed."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.analysis.claims import Result, judge, rules
from src.analysis.figures import FIGURES, Drawn, Figure, Source, drawn
from src.analysis.page import facts
from src.runs.provenance import provenance
from src.runs.reading import read_runs


@dataclass(frozen=True)
class Report:
    """The report of a runs folder.

    Attributes:
        root: The folder, as it was given.
        results: The claims, judged.
        rules: The hash of the rules they were judged by.
        fixed: When the rules were fixed.
        figures: Those that could be drawn.
        absent: Those that could not: their runs have not ended, or there are none.
        runs: The runs, as :func:`facts.listed` tells of them.
        states: How many runs have each state.
        readings: What the runs chose where the papers are silent.
        origins: Where they are from.
        problems: What could not be read or drawn, a line each.
        made: When, and by which commit of this project.
    """

    root: Path
    results: Sequence[Result]
    rules: str
    fixed: datetime.datetime
    figures: Sequence[Drawn]
    absent: Sequence[Figure]
    runs: Sequence[dict[str, Any]]
    states: dict[str, int]
    readings: Sequence[facts.Spread]
    origins: Sequence[facts.Spread]
    problems: Sequence[str]
    made: dict[str, Any]

    @property
    def older(self) -> int:
        """How many claims rest on runs that are older than their rule."""
        return sum(result.older_than_rule > 0 for result in self.results)

    def figure_of(self, result: Result) -> Drawn | None:
        """Return the figure that shows a claim, if it was drawn."""
        return next((d for d in self.figures if d.figure.name == result.figure), None)


def compiled(root: Path) -> Report:
    """Judge every claim and draw every figure of a runs folder.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    runs = read_runs(root)
    source = Source(root, runs)
    results = judge(root, runs)
    figures = {figure: drawn(figure, source) for figure in FIGURES}
    listed = facts.listed(source)
    states = runs.table.group_by("state").len().sort("len", descending=True)
    now = datetime.datetime.now(datetime.UTC)
    return Report(
        root=root,
        results=results,
        rules=rules().hash,
        fixed=rules().fixed,
        figures=[done for done in figures.values() if done],
        absent=[figure for figure, done in figures.items() if not done],
        runs=listed,
        states=dict(states.iter_rows()),
        readings=facts.readings(runs.table) if listed else [],
        origins=facts.origins(runs.table) if listed else [],
        problems=list(dict.fromkeys(runs.problems)),
        made={"when": f"{now:%Y-%m-%d %H:%M} UTC", **provenance()["git"]},
    )
