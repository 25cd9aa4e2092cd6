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
    for folder in folders.values():  # what else a run may have looked at is not in it
        path = folder / "landscape.parquet"
        rows = polars.read_parquet(path).filter(metric="euclidean")
        huge = rows.with_columns(
            polars.lit(1e6).alias(name) for name in ("loss", "grad_diff", "beta")
        )
        others = [
            huge.with_columns(metric=polars.lit("relative")),
            huge.with_columns(direction=polars.lit("random")),
            huge.with_columns(eta=100 * col("eta")),
        ]
        polars.concat([rows, *(part.select(rows.columns) for part in others)]).write_parquet(path)
    data = gathered(tmp_path, "equal_loss").data
    assert set(data["panel"]) == set(equal_loss.PANELS) and set(data["seeds"]) == {1}
    for model, folder in folders.items():
        tables = {n: polars.read_parquet(folder / f"{n}.parquet") for n in ("landscape", "ics")}
        losses = polars.read_parquet(folder / "metrics.parquet").filter(name="train/loss")
        loss = dict(smoothed(losses).rows())
        along = tables["landscape"].filter(metric="euclidean", direction="gradient")
        along = along.filter(col("eta") < 1)
        expected: dict[str, dict[int, list[float]]] = {panel: {} for panel in equal_loss.PANELS}
        for step in range(100, 3000, 100):
            place, at = round(10 * loss[step]), along.filter(step=step)
            shifts = tables["ics"].filter(col("layer") > 1, step=step)
            change = at["grad_diff"].max()
            found = (
                *(at["loss"].max() - at["loss"].min(), change, change / at["grad_norm"][0]),
                *(at["beta"].max(), shifts["l2"].median(), shifts["relative"].median()),
            )
            if loss[step] < 2.2:  # off the plateau
                for panel, value in zip(expected, found, strict=True):
                    expected[panel].setdefault(place, []).append(value)
        for panel, by_loss in expected.items():
            mine = data.filter(col("panel") == panel, col("variant") == model)
            drawn = {round(10 * at): value for at, value in mine.select("loss", "value").rows()}
            middles = {at: float(polars.Series(v).median()) for at, v in by_loss.items()}
            assert drawn == pytest.approx(middles)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ({"vgg": {2.0: 5, 1.5: 5, 1.0: 2}, "vgg_bn": {1.5: 4, 1.0: 5}}, "at 1.5 nats 15 for"),
        ({"vgg": {2.0: 5}, "vgg_bn": {1.0: 5}}, "no loss in common"),
        ({"vgg": {2.0: 5}}, "no loss in common"),
    ],
)
def test_it_says_what_both_have_at_the_loss_of_most_seeds(losses, told) -> None:
    rows = [
        (
            equal_loss.PANELS[4],
            variant,
            0.1,
            loss,
            (10 if variant == "vgg" else 2) * loss,
            0.0,
            9.0,
            n,
        )
        for variant, found in losses.items()
        for loss, n in found.items()
    ]
    text = equal_loss.told(DataFrame(rows, equal_loss.COLUMNS, orient="row"))
    assert told in text and text.count(";") == 0  # the other panels have nothing
    assert ("15 for standard, 3 for BatchNorm" in text) == ("1.5" in told)
