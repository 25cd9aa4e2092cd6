import math

import pytest
from polars import DataFrame

from src.analysis.figures import step_sizes
from tests.analysis.figures.gathering import KEYS


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
