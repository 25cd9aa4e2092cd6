"""The report as Markdown: for a repository, a pull request, a terminal."""

from collections.abc import Iterable, Sequence

from src.analysis.claims import Result
from src.analysis.page import words
from src.analysis.page.report import Report

_OLDER = "some of its runs began before the rule was fixed"


def markdown(report: Report) -> str:
    """Return ``report.md``; figures are linked as ``figures/*.svg``."""
    claims = [
        [
            _verdict(r),
            r.sentence,
            words.effect(r) + (f" ({about})" if (about := _about(r)) else ""),
            words.interval(r),
            r.seeds,
            words.number(r.p if r.p_holm is None else r.p_holm),
            ("confirmatory" if r.confirmatory else "exploratory")
            + (f"; {_OLDER}" if r.older_than_rule else ""),
        ]
        for r in report.results
    ]
    heads = ["verdict", "claim", "effect", "95 %", "paired seeds", "p", "kind"]
    readings = [
        [r.id, x.reading, x.verdict, words.effect(x), x.label, words.interval(x), x.seeds]
        for r in report.results
        for x in r.readings
    ]
    absent = [[f.title, f.source, f"`+sweeps={f.sweep}`"] for f in report.absent]
    states = ", ".join(f"{count} {state}" for state, count in report.states.items())
    parts = [
        "# Why does BatchNorm help?",
        f"{words.plural(len(report.runs), 'run')}{f': {states}' if states else ''}. "
        f"Claims: {words.tally(report.results) or 'none'}. Rules `{report.rules}`, fixed "
        f"{report.fixed:%Y-%m-%d %H:%M}; {words.plural(report.older, 'claim')} rest on runs that "
        f"began before. Made {report.made['when']}.",
        "## Claims",
        _table(heads, claims),
        "## What would change our mind",
        "\n".join(f"- **{_text(r.sentence)}** {_text(r.would_change)}" for r in report.results),
        "## Verdicts by reading",
        _table(["claim", "reading", "verdict", "effect", "of", "95 %", "seeds"], readings),
        "## Figures",
        *(
            f"### {drawing.figure.title}\n\n{drawing.figure.source}. {_text(drawing.setting)}.\n\n"
            f"![{_text(drawing.alt)}](figures/{drawing.figure.name}.svg)\n\n{drawing.figure.text}"
            for drawing in report.figures
        ),
        _table(["figure whose runs are not there", "of", "drawn from"], absent),
        "## Provenance",
        _table(
            ["what", "in these runs"],
            [
                [item.what, ", ".join(f"{value} ({runs})" for value, runs in item.values)]
                for item in report.origins
            ],
        ),
        "\n".join(f"- {_text(problem)}" for problem in report.problems),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(results: Sequence[Result]) -> str:
    """Return the confirmatory verdicts, and how many there are of each in all, for a README."""
    heads = ["verdict", "claim", "effect", "95 %", "seeds", "of what"]
    rows = [
        [
            _verdict(r),
            r.sentence,
            words.effect(r),
            words.interval(r),
            r.seeds,
            "; ".join(filter(None, (_about(r), _OLDER if r.older_than_rule else ""))),
        ]
        for r in results
        if r.confirmatory
    ]
    counts = f"{words.plural(len(results), 'claim')} in all: {words.tally(results)}."
    return f"{_table(heads, rows)}\n\n{counts}"


def _about(result: Result) -> str:
    """Say what the effect is, and what must be known of it."""
    return "; ".join(filter(None, (result.effect_label, result.note)))


def _verdict(result: Result) -> str:
    return f"{words.MARKS[result.verdict]} **{result.verdict}**"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    ruled = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(_text(cell) for cell in row) + " |" for row in ruled)


def _text(text: str) -> str:
    """Return a text as one line that makes neither cells nor HTML of its own."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
