import math

import pytest
from polars import DataFrame, col

from src.analysis.figures import ridgelines


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


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_activations_are_probed_in_pairs_of_steps(every: int) -> None:
    steps = sorted({step for at in range(0, 299, every) for step in (at, at + 1)})
    first = ridgelines.probed(steps[::-1])
    assert first == list(range(0, 299, max(2, every)))
    assert all(step + 1 in steps for step in first)


def test_the_last_step_is_probed_without_a_pair() -> None:
    assert ridgelines.probed([0, 1, 299]) == [0, 299]
