"""A figure: which runs it takes, what of them it draws, and the files that come of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.figures import style
from src.analysis.figures.select import Selection
from src.runs.reading import Runs, read_rows


@dataclass(frozen=True)
class Source:
    """A runs folder that has been read.

    Attributes:
        root: The folder.
        runs: What it holds; its problems take a line for each table that turns out damaged.
    """

    root: Path
    runs: Runs

    def rows(
        self,
        selection: Selection,
        table: str,
        columns: Sequence[str] | None = None,
        where: polars.Expr | None = None,
    ) -> DataFrame:
        """Return a table's rows of a selection's runs, with ``variant`` and ``lr``."""
        names = selection.runs["run"].to_list()
        rows = read_rows(self.root, names, table, columns, where, self.runs.problems)
        told = selection.runs.select("run", variant=col("model.name"), lr=col("optim.lr"))
        return rows.join(told, on="run", maintain_order="left")


class Gathered(NamedTuple):
    """A figure's runs and its data: exactly what is drawn, one tidy frame."""

    selection: Selection
    data: DataFrame


@dataclass(frozen=True)
class Figure:
    """One figure of the report.

    Attributes:
        name: The files' name.
        title: What it shows, in a few words.
        source: The paper's figure, or why there is one.
        sweep: The sweep that makes its runs.
        text: What it shows, what to see, and how it differs from the paper's.
        gather: Takes the runs and their rows; None where there are none.
        draw: Draws the data that ``gather`` returned.
        told: Says in words what the data show, for who cannot see the figure.
    """

    name: str
    title: str
    source: str
    sweep: str
    text: str
    gather: Callable[[Source], Gathered | None]
    draw: Callable[[DataFrame], matplotlib.figure.Figure]
    told: Callable[[DataFrame], str]

    def gathered(self, source: Source) -> Gathered | None:
        """Gather of its sweep's runs alone, as claims are judged; of all where it never started."""
        runs = replace(source.runs, table=source.runs.pool(self.sweep))
        return self.gather(replace(source, runs=runs))


@dataclass(frozen=True)
class Drawn:
    """A figure that has been drawn.

    Attributes:
        figure: Which.
        runs: The names of its runs.
        setting: What they have in common.
        others: How many runs of the same networks have another setting and are not in it.
        alt: The figure in words.
        csv: Its data.
        svg: For the page.
        png: For W&B.
    """

    figure: Figure
    runs: list[str]
    setting: str
    others: int
    alt: str
    csv: str
    svg: str
    png: bytes


def drawn(figure: Figure, source: Source) -> Drawn | None:
    """Draw a figure; None where none of its runs has ended with what it shows."""
    gathered = figure.gathered(source)
    if gathered is None or gathered.data.is_empty():
        return None
    selection, data = gathered
    with style.styled(figure.name):
        canvas = figure.draw(data)
        svg, png = style.svg(canvas), style.png(canvas)
    return Drawn(
        figure=figure,
        runs=selection.runs["run"].to_list(),
        setting=selection.setting(),
        others=selection.others,
        alt=f"{figure.title}. {figure.told(data)}",
        csv=data.write_csv(),
        svg=svg,
        png=png,
    )
