"""The numbers behind each family of figures, against hand-made rows."""

import math
from collections.abc import Callable
from pathlib import Path

import polars
import pytest
from polars import DataFrame, col

from src.analysis.figures import (
    FIGURES,
    Source,
    dots,
    landscape,
    maps,
    moments,
    ridgelines,
    smallest_step,
    step_sizes,
    style,
    theory,
)
from src.analysis.figures.figure import Gathered
from src.analysis.figures.style import OURS, PAPERS
from src.runs.reading import read_rows, read_runs

BY_NAME = {figure.name: figure for figure in FIGURES}
KEYS = {"run": "a", "variant": "vgg", "lr": 0.1}


def gathered(root: Path, name: str) -> Gathered:
    found = BY_NAME[name].gathered(Source(root, read_runs(root), []))
    assert found is not None
    return found


def test_training_accuracy_is_the_mean_of_its_windows_in_per_cent(run, tmp_path: Path) -> None:
    folder = run(tmp_path, "vgg_bn", tables=("metrics",))
    run(tmp_path, "vgg", tables=("metrics",))
    data = gathered(tmp_path, "fig1_training").data
    mine = data.filter(
        col("whose") == OURS, col("variant") == "vgg_bn", col("panel").str.starts_with("training")
    )
    seen = polars.read_parquet(folder / "metrics.parquet").filter(name="train/accuracy")
    first = seen.filter(col("step") < 100)["value"].mean()
    assert mine.select("step", "value").row(0) == pytest.approx((50, 100 * first))
    assert len(mine) == 30


def test_test_accuracy_is_what_was_measured(run: Callable[..., Path], tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.5, 0.6, 0.9)):
        run(tmp_path, "vgg_bn", seed=seed, tables=("metrics",), accuracy=accuracy)
    data = gathered(tmp_path, "fig1_training").data
    mine = data.filter(col("whose") == OURS, col("panel") == "test accuracy (%)")
    assert not mine.is_empty()
    for row in mine.select("low", "value", "high", "seeds").rows():
        assert row == pytest.approx((42.5, 51, 76.5, 3))


def test_the_sigmoid_network_is_drawn_at_the_rate_its_claim_is_judged_at(run, tmp_path) -> None:
    for lr in (0.01, 0.1, 0.5):
        for model in ("mlp", "mlp_bn"):
            config = {"data.name": "fashion_mnist"}
            run(tmp_path, model, lr=lr, tables=("metrics",), config=config)
    found = gathered(tmp_path, "ioffe_fig1")
    assert set(found.data["lr"]) == {0.1} and set(found.data["whose"]) == {OURS}
    assert found.selection.setting().startswith("fashion_mnist (the paper: mnist), ")


def test_the_percentiles_of_a_sigmoid_are_of_one_unit_of_one_seed(run, tmp_path: Path) -> None:
    for seed, first in ((0, 5), (1, 2)):  # each seed records units of its own
        folder = run(tmp_path, "mlp", seed=seed, tables=("metrics", "activations"))
        path = folder / "activations.parquet"
        moved = (first + col("unit")).alias("unit")
        value = (10.0 * seed + first + col("unit")).alias("q50")
        polars.read_parquet(path).with_columns(moved, value).write_parquet(path)
    data = gathered(tmp_path, "ioffe_fig1").data
    mine = data.filter(col("panel") == "input of unit 5 (seed 0), standard, q50")
    assert set(mine["value"]) == {5.0} and set(mine["seeds"]) == {1}
    assert not data["panel"].str.contains("seed 1").any()


def test_shift_is_what_the_probe_wrote(run: Callable[..., Path], tmp_path: Path) -> None:
    folder = run(tmp_path, "vgg_bn", tables=("metrics", "ics"))
    run(tmp_path, "vgg", tables=("metrics", "ics"))
    data = gathered(tmp_path, "fig3_ics_vgg").data
    for quantity, name in (("l2", "l2 difference"), ("cosine", "cosine")):
        mine = data.filter(
            col("panel") == f"LR 0.1: layer 5, {name}",
            col("variant") == "vgg_bn",
            col("whose") == OURS,
        )
        wrote = read_rows(tmp_path, [folder.name], "ics").filter(col("layer") == 5)
        assert mine["value"].to_list() == wrote[quantity].to_list()


def test_the_landscapes_band_is_the_extremes_over_step_sizes_and_beta_the_greatest() -> None:
    rows = DataFrame(
        [
            {**KEYS, "step": 0, "loss": 2.0, "grad_diff": 5.0, "beta": 50.0},
            {**KEYS, "step": 0, "loss": 1.5, "grad_diff": 9.0, "beta": 22.5},
        ]
    )
    found = {row["panel"]: row for row in landscape.extremes(rows).iter_rows(named=True)}
    assert (found[landscape.LOSS]["low"], found[landscape.LOSS]["high"]) == (1.5, 2.0)
    assert (found[landscape.GRADIENT]["low"], found[landscape.GRADIENT]["high"]) == (5.0, 9.0)
    assert found[landscape.BETA]["high"] == 50.0


def test_a_point_that_overflowed_is_beyond_every_finite_one() -> None:
    rows = DataFrame(
        [
            {**KEYS, "step": 0, "loss": value, "grad_diff": value, "beta": value}
            for value in (1.0, math.nan)
        ]
    )
    found = landscape.extremes(rows)
    assert found["high"].to_list() == [math.inf] * 3 and found["low"].to_list() == [1.0] * 3


def test_only_the_papers_range_of_step_sizes_is_in_the_band(run, tmp_path: Path) -> None:
    folder = run(tmp_path, "vgg", tables=("metrics", "landscape"))
    path = folder / "landscape.parquet"
    wrote = polars.read_parquet(path)
    far = wrote.with_columns(eta=100 * col("eta"), grad_diff=polars.lit(1e9))
    other = wrote.with_columns(metric=polars.lit("relative"), grad_diff=polars.lit(1e9))
    polars.concat([wrote, far, other]).write_parquet(path)
    data = gathered(tmp_path, "fig4_landscape").data
    mine = data.filter(col("panel") == landscape.GRADIENT, col("whose") == OURS)
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


def test_gradient_differences_over_step_sizes() -> None:
    rows = DataFrame(
        [
            {**KEYS, "step": 0, "eta": eta, "grad_diff": eta * factor}
            for factor in (1.0, 2.0, 6.0)
            for eta in (0.1, 0.2)
        ]
    )
    found = step_sizes.by_step_size(rows)
    assert found.select("eta", "grad_diff", "low", "high", "seeds").rows() == [
        (0.1, pytest.approx(0.2), pytest.approx(0.1), pytest.approx(0.6), 3),
        (0.2, pytest.approx(0.4), pytest.approx(0.2), pytest.approx(1.2), 3),
    ]


def test_where_gradient_differences_overflow_is_said() -> None:
    rows = DataFrame(
        [
            {**KEYS, "step": step, "eta": eta, "grad_diff": math.inf if eta * step > 2.5 else eta}
            for step in (0, 10, 20)
            for eta in (0.1, 0.2)
        ]
    )
    told = step_sizes.told(step_sizes.by_step_size(rows))
    assert told.endswith("median over training, standard overflows at 1 of 3 steps.")


def test_beta_by_the_smallest_step_looked_at() -> None:
    betas = {0.1: (8.0, 2.0, math.nan), 0.2: (4.0, 5.0, 1.0), 0.4: (2.0, 3.0, 1.0)}  # by step
    rows = DataFrame(
        [
            {**KEYS, "run": run, "step": step, "eta": eta, "beta": factor * beta}
            for run, factor in (("a", 1.0), ("b", 10.0))
            for eta, at in betas.items()
            for step, beta in enumerate(at)
        ]
    )
    found = smallest_step.by_smallest_step(rows)
    assert found.select("smallest_step", "beta", "low", "high", "seeds").rows() == [
        (0.1, 44.0, 8.0, 80.0, 2),  # 8, 5, beyond all
        (0.2, 22.0, 4.0, 40.0, 2),
        (0.4, 11.0, 2.0, 20.0, 2),
    ]


def test_beta_is_that_of_networks_that_train_where_most_do(run, tmp_path: Path) -> None:
    tables = ("metrics", "landscape")
    for lr, accuracies in {0.1: (0.6, 0.5, 0.1), 0.3: (0.6, 0.1)}.items():
        for seed, accuracy in enumerate(accuracies):
            run(tmp_path, "vgg_bn", lr, seed, tables=tables, accuracy=accuracy)
    run(tmp_path, "vgg_bn", 0.5, tables=tables, accuracy=0.6, diverged_at=2900)
    found = gathered(tmp_path, "smallest_step")
    assert sorted(found.selection.runs.select("optim.lr", "seed").rows()) == [(0.1, 0), (0.1, 1)]
    assert found.data["smallest_step"].to_list() == pytest.approx([0.05, 0.1, 0.2, 0.4])
    assert found.data["seeds"].to_list() == [2] * 4


def test_ridges_are_densities_of_the_same_unit_in_every_network() -> None:
    edges, counts = [float(n) for n in range(129)], [1] * 64 + [3] * 64
    rows = DataFrame(
        [
            {"variant": variant, "lr": 0.1, "layer": 3, "unit": unit, "step": step}
            | {"edges": edges, "counts": counts}
            for variant, units in (("vgg", (4, 7)), ("vgg_bn", (7, 9)))
            for unit in units
            for step in (0, 1, 100, 101)
        ]
    )
    found = ridgelines.ridges(rows)
    assert found["unit"].unique().to_list() == [7]
    assert found["step"].unique().sort().to_list() == [0, 100]
    one = found.filter(col("variant") == "vgg", col("step") == 0)
    assert one["at"].to_list() == [2.0 * n + 1 for n in range(64)]
    assert one["density"].to_list() == pytest.approx([1 / 256] * 32 + [3 / 256] * 32)


def test_an_overflowed_or_constant_distribution_has_no_ridge() -> None:
    common = {"variant": "vgg", "lr": 0.1, "layer": 3, "unit": 0}
    rows = DataFrame(
        [
            common | {"step": 0, "edges": [math.nan] * 129, "counts": [0] * 128},
            common | {"step": 100, "edges": [1.0] * 129, "counts": [9] + [0] * 127},
        ]
    )
    assert ridgelines.ridges(rows).is_empty()


def test_moments_change_in_one_step_and_since_the_start() -> None:
    means = {0: 1.0, 1: 1.25, 100: -2.0, 101: -2.5}
    rows = DataFrame(
        [
            {**KEYS, "layer": 2, "unit": unit, "step": step, "mean": mean, "variance": 2 * mean}
            for unit in (0, 1)
            for step, mean in means.items()
        ]
    )
    found = {
        (q, s): v for q, s, v in moments.changes(rows).select("quantity", "step", "value").rows()
    }
    assert found == {
        ("mean_step", 0): 0.25,
        ("mean_step", 100): 0.5,
        ("mean_start", 100): 3.0,
        ("variance_step", 0): 0.5,
        ("variance_step", 100): 1.0,
        ("variance_start", 100): 6.0,
    }


def test_distributions_move_over_their_spread_and_the_standard_one_stands_in_each_panel() -> None:
    def at(site: str, variant: str, run: str, change: float) -> list[dict[str, object]]:
        keys = {"run": run, "variant": variant, "lr": 0.1, "site": site}
        return [
            keys | {"layer": layer, "unit": unit, "step": step, "mean": mean, "variance": 4.0}
            for layer, times in ((1, 1), (2, 1), (3, 50))
            for unit in (0, 1, 2)
            for step, mean in ((100, 7.0), (101, 7.0 + 2 * change * times))
        ]

    sites = {"before_norm": 0.3, "after_norm": 0.2, "after_noise": 0.1}
    rows = at("after_noise", "vgg", "a", 0.4) + at("before_norm", "vgg", "a", 0.9)
    for site, change in sites.items():
        rows += at(site, "vgg_bn", "b", change)
    found = moments.over_spread(DataFrame(rows))
    moved = {(p, v): value for p, v, value in found.select("panel", "variant", "value").rows()}
    panels = list(dict.fromkeys(found["panel"]))
    assert moved == pytest.approx(
        {(panel, "vgg"): 0.4 for panel in panels}
        | {
            (panel, "vgg_bn"): change
            for panel, change in zip(panels, (0.3, 0.2, 0.1, 0.1), strict=True)
        }
    )


def test_a_map_counts_diverged_runs_and_has_the_median_of_the_others() -> None:
    finals = DataFrame(
        [
            {"variant": "vgg", "lr": 0.1, "level": "x", "state": "completed"}
            | {"accuracy": accuracy, "test_accuracy": accuracy - 5, "minibatch": accuracy + 5}
            for accuracy in (50.0, 70.0)
        ]
        + [
            {"variant": "vgg", "lr": lr, "level": "x", "state": "diverged"}
            | {"accuracy": None, "test_accuracy": None, "minibatch": None}
            for lr in (0.1, 0.5)
        ]
    )
    assert maps.cells(finals).select(
        "lr", "accuracy", "low", "high", "minibatch", "seeds", "diverged"
    ).rows() == [
        (0.1, 60.0, 50.0, 70.0, 65.0, 3, 1),
        (0.5, None, None, None, None, 1, 1),
    ]


def test_a_map_gives_the_range_over_seeds_where_one_is_far_from_the_others() -> None:
    finals = DataFrame(
        [
            {"variant": "vgg", "lr": lr, "level": "vgg", "state": "completed"}
            | {"accuracy": accuracy, "test_accuracy": accuracy, "minibatch": accuracy}
            for lr, accuracies in {0.1: (60.0, 62.0, 69.0), 0.3: (10.0, 10.0, 34.0)}.items()
            for accuracy in accuracies
        ]
    )
    figure = maps.draw(maps.cells(finals))
    assert [text.get_text() for text in figure.axes[0].texts] == ["62", "10\n10-34"]


def test_a_map_has_the_accuracies_the_runs_ended_with(run, tmp_path: Path) -> None:
    for gain, accuracy in ((0.5, 0.3), (1.0, 0.8)):
        for lr in (0.1, 0.5):
            config = {"init.gain": gain}
            run(tmp_path, "vgg", lr, config=config, accuracy=accuracy, tables=("metrics",))
    run(tmp_path, "vgg", 0.5, 7, config={"init.gain": 1.0}, diverged_at=30, tables=("metrics",))
    data = gathered(tmp_path, "init_sensitivity").data
    assert data.select("lr", "level", "accuracy", "seeds", "diverged").rows() == [
        (0.1, "gain 0.5", pytest.approx(30), 1, 0),
        (0.1, "the default", pytest.approx(80), 1, 0),
        (0.5, "gain 0.5", pytest.approx(30), 1, 0),
        (0.5, "the default", pytest.approx(80), 2, 1),
    ]


def test_a_map_of_settings_may_have_one_rate_and_one_of_variants_not(run, tmp_path: Path) -> None:
    for model, gain in (("vgg", 1.0), ("vgg_bn", 1.0), ("vgg", 0.5)):
        run(tmp_path, model, 0.1, config={"init.gain": gain}, tables=("metrics",))
    source = Source(tmp_path, read_runs(tmp_path), [])
    assert BY_NAME["lr_sensitivity"].gathered(source) is None
    data = gathered(tmp_path, "init_sensitivity").data
    assert data.select("variant", "lr", "level").rows() == [
        ("vgg", 0.1, "gain 0.5"),
        ("vgg", 0.1, "the default"),
        ("vgg_bn", 0.1, "the default"),
    ]


def test_a_map_has_the_mean_of_the_minibatches_of_the_last_tenth(run, tmp_path: Path) -> None:
    for gain in (0.5, 1.0):
        for lr in (0.1, 0.5):
            made = run(tmp_path, "vgg", lr, config={"init.gain": gain}, tables=("metrics",))
            late = {"step": [2699, 2700, 2850, 2999], "value": [0.9, 0.2, 0.3, 0.7]}
            rows = polars.read_parquet(made / "metrics.parquet")
            late = DataFrame(late).with_columns(name=polars.lit("train/accuracy"))
            others = rows.filter(col("name") != "train/accuracy")
            late = late.select(col(name).cast(kind) for name, kind in rows.schema.items())
            polars.concat([others, late]).write_parquet(made / "metrics.parquet")
    data = gathered(tmp_path, "init_sensitivity").data
    assert data["minibatch"].to_list() == pytest.approx([40] * 4)


def test_regularisers_are_told_apart_and_their_accuracies_are_the_runs_last(run, tmp_path) -> None:
    for seed, accuracy in enumerate((0.6, 0.8)):
        for dropout, decay, gain in ((0.0, 0.0, 0.0), (0.5, 5e-4, 0.1)):
            config = {"model.dropout": dropout, "optim.weight_decay": decay}
            run(
                *(tmp_path, "vgg", 0.1, seed),
                config=config,
                accuracy=accuracy + gain,
                tables=("metrics",),
            )
    data = gathered(tmp_path, "regularisation").data
    assert data.select("level", "accuracy", "test_accuracy", "test_low", "seeds").rows() == [
        ("dropout 0.5, weight decay 0.0005", *map(pytest.approx, (80, 68, 59.5)), 2),
        ("the default", *map(pytest.approx, (70, 59.5, 51)), 2),
    ]
    rows = dots.draw(data).axes[0].get_yticklabels()
    assert [row.get_text() for row in rows] == ["the default", "dropout 0.5, weight decay 0.0005"]


def test_runs_that_diverged_beside_others_are_counted(run, tmp_path: Path) -> None:
    for dropout in (0.0, 0.5):
        config = {"model.dropout": dropout}
        run(tmp_path, "vgg", 0.1, 0, config=config, accuracy=0.8, tables=("metrics",))
    run(tmp_path, "vgg", 0.1, 1, config=config, diverged_at=700, tables=("metrics",))
    data = gathered(tmp_path, "regularisation").data
    texts = [text.get_text() for ax in dots.draw(data).axes for text in ax.texts]
    assert texts == ["  1/2 div."] * 2
    told = dots.told(data)
    assert told.count("diverged") == 1 and "standard, the default: 80, 68" in told
    assert "1 of 2 diverged" in told


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_activations_are_probed_in_pairs_of_steps(every: int) -> None:
    steps = sorted({step for at in range(0, 299, every) for step in (at, at + 1)})
    first = ridgelines.probed(steps[::-1])
    assert first == list(range(0, 299, max(2, every)))
    assert all(step + 1 in steps for step in first)
    assert ridgelines.probed([0, 1, 299]) == [0, 299]


def test_a_part_of_the_theorem_is_its_median_over_layers() -> None:
    rows = DataFrame(
        [
            {**KEYS, "step": 0, "quantity": "mean_share", "value": value}
            for value in (0.5, 0.75, 100.0)
        ]
    )
    assert theory.parts(rows)["value"].to_list() == [0.75]


def test_small_shares_of_the_theorem_have_an_axis_of_their_own(run, tmp_path: Path) -> None:
    path = run(tmp_path, "vgg_bn", tables=("metrics", "theory")) / "theory.parquet"
    share = col("quantity").str.ends_with("_share")
    small = polars.when(share).then(1e-4 + 1e-8 * col("step")).otherwise(col("value"))
    polars.read_parquet(path).with_columns(value=small).write_parquet(path)
    ratio, factor, *shares = theory.draw(gathered(tmp_path, "theory").data).axes
    assert ratio.get_ylim() == factor.get_ylim() and ratio.get_ylim()[1] >= 1
    assert all(ax.get_ylim()[1] < 1e-3 for ax in shares)


def test_the_relative_metric_has_a_figure_of_its_own(run, tmp_path: Path) -> None:
    folder = run(tmp_path, "vgg", tables=("metrics", "landscape"))
    path = folder / "landscape.parquet"
    relative = polars.when(metric="relative").then(7.0).otherwise(col("beta"))
    polars.read_parquet(path).with_columns(beta=relative).write_parquet(path)
    data = gathered(tmp_path, "fig4_relative").data
    assert set(data.filter(col("panel") == landscape.BETA)["value"]) == {7.0}
