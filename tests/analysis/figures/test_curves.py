import matplotlib.figure
import polars
import pytest
from polars import DataFrame

from src.analysis.figures import curves
from src.analysis.figures.select import Selection
from src.analysis.figures.style import OURS, PAPERS

SERIES = {"panel": "p", "variant": "vgg", "lr": 0.1}
POINT = [*SERIES, "step"]


def rows(*runs: dict[int, float]) -> DataFrame:
    return DataFrame(
        [
            {**SERIES, "run": f"run{n}", "step": step, "value": value}
            for n, run in enumerate(runs)
            for step, value in run.items()
        ]
    )


def test_median_and_range_are_over_the_runs_that_have_the_step() -> None:
    found = curves.over_seeds(rows({0: 1.0, 10: 4.0}, {0: 2.0, 10: 6.0}, {0: 9.0}), POINT)
    assert found.select("step", "value", "low", "high", "seeds").rows() == [
        (0, 2.0, 1.0, 9.0, 3),
        (10, 5.0, 4.0, 6.0, 2),
    ]


def test_what_overflowed_lies_beyond_and_cannot_be_drawn() -> None:
    inf = float("inf")
    found = curves.over_seeds(
        rows({0: 1.0, 10: 4.0, 20: inf}, {0: 2.0, 10: inf, 20: inf}, {0: 9.0, 10: 5.0, 20: 1.0}),
        POINT,
    )
    assert found.select("step", "value", "low", "high", "seeds").rows() == [
        (0, 2.0, 1.0, 9.0, 3),
        (10, 5.0, 4.0, None, 3),
    ]


def test_a_window_is_the_mean_of_its_steps_at_its_middle() -> None:
    found = curves.windowed(rows({0: 1.0, 50: 3.0, 100: 7.0}), 100)
    assert found.select("step", "value").rows() == [(50, 2.0), (150, 7.0)]


def test_a_window_of_one_step_changes_nothing() -> None:
    given = rows({0: 1.0, 1: 3.0})
    assert curves.windowed(given, 1).equals(given)


def test_windows_do_not_mix_runs() -> None:
    found = curves.windowed(rows({0: 1.0, 1: 3.0}, {0: 10.0, 1: 30.0}), 2)
    assert sorted(found["value"]) == [2.0, 20.0]


def test_a_bands_edges_are_each_a_median_and_nothing_is_known_between() -> None:
    bands = rows({0: 0.0}, {0: 0.0}, {0: 0.0}).with_columns(
        low=polars.Series([1.0, 2.0, 5.0]), high=polars.Series([3.0, 10.0, 11.0])
    )
    found = curves.edges_over_seeds(bands.drop("value"), POINT)
    assert found.select("value", "low", "high", "seeds").rows() == [(None, 2.0, 10.0, 3)]


def test_only_diverged_runs_end_and_they_end_where_they_diverged() -> None:
    runs = DataFrame(
        {"run": ["run0", "run1"], "state": ["diverged", "completed"], "step": [17, 20]}
    )
    found = curves.ends(rows({0: 1.0, 10: 4.0, 15: float("nan")}, {0: 2.0, 20: 3.0}), runs)
    assert found.select("whose", "step", "value").rows() == [(curves.ENDED, 17, 4.0)]


def selection(data: str, last: int) -> Selection:
    runs = DataFrame({"model.name": ["vgg"], "data.name": [data], "max_steps": [last]})
    return Selection(runs, others=0, axes=[])


def test_the_papers_curve_stands_at_its_own_steps_up_to_our_last() -> None:
    mine = curves.ours(curves.over_seeds(rows({0: 1.0, 2000: 2.0}), POINT))
    theirs = curves.Theirs("fig1b_testacc_std_lr0.1", "p", "vgg", 0.1)
    found = curves.with_papers(mine, [theirs], selection("cifar10", last=2000))
    assert found.filter(polars.col("whose") == PAPERS)["step"].to_list() == [0, 1000, 2000]
    assert found.filter(polars.col("whose") == OURS).height == 2


@pytest.mark.parametrize(
    "theirs",
    [
        curves.Theirs("fig1b_testacc_bn_lr0.1", "p", "vgg_bn", 0.1),
        curves.Theirs("no_such_curve", "p", "vgg", 0.1),
    ],
    ids=["without ours", "unknown"],
)
def test_a_curve_without_one_of_ours_or_of_theirs_is_left_out(theirs: curves.Theirs) -> None:
    mine = curves.ours(curves.over_seeds(rows({0: 1.0}), POINT))
    assert curves.with_papers(mine, [theirs], selection("cifar10", last=100)).equals(mine)


def test_the_papers_curve_does_not_stand_beside_runs_on_other_data() -> None:
    mine = curves.ours(curves.over_seeds(rows({0: 1.0, 2000: 2.0}), POINT))
    theirs = curves.Theirs("fig1b_testacc_std_lr0.1", "p", "vgg", 0.1)
    assert curves.with_papers(mine, [theirs], selection("digits", last=2000)).equals(mine)


def test_a_single_point_of_the_papers_is_seen() -> None:
    theirs = curves.Theirs("fig1b_testacc_std_lr0.1", "p", "vgg", 0.1)
    mine = curves.ours(curves.over_seeds(rows({0: 1.0}), POINT))
    axes = matplotlib.figure.Figure().subplots()
    curves.draw(axes, curves.with_papers(mine, [theirs], selection("cifar10", last=100)))
    (dashed,) = (line for line in axes.lines if line.get_linestyle() == "--")
    assert len(dashed.get_xdata()) == 1 and dashed.get_marker() == "."
