import math
from pathlib import Path

import pytest
from polars import DataFrame

from src.analysis.figures import smallest_step
from tests.analysis.figures.gathering import KEYS, gathered


def test_beta_by_the_smallest_step_looked_at() -> None:
    betas = {0.1: (8.0, 2.0, math.nan), 0.2: (4.0, 5.0, 1.0), 0.4: (2.0, 3.0, 1.0)}  # by step
    rows = DataFrame(
        [
            {**KEYS, "run": run, "step": step, "eta": eta, "beta": factor * beta}
            for run, factor in (("a", 1.0), ("b", 10.0))
            for eta, at in betas.items()
            for step, beta in enumerate(at)
        ]
    )
    found = smallest_step.by_smallest_step(rows)
    assert found.select("smallest_step", "beta", "low", "high", "seeds").rows() == [
        (0.1, 44.0, 8.0, 80.0, 2),  # 8, 5, beyond all
        (0.2, 22.0, 4.0, 40.0, 2),
        (0.4, 11.0, 2.0, 20.0, 2),
    ]


def test_beta_is_that_of_networks_that_train_where_most_do(run, tmp_path: Path) -> None:
    tables = ("metrics", "landscape")
    for lr, accuracies in {0.1: (0.6, 0.5, 0.1), 0.3: (0.6, 0.1)}.items():
        for seed, accuracy in enumerate(accuracies):
            run(tmp_path, "vgg_bn", lr, seed, tables=tables, accuracy=accuracy)
    run(tmp_path, "vgg_bn", 0.5, tables=tables, accuracy=0.6, diverged_at=2900)
    found = gathered(tmp_path, "smallest_step")
    assert sorted(found.selection.runs.select("optim.lr", "seed").rows()) == [(0.1, 0), (0.1, 1)]
    assert found.data["smallest_step"].to_list() == pytest.approx([0.05, 0.1, 0.2, 0.4])
    assert found.data["seeds"].to_list() == [2] * 4
