from pathlib import Path

import pytest

from src.analysis.figures import dots
from tests.analysis.figures.gathering import gathered


def test_regularisers_are_told_apart_and_their_accuracies_are_the_runs_last(run, tmp_path) -> None:
    for seed, accuracy in enumerate((0.6, 0.8)):
        for dropout, decay, gain in ((0.0, 0.0, 0.0), (0.5, 5e-4, 0.1)):
            config = {"model.dropout": dropout, "optim.weight_decay": decay}
            run(
                *(tmp_path, "vgg", 0.1, seed),
                config=config,
                accuracy=accuracy + gain,
                tables=("metrics",),
            )
    data = gathered(tmp_path, "regularisation").data
    assert data.select("level", "accuracy", "test_accuracy", "test_low", "seeds").rows() == [
        ("dropout 0.5, weight decay 0.0005", *map(pytest.approx, (80, 68, 59.5)), 2),
        ("the default", *map(pytest.approx, (70, 59.5, 51)), 2),
    ]
    rows = dots.draw(data).axes[0].get_yticklabels()
    assert [row.get_text() for row in rows] == ["the default", "dropout 0.5, weight decay 0.0005"]


def test_runs_that_diverged_beside_others_are_counted(run, tmp_path: Path) -> None:
    for dropout in (0.0, 0.5):
        config = {"model.dropout": dropout}
        run(tmp_path, "vgg", 0.1, 0, config=config, accuracy=0.8, tables=("metrics",))
    run(tmp_path, "vgg", 0.1, 1, config=config, diverged_at=700, tables=("metrics",))
    data = gathered(tmp_path, "regularisation").data
    texts = [text.get_text() for ax in dots.draw(data).axes for text in ax.texts]
    assert texts == ["  1/2 div."] * 2
    told = dots.told(data)
    assert told.count("diverged") == 1 and "standard, the default: 80, 68" in told
    assert "1 of 2 diverged" in told


def test_a_control_is_a_row_of_its_own_named_by_what_it_changes(run, tmp_path: Path) -> None:
    cells = {
        ("vgg", "init.name", "glorot_normal"): "standard",
        ("vgg", "init.name", "unit_variance"): "standard from unit variance",
        ("vgg_bn", "model.statistics", "batch"): "BatchNorm",
        ("vgg_bn", "model.statistics", "running"): "BatchNorm, running",
        ("vgg_plain_noisy", "noise.relative", True): "noise alone, relative",
        ("vgg_group", "noise.relative", False): "group norm",
    }
    for place, (model, key, value) in enumerate(cells):
        changed = {"config": {key: value}, "accuracy": place / 10, "tables": ("metrics",)}
        run(tmp_path, model, 0.1, 0, **changed)
    data = gathered(tmp_path, "controls").data
    found = dict(data.select("level", "accuracy").rows())
    assert found == {name: pytest.approx(10 * place) for place, name in enumerate(cells.values())}
    figure = dots.draw(data)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(cells.values())
    offsets = {round(line.get_ydata()[0] % 1, 3) for line in figure.axes[0].lines[:-1]}
    assert offsets == {0.0}  # one dot a row, on its line
    assert "BatchNorm, running: 30, 26, " in dots.told(data)
