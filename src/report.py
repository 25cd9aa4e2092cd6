"""Make the report of a runs folder: ``python -m src.report runs --out report``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.analysis.claims import rules, to_csv, to_json
from src.analysis.page import words
from src.analysis.page.html import html
from src.analysis.page.markdown import markdown
from src.analysis.page.report import Report, compiled
from src.runs.folder import whole
from src.terminal import uncut


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report; what is wrong with the folders is one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m src.report",
        description="Judge the claims, draw the figures and write one self-contained page.",
    )
    parser.add_argument("runs", type=Path, help="the runs folder")
    parser.add_argument("--out", type=Path, default=Path("report"), help="default: report")
    parser.add_argument(
        "--logger",
        choices=("wandb", "none"),
        default="wandb",
        help="mirror it at W&B; default: wandb",
    )
    parser.add_argument("--project", default="batchnorm", help="at W&B; default: batchnorm")
    parser.add_argument("--entity", default=None, help="at W&B; default: your own")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        report = compiled(chosen.runs)
        written(report, chosen.out)
    except OSError as error:
        print(_one_line(error), file=sys.stderr)
        raise SystemExit(2) from None
    show(report, Console())
    print(chosen.out / "index.html")
    if chosen.logger == "wandb":
        from src.tracking import show_report  # imports Lightning, which takes seconds

        pictures = [chosen.out / "figures" / f"{d.figure.name}.png" for d in report.figures]
        claims = chosen.out / "claims.csv"
        show_report(chosen.out, pictures, claims, chosen.project, chosen.entity)


def written(report: Report, out: Path, without: Sequence[str] = ()) -> None:
    """Write the report's files, each whole or not at all, ``index.html`` last.

    Of an earlier report in the same folder the figures that could not be drawn now are removed.

    Args:
        report: The report.
        out: The folder.
        without: Endings of the files that are not wanted.
    """
    drawings: dict[str, str | bytes] = {}
    for drawing in report.figures:
        name = drawing.figure.name
        drawings |= {f"{name}.svg": drawing.svg, f"{name}.png": drawing.png}
        drawings |= {f"{name}.csv": drawing.csv}
    files = {f"figures/{name}": content for name, content in drawings.items()} | {
        "report.md": markdown(report),
        "claims.json": to_json(report.results, report.rules),
        "claims.csv": to_csv(report.results, report.rules),
        "index.html": html(report),
    }
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for absent in report.absent:
        for ending in (".svg", ".png", ".csv"):
            (figures / f"{absent.name}{ending}").unlink(missing_ok=True)
    for name, content in files.items():
        if not name.endswith(tuple(without)):
            _write(out / name, content)


def _write(target: Path, content: str | bytes) -> None:
    with whole(target) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def show(report: Report, console: Console) -> None:
    """Print the verdicts."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("claim", "verdict", "effect", "95 %", "seeds", ""):
        table.add_column(heading, justify="right" if heading in ("effect", "seeds") else "left")
    for result in report.results:
        table.add_row(
            escape(result.id),
            f"{words.MARKS[result.verdict]} {result.verdict}",
            words.effect(result),
            words.interval(result),
            str(result.seeds),
            "confirmatory" if result.confirmatory else "",
        )
    console.print(uncut(table), soft_wrap=True)
    few = sum(
        result.verdict == "inconclusive" and result.seeds < rules().seeds
        for result in report.results
    )
    if few:
        told = (
            f"{words.plural(few, 'claim')} left open: a verdict takes {rules().seeds} paired seeds"
        )
        console.print(told, highlight=False)
    for problem in report.problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    drawn = (
        f"{words.plural(len(report.figures), 'figure')} drawn, {len(report.absent)} without runs"
    )
    console.print(f"{words.plural(len(report.runs), 'run')}, {drawn}", highlight=False)


def _one_line(error: OSError) -> str:
    if error.filename is None:
        return " ".join(str(error).split())
    return f"{error.filename}: {(error.strerror or str(error)).lower()}"


if __name__ == "__main__":
    main()
