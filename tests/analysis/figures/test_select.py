from collections.abc import Callable
from pathlib import Path

import pytest

from src.analysis.figures import FIGURES, Source
from src.analysis.figures.select import Selection, select
from src.runs.reading import read_runs
from src.runs.store import RunStore

CELLS = [{"model.name": model, "optim.lr": 0.1} for model in ("vgg", "vgg_bn", "vgg_noisy")]


@pytest.fixture
def made(run: Callable[..., Path], tmp_path: Path) -> Callable[..., None]:
    def make(model: str, *seeds: int, **options: object) -> None:
        for seed in seeds:
            run(tmp_path, model, seed=seed, tables=(), **options)

    return make


def chosen(root: Path) -> Selection:
    found = select(read_runs(root).table, CELLS)
    assert found is not None
    return found


def test_runs_of_different_settings_are_never_put_together(made, tmp_path: Path) -> None:
    made("vgg", 0, 1)
    made("vgg_bn", 0, 1)
    made("vgg", 2, 3, 4, config={"data.name": "digits"})
    found = chosen(tmp_path)
    assert found.runs["data.name"].unique().to_list() == ["cifar10"]
    assert (len(found.runs), found.others) == (4, 3)


def test_the_setting_with_more_of_the_cells_is_drawn_even_at_a_smaller_scale(
    made, tmp_path
) -> None:
    made("vgg", 0)
    made("vgg_bn", 0)
    made("vgg", 1, 2, 3, scale="paper", steps=15_000)
    assert chosen(tmp_path).runs["scale"].unique().to_list() == ["small"]


def test_of_two_scales_with_all_cells_the_larger_is_drawn(made, tmp_path: Path) -> None:
    for options in ({}, {"scale": "paper", "steps": 15_000}):
        made("vgg", 0, 1, **options)
        made("vgg_bn", 0, 1, **options)
    assert chosen(tmp_path).runs["scale"].unique().to_list() == ["paper"]


def test_of_several_noises_the_papers_is_drawn(made, tmp_path: Path) -> None:
    made("vgg", 0)
    made("vgg_noisy", 0, 1, 2, config={"noise.n_mu": 0.25})
    made("vgg_noisy", 0)
    noisy = chosen(tmp_path).runs
    assert set(noisy["noise.n_mu"]) == {0.5} and len(noisy) == 2


def test_noise_settings_do_not_part_a_network_without_noise_from_one_with(made, tmp_path) -> None:
    made("vgg", 0)
    made("vgg_noisy", 0, config={"noise.n_mu": 0.25})
    assert len(chosen(tmp_path).runs) == 2


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_run_that_has_not_ended_is_not_drawn(made, tmp_path: Path, state: str) -> None:
    made("vgg", 0, status={"state": state})
    assert select(read_runs(tmp_path).table, CELLS) is None


def test_a_diverged_run_is_drawn(made, tmp_path: Path) -> None:
    made("vgg", 0, diverged_at=700)
    assert chosen(tmp_path).runs["state"].to_list() == ["diverged"]


def test_no_runs_no_selection(tmp_path: Path) -> None:
    assert select(read_runs(tmp_path).table, CELLS) is None


def test_the_setting_says_the_scale_and_what_differs_from_the_papers(made, tmp_path: Path) -> None:
    made("vgg", 0, 1, config={"optim.weight_decay": 5e-4, "data.name": "digits"})
    told = chosen(tmp_path).setting()
    assert told == (
        "digits (the paper: cifar10), scale small, depth 16, width 0.25, "
        "3,000 of the paper's 15,000 steps, optim.weight_decay=0.0005, 2 seeds"
    )


def test_the_setting_gives_the_probes_precision_once_and_as_it_is_asked_for(made, tmp_path) -> None:
    probed = {name: {"precision": "float64"} for name in ("ics", "landscape")}
    made("vgg", 0, status={"probes": probed})
    assert "steps, probes.precision=float64, 1 seed" in chosen(tmp_path).setting()


def test_the_setting_says_when_kinds_of_machine_are_mixed(made, tmp_path: Path) -> None:
    made("vgg", 0)
    made("vgg", 1, status={"device": "cuda (NVIDIA H100)"})
    assert "on cpu and cuda (NVIDIA H100)" in chosen(tmp_path).setting()


def test_a_figure_draws_its_own_sweep_alone_once_that_was_started(run, tmp_path: Path) -> None:
    mine = [run(tmp_path, model, tables=("metrics",)).name for model in ("vgg", "vgg_bn")]
    other = run(tmp_path, "vgg", seed=5, tables=("metrics",)).name
    figure = next(figure for figure in FIGURES if figure.name == "fig1_training")

    def taken() -> set[str]:
        found = figure.gathered(Source(tmp_path, read_runs(tmp_path)))
        assert found is not None
        return set(found.selection.runs["run"])

    assert taken() == {*mine, other}
    cells = [{"run": name, "probes": {}, "overrides": []} for name in mine]
    RunStore(tmp_path).add_to_sweep(figure.sweep, cells)
    assert taken() == set(mine)
