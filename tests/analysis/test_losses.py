import math

import polars
import pytest

from src.analysis.losses import smoothed


def rows(values: list[float], run: str = "a") -> polars.DataFrame:
    return polars.DataFrame(
        {"run": [run] * len(values), "step": [*range(0, 10 * len(values), 10)], "value": values}
    )


def test_loss_is_the_mean_of_the_five_records_around_a_step():
    found = smoothed(rows([1.0, 2.0, 3.0, 4.0, 10.0, 6.0]))
    assert found.columns == ["step", "loss"]
    assert found.rows() == [(20, pytest.approx(4.0)), (30, pytest.approx(5.0))]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_record_that_is_not_finite_leaves_out_the_steps_around_it(bad):
    found = smoothed(rows([1.0] * 6 + [bad] + [1.0] * 6))
    assert found["step"].to_list() == [20, 30, 90, 100]


def test_runs_do_not_mix():
    both = polars.concat([rows([1.0] * 5), rows([2.0] * 5, "b")])
    assert smoothed(both, ["run"]).rows() == [("a", 20, 1.0), ("b", 20, 2.0)]
