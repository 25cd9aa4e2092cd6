from collections.abc import Callable
from pathlib import Path

from polars import col

from src.analysis.figures.style import OURS
from src.runs.reading import read_rows
from tests.analysis.figures.gathering import gathered


def test_shift_is_what_the_probe_wrote(run: Callable[..., Path], tmp_path: Path) -> None:
    folder = run(tmp_path, "vgg_bn", tables=("metrics", "ics"))
    run(tmp_path, "vgg", tables=("metrics", "ics"))
    data = gathered(tmp_path, "fig3_ics_vgg").data
    for quantity, name in (("l2", "l2 difference"), ("cosine", "cosine")):
        mine = data.filter(
            col("panel") == f"LR 0.1: layer 5, {name}",
            col("variant") == "vgg_bn",
            col("whose") == OURS,
        )
        wrote = read_rows(tmp_path, [folder.name], "ics").filter(col("layer") == 5)
        assert mine["value"].to_list() == wrote[quantity].to_list()
