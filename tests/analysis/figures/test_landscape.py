import math
from pathlib import Path

import polars
from polars import DataFrame, col

from src.analysis.figures import Source, bands, style
from src.analysis.figures.style import OURS, PAPERS
from src.runs.reading import read_runs
from tests.analysis.figures.gathering import BY_NAME, KEYS, gathered


def test_the_landscapes_band_is_the_extremes_over_step_sizes_and_beta_the_greatest() -> None:
    rows = DataFrame(
        [
            {**KEYS, "step": 0, "loss": 2.0, "grad_diff": 5.0, "beta": 50.0},
            {**KEYS, "step": 0, "loss": 1.5, "grad_diff": 9.0, "beta": 22.5},
        ]
    )
    found = {row["panel"]: row for row in bands.extremes(rows).iter_rows(named=True)}
    assert (found[bands.LOSS]["low"], found[bands.LOSS]["high"]) == (1.5, 2.0)
    assert (found[bands.GRADIENT]["low"], found[bands.GRADIENT]["high"]) == (5.0, 9.0)
    assert found[bands.BETA]["high"] == 50.0


def test_a_point_that_overflowed_is_beyond_every_finite_one() -> None:
    rows = DataFrame(
        [
            {**KEYS, "step": 0, "loss": value, "grad_diff": value, "beta": value}
            for value in (1.0, math.nan)
        ]
    )
    found = bands.extremes(rows)
    assert found["high"].to_list() == [math.inf] * 3 and found["low"].to_list() == [1.0] * 3


def test_only_the_papers_range_of_step_sizes_is_in_the_band(run, tmp_path: Path) -> None:
    folder = run(tmp_path, "vgg", tables=("metrics", "landscape"))
    path = folder / "landscape.parquet"
    wrote = polars.read_parquet(path)
    far = wrote.with_columns(eta=100 * col("eta"), grad_diff=polars.lit(1e9))
    other = wrote.with_columns(metric=polars.lit("relative"), grad_diff=polars.lit(1e9))
    polars.concat([wrote, far, other]).write_parquet(path)
    data = gathered(tmp_path, "fig4_landscape").data
    mine = data.filter(col("panel") == bands.GRADIENT, col("whose") == OURS)
    assert (
        mine["high"].to_list()
        == wrote.group_by("step", maintain_order=True)
        .agg(col("grad_diff").max())["grad_diff"]
        .to_list()
    )


def test_each_network_is_drawn_beside_batchnorm_alone(run, tmp_path: Path) -> None:
    for model in ("vgg", "vgg_bn", "vgg_l1", "vgg_linf"):
        run(tmp_path, model, tables=("metrics", "landscape"))
    found = gathered(tmp_path, "fig12_landscape_lp")
    axes = BY_NAME["fig12_landscape_lp"].draw(found.data).axes
    assert [ax.get_ylabel() for ax in axes[::4]] == ["standard", "l1 norm", "l-infinity norm"]
    for row, model in enumerate(("vgg", "vgg_l1", "vgg_linf")):
        colours = {line.get_color() for line in axes[4 * row + 1].lines}
        assert colours == {style.look(model).colour, style.look("vgg_bn").colour}
    assert {ax.get_yscale() for ax in axes[3::4]} == {"log"}
    assert len({ax.get_ylim() for ax in axes[3::4]}) == 1


def test_a_spike_of_the_papers_leaves_room_for_ours(run, tmp_path: Path) -> None:
    config = {"data.name": "linear"}
    for model in ("dln", "dln_bn"):
        run(tmp_path, model, 1e-6, config=config, tables=("metrics", "landscape"))
    data = gathered(tmp_path, "fig10_landscape_dln").data
    for ax in BY_NAME["fig10_landscape_dln"].draw(data).axes:
        part = data.filter(col("panel") == ax.get_title())
        highest = part.group_by("whose").agg(polars.max_horizontal("value", "high").max())
        most = dict(highest.rows())
        assert most[OURS] < ax.get_ylim()[1] <= 10.001 * most[OURS] < most[PAPERS]


def test_the_relative_metric_has_a_figure_of_its_own(run, tmp_path: Path) -> None:
    folder = run(tmp_path, "vgg", tables=("metrics", "landscape"))
    path = folder / "landscape.parquet"
    relative = polars.when(metric="relative").then(7.0).otherwise(col("beta"))
    polars.read_parquet(path).with_columns(beta=relative).write_parquet(path)
    data = gathered(tmp_path, "fig4_relative").data
    assert set(data.filter(col("panel") == bands.BETA)["value"]) == {7.0}


def test_finer_steps_are_no_copy_of_fig_4(run, tmp_path: Path) -> None:
    """Where its sweep was never started, runs of other sweeps count, but not with other steps."""
    run(tmp_path, "vgg", tables=("metrics", "landscape"))
    source = Source(tmp_path, read_runs(tmp_path))
    assert BY_NAME["fig4_landscape"].gathered(source) is not None
    assert BY_NAME["fig4_confounds"].gathered(source) is None
