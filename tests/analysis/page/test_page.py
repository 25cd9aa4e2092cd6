"""The page and its kin: their numbers are claims.json's, and whatever runs hold they say so."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape

from src.analysis.claims import to_json
from src.analysis.figures import FIGURES
from src.analysis.page import words
from src.analysis.page.html import html
from src.analysis.page.markdown import markdown, summary
from src.analysis.page.report import Report, compiled

HOSTILE = "<script>alert(1)</script>\"'|`$x$&amp;\n# no heading"


class _Page(HTMLParser):
    """What a test wants to know of a page: its texts, its identifiers, its references, its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.values: dict[str, list[float]] = {}
        self.claim = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if (name := given.get("id")) is not None:
            self.ids.append(name)
            if tag in ("article", "section", "tr", "figure"):
                self.claim = name
        if tag == "data":
            self.values.setdefault(self.claim, []).append(float(given["value"] or "nan"))
        self.references += [v for k, v in attrs if k in ("href", "src", "xlink:href") and v]


@pytest.fixture(scope="module")
def report(full: Path) -> Report:
    return compiled(full)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return html(report)


def test_the_pages_numbers_are_those_of_the_claims(report: Report, page: str) -> None:
    shown = _Page(page).values
    claims = json.loads(to_json(report.results, report.rules))["claims"]
    judged = [claim for claim in claims if claim["effect"] is not None]
    assert judged
    for claim in judged:
        told = [claim["effect"], *(claim["interval"] or []), claim["p"], claim["p_holm"]]
        assert shown[f"claim-{claim['id']}"] == [number for number in told if number is not None]


@pytest.mark.parametrize("form", [html, markdown])
def test_every_claim_is_there_with_its_verdict_and_effect(report: Report, form: Callable) -> None:
    text = form(report)
    for result in report.results:
        assert result.verdict in text and words.effect(result) in text
        escaped = re.escape(result.sentence).replace("'", "(?:'|&\\#39;)")
        assert re.search(escaped, text), result.sentence


def test_nothing_is_asked_of_the_network_or_of_another_file(page: str) -> None:
    for reference in _Page(page).references:
        assert reference.startswith(("#", "data:,", "data:image/png;base64,")), reference[:80]
    assert "@import" not in page and "default-src 'none'" in page


def test_identifiers_are_unique_and_every_link_leads_somewhere(page: str) -> None:
    parsed = _Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {r[1:] for r in parsed.references if r.startswith("#")} <= set(parsed.ids)


def test_every_figure_is_there_once_with_its_words(report: Report, page: str) -> None:
    assert [drawing.figure for drawing in report.figures] == [*FIGURES] and not report.absent
    for drawing in report.figures:
        assert page.count(f'id="svg-{drawing.figure.name}"') == 1
        assert f'aria-label="{escape(drawing.figure.title)}.' in page


def test_a_claims_thumbnail_costs_a_reference_not_a_copy(page: str) -> None:
    assert page.count('href="#svg-fig4_landscape"/>') > 1
    assert len(page) < 4_000_000


def test_confirmatory_claims_stand_first(report: Report, page: str) -> None:
    places = {r.id: page.index(f'id="claim-{r.id}"') for r in report.results}
    first = [places[r.id] for r in report.results if r.confirmatory]
    assert max(first) < min(places[r.id] for r in report.results if not r.confirmatory)


def test_every_run_is_listed_with_its_last_accuracy(run, tmp_path: Path) -> None:
    run(tmp_path, "vgg_bn", accuracy=0.8125)
    run(tmp_path, "vgg", 0.5, diverged_at=20)
    listed = compiled(tmp_path).runs
    assert [(r["model"], r["state"], r["train"]) for r in listed] == [
        ("vgg", "diverged", None),
        ("vgg_bn", "completed", pytest.approx(81.25)),
    ]


def test_a_run_is_told_apart_by_what_is_not_the_main_reading(run, tmp_path: Path) -> None:
    for gain in (1.0, 2.0):
        run(tmp_path, "vgg", config={"init.gain": gain}, steps=20, tables=("metrics",))
    assert sorted(r["settings"] for r in compiled(tmp_path).runs) == ["", "init.gain=2.0"]


def test_no_runs_are_no_error_and_the_page_says_how_to_get_some(tmp_path: Path) -> None:
    empty = compiled(tmp_path)
    text = html(empty)
    assert "There is no run in this folder yet" in text
    assert {r.verdict for r in empty.results} == {"not run"} and not empty.figures
    for figure in empty.absent:
        assert f"+sweeps={figure.sweep}" in text
    assert "0 runs" in markdown(empty)


def test_half_of_the_runs_give_half_of_the_figures(run, tmp_path: Path) -> None:
    for model in ("vgg", "vgg_bn"):
        run(tmp_path, model, steps=500, tables=("metrics",))
    half = compiled(tmp_path)
    assert [d.figure.name for d in half.figures] == ["fig1_training"]
    assert {r.verdict for r in half.results} == {"inconclusive", "not run"}  # one seed
    text = html(half)
    assert "python -m src.train +sweeps=fig4_landscape" in text


def test_runs_that_all_diverged_are_told_of(run, tmp_path: Path) -> None:
    for model in ("vgg", "vgg_bn"):
        run(tmp_path, model, 0.5, diverged_at=35, tables=("metrics",))
    text = html(compiled(tmp_path))
    assert "2 diverged" in text and "the loss is nan at step 35" in text
    assert "Diverged: standard at LR 0.5 at step 35, BatchNorm at LR 0.5 at step 35." in text


@pytest.fixture(scope="module")
def hostile(run, tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = tmp_path_factory.mktemp("hostile")
    for init in (HOSTILE, "glorot_normal"):
        for lr in (0.1, 0.5):
            config = {"init.name": init}
            status = {"message": HOSTILE, "data": HOSTILE, "git": {"commit": HOSTILE}}
            run(root, "vgg", lr, config=config, status=status, steps=500, tables=("metrics",))
    (root / "<img src=x onerror=alert(1)>").mkdir()
    return compiled(root)


def test_what_a_run_says_is_text_and_never_markup(hostile: Report) -> None:
    text = html(hostile)
    parsed = _Page(text)
    assert parsed.tags.count("script") == 1 and "img" not in parsed.tags
    assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text
    assert any("onerror" in problem for problem in hostile.problems)


def test_a_hostile_name_is_text_in_a_figure_too(hostile: Report) -> None:
    svg = next(d.svg for d in hostile.figures if d.figure.name == "init_sensitivity")
    assert "&lt;script&gt;alert(1)" in svg and "<script" not in svg


def test_markdown_says_which_claims_rest_on_runs_older_than_their_rule(report: Report) -> None:
    results = [replace(r, older_than_rule=not n) for n, r in enumerate(report.results)]
    (row,) = (line for line in summary(results).splitlines() if "began before the rule" in line)
    assert results[0].confirmatory and f"| {results[0].sentence} |" in row
    text = markdown(replace(report, results=results))
    row, note = (line for line in text.splitlines() if "began before the rule" in line)
    assert f"| [{results[0].sentence}](#{results[0].id}) |" in row
    assert note.startswith("- Notes: ")
    assert (
        text.index(f"### {results[0].id}") < text.index(note) < text.index(f"### {results[1].id}")
    )


def test_markdown_has_a_section_of_each_claim_for_the_links_to_it(report: Report) -> None:
    lines = markdown(report).splitlines()
    sections = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    assert sections[: len(report.results)] == [result.id for result in report.results]
    for result in report.results:
        assert any(f"[{result.sentence}](#{result.id})" in line for line in lines)


def test_a_reading_with_the_opposite_verdict_is_told_beside_the_claims_own(report: Report) -> None:
    first = report.results[0]
    read = [
        replace(first.readings[0], reading=name, verdict=verdict)
        for name, verdict in (("a=1", "supported"), ("a=2", "contradicted"), ("a=3", "mixed"))
    ]
    result = replace(first, verdict="supported", readings=read)
    told = "contradicted with a=2"
    assert words.otherwise(result) == told
    assert words.otherwise(replace(result, verdict="mixed")) == ""
    found = replace(report, results=[result])
    assert markdown(found).count(told) == 1 and told in html(found)
    assert told in summary([replace(result, confirmatory=True)])


def test_parts_are_counted_where_they_disagree_and_each_reading_shows_its_own(
    report: Report,
) -> None:
    first = report.results[0]
    held, failed = (
        replace(first.judged[0], label=verdict, verdict=verdict)
        for verdict in ("supported", "contradicted")
    )
    alike = replace(first, components=[held, held])
    apart = replace(
        first.readings[0], reading="accuracy=minibatch", verdict="mixed", components=[held, failed]
    )
    assert words.parts(alike) == "" and words.parts(apart) == "1 supported, 1 contradicted"
    read = replace(alike, readings=[first.readings[0], apart])
    text = markdown(replace(report, results=[read]))
    head = "With `accuracy=minibatch`: ± **mixed** (of its parts 1 supported, 1 contradicted)."
    before, after = text.split(head)
    assert before.count("| contradicted:") == 0 and after.count("| contradicted:") == 1
    assert "1 supported, 1 contradicted" in html(replace(report, results=[read]))


def test_markdown_keeps_its_tables_and_has_no_html(hostile: Report) -> None:
    text = markdown(hostile)
    assert "<script" not in text and "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows and all(line.endswith(" |") for line in rows)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, words.DASH),
        (float("nan"), words.DASH),
        (0.0, "0"),
        (0.12345, "0.123"),
        (1234.5, "1,234"),
        (2e6, "2e+06"),
    ],
)
def test_a_number_has_three_digits(value: float | None, text: str) -> None:
    assert words.number(value) == text
