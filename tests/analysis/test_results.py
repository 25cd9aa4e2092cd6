"""What is published: it says what the whole runs say, and the committed pages follow from it."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
import pytest
import yaml
from polars.testing import assert_frame_equal

from src import results
from src.analysis.claims import judge, rules, to_json
from src.analysis.figures import FIGURES, Source
from src.analysis.page import words
from src.runs.reading import read_runs

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "results"


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
    whole, small = (
        figure.gather(Source(r, runs := read_runs(r), runs.problems)) for r in (full, published)
    )
    assert_frame_equal(small.data, whole.data)


def test_nothing_of_the_machine_s_folders_is_published(run, tmp_path: Path) -> None:
    places = {"runs_dir": "/home/me/runs", "data.root": "/home/me/data", "data.cache": "/home/me/c"}
    made = run(tmp_path / "runs", tables=("metrics",), config=places)
    cell = {"run": made.name, "probes": {}, "overrides": ["model=vgg", "runs_dir=/home/me/runs"]}
    sweeps = tmp_path / "runs" / "sweeps"
    sweeps.mkdir()
    (sweeps / "mine.json").write_text(json.dumps({"sweep": "mine", "cells": [cell]}))
    results.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
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
    assert found.problems == [] and found.sweeps["mine"][0]["overrides"] == ["model=vgg"]


def test_what_ended_is_taken_in_once_and_again_when_it_has_changed(run, tmp_path: Path) -> None:
    source, target = tmp_path / "runs", tmp_path / "published"
    target.mkdir()
    ended = run(source, seed=0, tables=("metrics",))
    run(source, seed=1, tables=("metrics",), status={"state": "running"})
    (source / "notes.txt").write_text("mine")
    results.take_in(source, target)
    assert [path.name for path in target.iterdir()] == [ended.name]
    metrics = target / ended.name / "metrics.parquet"
    metrics.write_bytes(b"")
    results.take_in(source, target)
    assert metrics.read_bytes() == b""
    status = json.loads((ended / "status.json").read_text())
    (ended / "status.json").write_text(json.dumps(status | {"attempts": 2}))
    results.take_in(source, target)
    assert_frame_equal(polars.read_parquet(metrics), polars.read_parquet(ended / metrics.name))


def test_a_folder_that_is_none_is_one_line(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        results.main([str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none'} is not a folder of runs\n"
    assert not (tmp_path / "out").exists()


def leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and word of a JSON value, by where it stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inside:
        if isinstance(part, dict | list):
            yield from leaves(part, f"{where}/{key}")
        else:
            yield f"{where}/{key}", part


class TestTheCommitted:
    """docs/results: made again with ``make results`` when rules or runs change."""

    def test_claims_follow_from_the_runs_beside_them(self) -> None:
        runs = read_runs(PUBLISHED / "runs")
        assert runs.problems == []
        told = json.loads(to_json(judge(PUBLISHED / "runs", runs), rules().hash))
        committed = json.loads((PUBLISHED / "claims.json").read_text())
        assert dict(leaves(committed)) == {
            where: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
            for where, value in leaves(told)
        }

    def test_page_and_table_say_what_the_claims_say(self) -> None:
        page = (PUBLISHED / "report.md").read_text()
        rows = list(csv.DictReader((PUBLISHED / "claims.csv").read_text().splitlines()))
        judged = judge(PUBLISHED / "runs", read_runs(PUBLISHED / "runs"))
        for result, row in zip(judged, rows, strict=True):
            assert (row["id"], row["verdict"]) == (result.id, result.verdict)
            (line,) = (line for line in page.splitlines() if f"| {result.sentence} |" in line)
            cells = [cell.strip() for cell in line.split("|")]
            assert cells[1] == f"{words.MARKS[result.verdict]} **{result.verdict}**"
            assert cells[3].startswith(words.effect(result))
            assert cells[4:6] == [words.interval(result), str(result.seeds)]

    def test_final_rows_are_those_of_the_runs(self) -> None:
        committed = polars.read_parquet(PUBLISHED / "runs.parquet")
        assert_frame_equal(committed, results.final_rows(PUBLISHED / "runs"))

    def test_every_figure_on_the_page_is_there_with_its_data(self) -> None:
        page = (PUBLISHED / "report.md").read_text()
        files = {path.name for path in (PUBLISHED / "figures").iterdir()}
        shown = {figure.name for figure in FIGURES if f"figures/{figure.name}.svg" in page}
        assert shown and files == {f"{name}.{kind}" for name in shown for kind in ("svg", "csv")}
