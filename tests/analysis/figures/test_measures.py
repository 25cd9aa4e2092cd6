from pathlib import Path

import polars
from polars import col

from src.analysis.figures.style import OURS
from tests.analysis.figures.gathering import BY_NAME, gathered

FROM_HE = {"init.name": "he_normal"}


def test_each_row_is_of_its_own_initialisation_and_direction(run, tmp_path: Path) -> None:
    for model in ("vgg", "vgg_bn"):
        run(tmp_path, model)  # from Glorot's, which this figure leaves out
        path = run(tmp_path, model, config=FROM_HE) / "landscape.parquet"
        along = polars.read_parquet(path).filter(metric="euclidean", direction="gradient")
        aside = along.with_columns(beta=polars.lit(7.0), direction=polars.lit("random"))
        relative = aside.with_columns(beta=polars.lit(1e6), metric=polars.lit("relative"))
        far = aside.with_columns(beta=polars.lit(1e6), eta=100 * col("eta"))
        polars.concat([along, aside, relative, far]).write_parquet(path)
    found = gathered(tmp_path, "fig4_random")
    assert set(found.selection.runs["init.name"]) == {"he_normal"}
    assert set(found.data["whose"]) == {OURS}
    panels = found.data.partition_by("panel", as_dict=True)
    assert set(panels["random: effective beta",]["value"]) == {7.0}
    assert 7.0 not in set(panels["gradient: effective beta",]["value"])


def test_measures_are_those_of_the_table(run, tmp_path: Path) -> None:
    table = polars.read_parquet(run(tmp_path, "vgg") / "landscape.parquet")
    at = table.filter(metric="euclidean", direction="gradient", step=300)
    data = gathered(tmp_path, "fig4_measures").data.filter(step=300)
    found = dict(data.select("panel", "value").rows())
    walked = at["grad_diff"] / at["beta"]
    assert (
        found["from Glorot's: Lipschitz estimate of the loss"]
        == ((at["loss"] - at["loss_at_zero"]).abs() / walked).max()
    )
    assert found["from Glorot's: largest gradient"] == max(*at["grad_norm_at"], *at["grad_norm"])
    turned = found["from Glorot's: change of the gradient over its length"]
    assert turned == (at["grad_diff"] / at["grad_norm"]).max()


def test_an_initialisation_that_was_not_run_has_no_row(run, tmp_path: Path) -> None:
    run(tmp_path, "vgg")
    figure = BY_NAME["fig4_measures"]
    assert len(figure.draw(gathered(tmp_path, "fig4_measures").data).axes) == 3
    run(tmp_path, "vgg", config=FROM_HE)
    axes = figure.draw(gathered(tmp_path, "fig4_measures").data).axes
    assert [ax.get_ylabel() for ax in axes[::3]] == ["from Glorot's", "from He's"]
