import pytest
from polars import DataFrame

from src.analysis.figures import moments
from tests.analysis.figures.gathering import KEYS


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
