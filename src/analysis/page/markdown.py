"""The report as Markdown: for a repository, a pull request, a terminal."""

from collections.abc import Collection, Iterable, Sequence

from src.analysis.claims import Component, Reading, Result
from src.analysis.page import words
from src.analysis.page.report import Report


def markdown(report: Report) -> str:
    """Return ``report.md``; figures are linked as ``figures/*.svg``."""
    claims = [
        [
            _verdict(r),
            f"[{r.sentence}](#{r.id})",
            words.effect(r),
            words.interval(r),
            r.seeds,
            words.number(r.p) if r.p_holm is None else f"{words.number(r.p_holm)} (Holm)",
            _about(r),
        ]
        for r in report.results
    ]
    heads = ["verdict", "claim", "effect", "95 %", "seeds", "p", "of what"]
    drawn = {drawing.figure.name for drawing in report.figures}
    absent = [[f.title, f.source, f"`+sweeps={f.sweep}`"] for f in report.absent]
    states = ", ".join(f"{count} {state}" for state, count in report.states.items())
    parts = [
        "# Why does BatchNorm help?",
        f"{words.plural(len(report.runs), 'run')}{f': {states}' if states else ''}. "
        f"Claims: {words.tally(report.results) or 'none'}. Rules `{report.rules}`, fixed "
        f"{report.fixed:%Y-%m-%d %H:%M}, some later; claims with runs older than their own rule: "
        f"{report.older}. Made {report.made['when']}.",
        "## Claims",
        "\n".join(
            f"- {words.MARKS[verdict]} **{verdict}**: {told}" for verdict, told in words.KEY.items()
        ),
        words.NUMBERS,
        _table(heads, claims),
        "## How each was judged",
        "\n".join(f"- {what}: {told}" for what, told in words.DEFINITIONS.items()),
        *(_judged(r, drawn) for r in report.results),
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
        [_verdict(r), r.sentence, words.effect(r), words.interval(r), r.seeds, _about(r)]
        for r in results
        if r.confirmatory
    ]
    counts = f"{words.plural(len(results), 'claim')} in all: {words.tally(results)}."
    return f"{_table(heads, rows)}\n\n{counts}"


def _judged(result: Result, drawn: Collection[str]) -> str:
    """Return a claim's own section; its heading is what findings and the table link to."""
    told = {
        "Measured": result.quantity,
        "Rule": result.rule,
        "Its numbers": words.settings(result),
        "Main reading": result.readings[0].reading if len(result.readings) > 1 else "",
        "The paper": result.paper,
        "What would change our mind": result.would_change,
        "Notes": "; ".join(filter(None, (result.note, words.older(result)))),
    }
    kind = "confirmatory" if result.confirmatory else "exploratory"
    scale = f", scale {result.scale}" if result.scale else ""
    figure = f" [Figure](figures/{result.figure}.svg)." if result.figure in drawn else ""
    pieces = [
        f"### {result.id}",
        f"**{_text(result.sentence)}** {_verdict(result)}; {kind}{scale}. "
        f"{_text(result.source)}; sweep `{result.sweep}`.{figure}",
        "\n".join(f"- {what}: {_text(text)}" for what, text in told.items() if text),
        _parts(result.judged),
        *map(_read_otherwise, result.readings[1:]),
    ]
    return "\n\n".join(filter(None, pieces))


def _read_otherwise(reading: Reading) -> str:
    parts = f" (of its parts {told})" if (told := words.parts(reading)) else ""
    head = f"With `{_text(reading.reading)}`: {_verdict(reading)}{parts}."
    return f"{head}\n\n{_parts(reading.judged)}"


def _parts(judged: Iterable[Component]) -> str:
    heads = ["part", "verdict", "effect", "95 %", "seeds", "p, uncorrected", "each alone"]
    rows = [
        [
            part.told,
            _verdict(part),
            words.effect(part),
            words.interval(part),
            part.seeds,
            words.number(part.p),
            words.each(part),
        ]
        for part in judged
    ]
    return _table(heads, rows)


def _about(result: Result) -> str:
    """Say what the effect is, and what must be known of it."""
    parts = f"of its parts {told}" if (told := words.parts(result)) else ""
    known = (words.otherwise(result), result.note, words.older(result))
    return "; ".join(filter(None, (result.effect_label, parts, *known)))


def _verdict(result: Result | Component | Reading) -> str:
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
