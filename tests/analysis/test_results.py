"""What is published: it says what the whole runs say, and the committed pages follow from it."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
import pytest
import yaml
from polars.testing import assert_frame_equal

from src import results
from src.analysis.claims import Result, judge, rules, to_json
from src.analysis.figures import FIGURES, Source
from src.analysis.page import words
from src.analysis.page.markdown import summary
from src.runs.reading import Runs, manifest, read_runs

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "results"
FINDINGS, EVIDENCE = (PUBLISHED.parent / name for name in ("findings.md", "evidence.md"))
# [0.145](results/report.md#loss_variation "the part's label, seed 3"), part and seed at will
NUMBER = re.compile(
    r"\[([^]]+)\]\(results/report\.md#(\w+)(?: \"([^\"]*?)(?:(?:, )?seed (\d+))?\")?\)"
)


@pytest.fixture(scope="module")
def published(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("published")
    results.take_in(full, target)
    return target


def test_claims_are_those_of_the_whole_runs(full: Path, published: Path) -> None:
    whole, small = (to_json(judge(r, read_runs(r)), rules().hash) for r in (full, published))
    assert small == whole


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_figures_are_those_of_the_whole_runs(full: Path, published: Path, figure) -> None:
    whole, small = (figure.gathered(Source(r, read_runs(r))) for r in (full, published))
    assert_frame_equal(small.data, whole.data)


def test_nothing_of_the_machine_s_folders_is_published(run, tmp_path: Path) -> None:
    places = {"runs_dir": "/home/me/runs", "data.root": "/home/me/data", "data.cache": "/home/me/c"}
    made = run(tmp_path / "runs", tables=("metrics",), config=places)
    cell = {"run": made.name, "probes": {}, "overrides": ["model=vgg", "++runs_dir=/home/me/runs"]}
    missing = {"run": "vgg-00000000", "probes": {}}
    sweeps = tmp_path / "runs" / "sweeps"
    sweeps.mkdir()
    (sweeps / "mine.json").write_text(json.dumps({"sweep": "mine", "cells": [cell, missing]}))
    readme = tmp_path / "README.md"
    readme.write_text("\nwhy\n".join(results.VERDICTS))
    results.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--readme", str(readme)])
    assert (
        "why" not in readme.read_text()
        and f"{len(rules().claims)} claims in all" in readme.read_text()
    )
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".md", ".json", ".csv", ".svg", ".yaml", ".parquet"}
    assert not any(b"/home/me" in path.read_bytes() for path in files)
    before, after = (
        yaml.safe_load((folder / "config.yaml").read_text())
        for folder in (made, tmp_path / "out" / "runs" / made.name)
    )
    assert after == {k: v for k, v in before.items() if k != "runs_dir"} | {
        "data": {k: v for k, v in before["data"].items() if k not in ("root", "cache")}
    }
    found = read_runs(tmp_path / "out" / "runs")
    assert found.problems == [] and found.missing("mine") == ["vgg-00000000"]
    assert found.sweeps["mine"][0]["overrides"] == ["model=vgg"]


def test_a_linear_net_s_distributions_are_left_out_and_not_missed(run, tmp_path: Path) -> None:
    probes = {"ics": {"every": 100}, "activations": {"every": 100}}
    kinds = [("dln", ["ics"]), ("vgg", ["ics", "activations"])]
    source, target = tmp_path / "runs", tmp_path / "published"
    runs = [run(source, model, status={"state": "running"}) for model, _ in kinds]
    cells = [{"run": made.name, "probes": probes, "overrides": []} for made in runs]
    (source / "sweeps").mkdir()
    (source / "sweeps" / "mine.json").write_text(json.dumps({"sweep": "mine", "cells": cells}))
    target.mkdir()
    for state in ("running", "completed"):  # a sweep is published in stages
        for made in runs:
            status = json.loads((made / "status.json").read_text())
            (made / "status.json").write_text(json.dumps(status | {"state": state}))
        assert results.take_in(source, target) == []
        assert [list(cell["probes"]) for cell in manifest(target / "sweeps" / "mine.json")] == [
            kept for _, kept in kinds
        ]
    tables = [(target / made.name / "activations.parquet").exists() for made in runs]
    assert tables == [False, True]


def test_what_ended_is_taken_in_once_and_again_when_it_has_changed(run, tmp_path: Path) -> None:
    source, target = tmp_path / "runs", tmp_path / "published"
    target.mkdir()
    ended = run(source, seed=0, tables=("metrics",))
    run(source, seed=1, tables=("metrics",), status={"state": "running"})
    (source / "notes.txt").write_text("mine")
    assert results.take_in(source, target) == []
    assert [path.name for path in target.iterdir()] == [ended.name]
    metrics = target / ended.name / "metrics.parquet"
    metrics.write_bytes(b"")
    results.take_in(source, target)
    assert metrics.read_bytes() == b""
    status = json.loads((ended / "status.json").read_text())
    (ended / "status.json").write_text(json.dumps(status | {"attempts": 2}))
    results.take_in(source, target)
    assert_frame_equal(polars.read_parquet(metrics), polars.read_parquet(ended / metrics.name))


def test_a_published_run_makes_way_for_no_other_training_and_no_damage(run, tmp_path: Path) -> None:
    target = tmp_path / "published"
    target.mkdir()
    first = run(tmp_path / "runs", tables=("metrics",))
    results.take_in(first.parent, target)
    before = {path.name: path.read_bytes() for path in (target / first.name).iterdir()}

    other = run(tmp_path / "other", tables=("metrics",), status={"started": 1.9e9})
    (line,) = results.take_in(other.parent, target)
    published = f"another training of it is in {target / first.name}"
    assert line == f"{other} is left out: {published}; delete that to take this one"

    status = json.loads((first / "status.json").read_text())
    (first / "status.json").write_text(json.dumps(status | {"attempts": 2}))
    (first / "metrics.parquet").write_bytes(b"PAR1")
    (line,) = results.take_in(first.parent, target)
    assert line.startswith(f"{first} is left out: ")
    (first / "config.yaml").unlink()
    assert len(results.take_in(first.parent, target)) == 1
    assert {path.name: path.read_bytes() for path in (target / first.name).iterdir()} == before
    assert [path.name for path in target.iterdir()] == [first.name]


def test_a_readme_without_a_place_is_one_line(tmp_path: Path, capsys) -> None:
    readme = tmp_path / "README.md"
    for text in (None, "no place", "\n".join(reversed(results.VERDICTS))):
        if text:
            readme.write_text(text)
        with pytest.raises(SystemExit) as end:
            results.main(["--out", str(tmp_path / "out"), "--readme", str(readme)])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{readme} has no place for verdicts: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["none", "out/runs"])
def test_a_folder_that_cannot_be_published_is_one_line(tmp_path: Path, wrong: str, capsys) -> None:
    (tmp_path / "out" / "runs").mkdir(parents=True)
    with pytest.raises(SystemExit) as end:
        results.main([str(tmp_path / wrong), "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told == f"{tmp_path / wrong} is not a folder of runs to be published\n"
    assert not (tmp_path / "out" / "report.md").exists()


def leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and word of a JSON value, by where it stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inside:
        if isinstance(part, dict | list):
            yield from leaves(part, f"{where}/{key}")
        else:
            yield f"{where}/{key}", part


def numbers(claim: Result, part: str, seed: str) -> list[str]:
    """What a page may give of a claim, of a part or reading of it, of a reading's part, by seed."""
    named, _, label = part.partition(": ")
    reading = next((r for r in claim.readings if part and r.reading == named), None)
    if reading and not label:
        return [words.effect(reading), words.interval(reading)]
    components, label = (reading.components, label) if reading else (claim.components, part)
    labelled = [c for c in components if c.label == label]
    (told,) = (
        (labelled or [c for c in components if c.label.startswith(label)]) if part else [claim]
    )
    if seed:
        return [words.number(told.values[int(seed)])]
    return [words.effect(told), words.interval(told)]


@pytest.fixture(scope="module")
def committed() -> tuple[Runs, list[Result]]:
    """The runs in docs/results, and the claims judged anew."""
    runs = read_runs(PUBLISHED / "runs")
    return runs, judge(PUBLISHED / "runs", runs)


class TestTheCommitted:
    """docs/results: made again with ``make results`` when rules or runs change."""

    def test_claims_follow_from_the_runs_beside_them(self, committed) -> None:
        runs, judged = committed
        assert runs.problems == []
        told = json.loads(to_json(judged, rules().hash))
        published = json.loads((PUBLISHED / "claims.json").read_text())
        assert dict(leaves(published)) == {
            where: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
            for where, value in leaves(told)
        }

    def test_page_and_table_say_what_the_claims_say(self, committed) -> None:
        page = (PUBLISHED / "report.md").read_text()
        rows = list(csv.DictReader((PUBLISHED / "claims.csv").read_text().splitlines()))
        for result, row in zip(committed[1], rows, strict=True):
            assert (row["id"], row["verdict"]) == (result.id, result.verdict)
            link = f"| [{result.sentence}](#{result.id}) |"
            (line,) = (line for line in page.splitlines() if link in line)
            cells = [cell.strip() for cell in line.split("|")]
            assert cells[1] == f"{words.MARKS[result.verdict]} **{result.verdict}**"
            assert cells[3].startswith(words.effect(result))
            assert cells[4:6] == [words.interval(result), str(result.seeds)]

    def test_the_readme_says_what_the_claims_say(self, committed) -> None:
        readme = (PUBLISHED.parents[1] / "README.md").read_text()
        assert (
            f"{results.VERDICTS[0]}\n\n{summary(committed[1])}\n\n{results.VERDICTS[1]}" in readme
        )

    @pytest.mark.parametrize("path", [FINDINGS, EVIDENCE], ids=lambda path: path.stem)
    def test_the_findings_give_the_claims_own_numbers(self, committed, path: Path) -> None:
        claims = {claim.id: claim for claim in committed[1]}
        page = path.read_text()
        told = NUMBER.findall(page)
        assert len(told) == page.count("](results/report.md#")
        for shown, claim, part, seed in told:
            assert " ".join(shown.split()) in numbers(claims[claim], part, seed), (claim, part)
        assert {name for name, claim in claims.items() if claim.confirmatory} <= {
            t[1] for t in told
        }

    @pytest.mark.parametrize("path", [FINDINGS, EVIDENCE], ids=lambda path: path.stem)
    def test_the_findings_give_verdict_and_figure_of_each_point(
        self, committed, path: Path
    ) -> None:
        claims = {claim.id: claim for claim in committed[1]}
        *found, _unknown = path.read_text().split("\n## ")
        for point in "\n".join(found).split("\n- ")[1:]:
            cited = [claims[claim] for _, claim, _, _ in NUMBER.findall(point)]
            assert cited, point
            assert set(re.findall(r"\*([a-z ]+)\*[^*]", point)) == {c.verdict for c in cited}, point
            assert ("†" in point) is any(claim.older_than_rule for claim in cited), point
            drawn = set(re.findall(r"\]\(results/figures/(\w+)\.svg\)", point))
            sweeps = {claim.sweep for claim in cited}
            others = {figure.name for figure in FIGURES if figure.sweep in sweeps}
            own = {claim.figure for claim in cited}
            assert own <= drawn <= own | others, point
        for target in re.findall(r"\]\(([\w./]+)", path.read_text()):
            assert (path.parent / target).exists(), target

    def test_final_rows_are_those_of_the_runs(self) -> None:
        committed = polars.read_parquet(PUBLISHED / "runs.parquet")
        assert_frame_equal(committed, results.final_rows(PUBLISHED / "runs"))

    def test_figures_on_the_page_draw_the_runs_beside_them(self, committed) -> None:
        page = (PUBLISHED / "report.md").read_text()
        shown = [figure for figure in FIGURES if f"figures/{figure.name}.svg" in page]
        files = {path.name for path in (PUBLISHED / "figures").iterdir()}
        assert files == {f"{figure.name}.{kind}" for figure in shown for kind in ("svg", "csv")}
        runs, _ = committed
        source = Source(PUBLISHED / "runs", runs)
        for figure in shown:
            data = figure.gathered(source).data
            drawn = polars.read_csv(
                PUBLISHED / "figures" / f"{figure.name}.csv", schema=data.schema
            )
            assert_frame_equal(drawn, data, rel_tol=1e-6)
