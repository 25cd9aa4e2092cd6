from pathlib import Path

import polars
import pytest
from polars import DataFrame, col

from src.analysis.figures import Source, maps
from src.runs.reading import read_runs
from tests.analysis.figures.gathering import BY_NAME, gathered


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
    source = Source(tmp_path, read_runs(tmp_path))
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


def test_a_setting_that_is_on_goes_by_its_name(run, tmp_path: Path) -> None:
    for relative in (False, True):
        run(tmp_path, "vgg_plain_noisy", config={"noise.relative": relative}, tables=("metrics",))
    levels = gathered(tmp_path, "noise_sensitivity").data["level"].to_list()
    assert sorted(levels) == ["relative", "the default"]


def test_the_noise_s_strengths_stand_in_their_order(run, tmp_path: Path) -> None:
    for strength in (0.5, 1.0, 2.0, 10.0):
        run(tmp_path, "vgg_noisy", config={"noise.strength": strength}, tables=("metrics",))
    figure = maps.draw(gathered(tmp_path, "noise_sensitivity").data)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["strength 0.5", "the default", "strength 2", "strength 10"]
