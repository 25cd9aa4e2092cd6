import math
from pathlib import Path

import polars
import pytest
from polars import DataFrame, col

from src.analysis.figures import equal_loss
from src.analysis.losses import smoothed
from tests.analysis.figures.gathering import gathered


def test_each_run_counts_once_at_each_tenth_of_a_nat() -> None:
    seen = {  # by run: the loss and the value at each step
        "a": [(1.04, 1.0), (0.96, 3.0), (1.0, 4.0), (0.5, math.inf)],
        "b": [(1.0, 9.0), (0.5, math.inf), (0.5, math.inf), (2.0, 7.0)],
    }
    steps = [(run, step, *at) for run, found in seen.items() for step, at in enumerate(found)]
    rows = DataFrame(steps, ["run", "step", "loss", "value"], orient="row")
    keys = {"panel": "p", "variant": "vgg", "lr": 0.1}
    values = rows.drop("loss").with_columns(polars.lit(value).alias(k) for k, value in keys.items())
    found = equal_loss.by_loss(values, rows.drop("value"))
    assert found.drop(*keys).rows() == [
        (pytest.approx(1.0), 6.0, 3.0, 9.0, 2),
        (pytest.approx(2.0), 7.0, 7.0, 7.0, 1),  # at half a nat it lies beyond all
    ]


def test_it_draws_what_the_probes_found_at_the_loss_around_their_step(run, tmp_path: Path) -> None:
    folders = {model: run(tmp_path, model) for model in ("vgg", "vgg_bn")}
    data = gathered(tmp_path, "equal_loss").data
    assert set(data["panel"]) == set(equal_loss.PANELS) and set(data["seeds"]) == {1}
    for model, folder in folders.items():
        tables = {n: polars.read_parquet(folder / f"{n}.parquet") for n in ("landscape", "ics")}
        losses = polars.read_parquet(folder / "metrics.parquet").filter(name="train/loss")
        loss = dict(smoothed(losses).rows())
        along = tables["landscape"].filter(metric="euclidean")
        expected: dict[str, dict[int, list[float]]] = {panel: {} for panel in equal_loss.PANELS}
        for step in range(100, 3000, 100):
            place, at = round(10 * loss[step]), along.filter(step=step)
            shift = tables["ics"].filter(col("layer") > 1, step=step)["l2"].median()
            found = (at["loss"].max() - at["loss"].min(), at["grad_diff"].max(), at["beta"].max())
            for panel, value in zip(expected, (*found, shift), strict=True):
                expected[panel].setdefault(place, []).append(value)
        for panel, by_loss in expected.items():
            mine = data.filter(col("panel") == panel, col("variant") == model)
            drawn = {round(10 * at): value for at, value in mine.select("loss", "value").rows()}
            middles = {at: float(polars.Series(v).median()) for at, v in by_loss.items()}
            assert drawn == pytest.approx(middles)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ({"vgg": [2.0, 1.0], "vgg_bn": [1.0, 0.5]}, "both have, 1.0 to 1.0 nats: width of the"),
        ({"vgg": [2.0], "vgg_bn": [1.0]}, "no loss in common"),
        ({"vgg": [2.0]}, "but one network"),
    ],
)
def test_it_says_how_the_networks_compare_where_they_can_be(losses, told) -> None:
    rows = [
        (panel, variant, 0.1, loss, 4.0 if variant == "vgg" else 2.0, 0.0, 9.0, 5)
        for panel in equal_loss.PANELS
        for variant, found in losses.items()
        for loss in found
    ]
    text = equal_loss.told(DataFrame(rows, equal_loss.COLUMNS, orient="row"))
    assert told in text
    assert text.count(" 0.5") == (len(equal_loss.PANELS) if "both" in told else 0)
