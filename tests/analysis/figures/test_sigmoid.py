from pathlib import Path

import polars
from polars import col

from src.analysis.figures.style import OURS
from tests.analysis.figures.gathering import gathered


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
