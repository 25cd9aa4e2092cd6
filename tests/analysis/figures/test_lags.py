from polars import DataFrame, col

from src.analysis.figures.lags import by_lag

KEYS = {"lr": 0.1, "layer": 2, "unit": 0, "variance": 1.0}


def test_it_is_the_change_at_each_site_by_how_many_steps_lie_between() -> None:
    rows = [
        {**KEYS, "run": model, "variant": model, "site": site, "step": step, "mean": mean * scale}
        for step, mean in ((0, 0.0), (1, 0.1), (100, 0.5), (500, 2.0), (600, 2.0))
        for model, scale in (("vgg", 1.0), ("vgg_bn", 0.1))
        for site in ("before_norm", "after_noise")
        if model == "vgg_bn" or site == "after_noise"
    ]
    rows += [
        {**row, "mean": 3 * row["mean"], "variant": "vgg_noisy", "run": "vgg_noisy"}
        for row in rows
        if row["site"] == "after_noise" and row["variant"] == "vgg"
    ]
    every = by_lag(DataFrame(rows), last=600).sort("panel", "variant", "lag")
    found = every.filter(site="before_norm")
    whole = found.filter(panel="all of training").select("variant", "lag", "value").rows()
    expected = [(1, 0.1), (100, 0.25), (500, 1.75)]
    assert [(model, lag, round(value, 9)) for model, lag, value in whole] == [
        *(("vgg", lag, value) for lag, value in expected),
        *(("vgg_bn", lag, round(0.1 * value, 9)) for lag, value in expected),
    ]
    late = found.filter(panel="its last two thirds").select("variant", "lag", "value").rows()
    assert late == [("vgg", 100, 0.0), ("vgg_bn", 100, 0.0)]
    entering = every.filter(site="after_noise", panel="all of training", lag=1)
    moved = entering.select("variant", col("value").round(9)).rows()
    assert moved == [("vgg", 0.1), ("vgg_bn", 0.01), ("vgg_noisy", 0.3)]
