from collections.abc import Callable
from pathlib import Path

import polars
import pytest
from polars import col

from src.analysis.figures.style import OURS
from tests.analysis.figures.gathering import gathered


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
