import pytest


@pytest.mark.parametrize(
    ("ratio", "factor", "mean", "correlation", "verdict"),
    [
        (0.3, 0.5, 0.2, 0.1, "supported"),
        (3.0, 5.0, 0.01, 0.01, "contradicted"),
        (0.3, 0.5, 0.2, 0.001, "mixed"),
        (0.3, 0.5, 0.2, 0.05, "inconclusive"),
    ],
)
def test_verdicts(folder, ratio, factor, mean, correlation, verdict):
    parts = {"gradient_ratio": ratio, "factor_weighted": factor}
    parts |= {"mean_share": mean, "correlation_share": correlation}
    for seed in folder.seeds:
        theory = {
            **{"step": [0] * 4, "layer": [2] * 4, "quantity": list(parts)},
            "value": [value * folder.wobble(seed) for value in parts.values()],
        }
        folder.write("vgg_bn", seed, {"theory": theory}, sweep="fig4_landscape")
    result = folder.judged("theorem_parts")
    assert result.verdict == verdict
    effects = [part.effect for part in result.components]
    expected = [ratio, factor, 100 * mean, 100 * correlation]
    assert effects == pytest.approx(expected, rel=0.01)


def test_four_seeds_and_none(folder):
    assert folder.judged("theorem_parts").verdict == "not run"
    for seed in range(4):
        theory = {"step": [0], "layer": [2], "quantity": ["gradient_ratio"], "value": [0.3]}
        folder.write("vgg_bn", seed, {"theory": theory}, sweep="fig4_landscape")
    assert folder.judged("theorem_parts").verdict == "inconclusive"
