from pathlib import Path

import polars
from polars import DataFrame, col

from src.analysis.figures import theory
from tests.analysis.figures.gathering import KEYS, gathered


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
