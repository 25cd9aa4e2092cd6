"""Every figure drawn from hand-made runs; a warning of matplotlib's fails the test."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import polars
import pytest
from polars import DataFrame

from src.analysis.claims import rules
from src.analysis.figures import FIGURES, Drawn, Figure, Source, drawn, style
from src.runs.reading import read_runs

NAMES = [figure.name for figure in FIGURES]


@pytest.fixture(scope="module")
def source(full: Path) -> Source:
    return Source(full, read_runs(full))


@pytest.fixture(scope="module")
def all_drawn(source: Source) -> dict[str, Drawn]:
    made = {figure.name: drawn(figure, source) for figure in FIGURES}
    return {name: done for name, done in made.items() if done}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_drawn_with_its_data_beside_it(all_drawn: dict[str, Drawn], name: str) -> None:
    done = all_drawn[name]
    assert done.png.startswith(b"\x89PNG") and len(done.svg) < 600_000
    assert ElementTree.fromstring(done.svg).tag.endswith("svg")
    data = polars.read_csv(io.StringIO(done.csv), infer_schema_length=None)
    assert len(data) > 0 and {"variant", "lr"} <= set(data.columns)
    assert done.alt.startswith(done.figure.title) and len(done.alt) > len(done.figure.title) + 20


@pytest.mark.parametrize("name", NAMES)
def test_its_words_are_two_sentences_at_most(all_drawn: dict[str, Drawn], name: str) -> None:
    done = all_drawn[name]
    told = done.alt.removeprefix(f"{done.figure.title}. ")
    assert len(re.findall(r"\.(?= |$)", told)) <= 2 and len(told) < 600
    assert not re.search(r"[a-z]_[a-z]", told)  # a name that only the program knows


def test_no_two_figures_share_an_identifier(all_drawn: dict[str, Drawn]) -> None:
    each = [set(re.findall(r'\bid="([^"]+)"', done.svg)) for done in all_drawn.values()]
    assert sum(map(len, each)) == len(set().union(*each))


def test_every_reference_within_a_figure_leads_somewhere(all_drawn: dict[str, Drawn]) -> None:
    for done in all_drawn.values():
        there = set(re.findall(r'\bid="([^"]+)"', done.svg))
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', done.svg)) <= there


def test_the_same_runs_give_the_same_bytes(source: Source, all_drawn: dict[str, Drawn]) -> None:
    figure = next(f for f in FIGURES if f.name == "fig4_landscape")
    again = drawn(figure, source)
    assert again == all_drawn["fig4_landscape"]


def test_text_stays_text(all_drawn: dict[str, Drawn]) -> None:
    svg = all_drawn["fig1_training"].svg
    assert "BatchNorm, LR 0.5" in svg and "test accuracy (%)" in svg


def test_short_numbers_in_a_label_are_not_rounded(all_drawn: dict[str, Drawn]) -> None:
    assert ">0.01<" in all_drawn["lr_sensitivity"].svg


def test_a_diverged_run_is_in_the_figure_and_in_its_words(all_drawn: dict[str, Drawn]) -> None:
    done = all_drawn["fig2_noise"]
    assert "a run diverged here" in done.svg
    assert "Diverged: noise alone at LR 0.1 at step 700." in done.alt
    assert "diverged run,700" in done.csv


@pytest.mark.parametrize("figure", FIGURES, ids=NAMES)
def test_without_runs_nothing_is_drawn(figure: Figure, tmp_path: Path) -> None:
    assert drawn(figure, Source(tmp_path, read_runs(tmp_path))) is None


MODELS = ("vgg", "vgg_bn", "vgg_noisy", "vgg_l1", "dln", "dln_bn", "dln_l1", "mlp")
CELLS = [(model, lr) for model in MODELS for lr in ((1e-6,) if "dln" in model else (0.1, 0.5))]


@pytest.fixture(scope="module")
def only_diverged(tmp_path_factory: pytest.TempPathFactory, run) -> Path:
    root = tmp_path_factory.mktemp("diverged")
    for model, lr in CELLS:
        run(root, model, lr, diverged_at=1)
    return root


@pytest.fixture(scope="module")
def overflowed(tmp_path_factory: pytest.TempPathFactory, run) -> Path:
    root = tmp_path_factory.mktemp("overflowed")
    for model, lr in CELLS:
        folder = run(root, model, lr, steps=200)
        for path in folder.glob("*.parquet"):
            table = polars.read_parquet(path)
            measured = [n for n, kind in table.schema.items() if kind == polars.Float64]
            nothing = [polars.lit(float("nan")).alias(n) for n in measured if n != "eta"]
            table.with_columns(nothing).write_parquet(path)
    return root


@pytest.mark.parametrize("figure", FIGURES, ids=NAMES)
@pytest.mark.parametrize("state", ["only_diverged", "overflowed"])
def test_runs_with_nothing_finite_break_no_figure(
    figure: Figure, state: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(state)
    drawn(figure, Source(root, read_runs(root)))


def test_every_figure_a_claim_names_is_one_of_these() -> None:
    assert {rule.figure for rule in rules().claims.values()} <= set(NAMES)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1, 1e4, {"1", "10²"}),
        (1.5, 6, {"2", "5"}),
        (0.9, 3.7, {"1", "2", "3"}),
        (4.1e4, 5.2e4, {"5·10⁴"}),
        (1.5, 60, {"2", "10", "50"}),
    ],
)
def test_a_logarithmic_axis_has_labels_however_short_it_is(low, high, labels) -> None:
    with style.styled("test"):
        figure = style.panels(1, 1)
        figure.axes[0].plot([0, 1], [low, high])
        style.logarithmic(figure.axes[0].yaxis)
        assert labels <= set(re.findall(r">([^<>\s]+)</text>", style.svg(figure)))


@pytest.mark.parametrize(
    ("steps", "last"),
    [(range(50, 3000, 100), 3000), ([50, 150, 200], 200), ([0, 100, 299], 299), ([0], 1)],
    ids=["windows", "windows and evaluations", "probes", "one step"],
)
def test_the_step_axis_reaches_the_end_of_training(steps: Sequence[int], last: int) -> None:
    figure = style.panels(1, 1)
    style.span(figure.axes, DataFrame({"step": steps, "whose": style.OURS}))
    assert figure.axes[0].get_xlim() == pytest.approx((-0.01 * last, 1.01 * last))
