import pytest

from src.analysis import paper


@pytest.mark.parametrize("name", paper.names())
def test_each_curve_is_a_line_or_a_band_over_rising_steps(name: str) -> None:
    curve = paper.curve(name)
    assert curve["step"].is_sorted() and curve["step"].min() >= 0
    line, band = curve["value"].null_count() == 0, curve["low"].null_count() == 0
    assert line != band
    if band:
        assert (curve["low"] <= curve["high"]).all()


def test_a_curve_is_cut_after_the_last_step_wanted() -> None:
    assert paper.curve("fig1b_testacc_bn_lr0.1", last=2500)["step"].to_list() == [0, 1000, 2000]


def test_the_papers_final_test_accuracies() -> None:
    ends = {v: paper.curve(f"fig1b_testacc_{v}_lr0.1")["value"][-1] for v in ("std", "bn")}
    assert ends == pytest.approx({"std": 80.0, "bn": 82.9}, abs=0.1)


def test_an_unknown_curve_is_an_error() -> None:
    with pytest.raises(KeyError, match="fig99"):
        paper.curve("fig99")
