import math

import pytest

NORMS = ("l1", "l2", "linf")
BATCH_INDEPENDENT = ("layer", "group")


class TestTrains:
    @pytest.mark.parametrize(
        ("steps", "verdict"),
        [
            ((400, 300, 400), "supported"),
            ((800, 800, 800), "contradicted"),
            ((300, 300, 900), "mixed"),
            ((400, 400), "inconclusive"),  # linf is missing
        ],
    )
    def test_verdicts(self, folder, steps, verdict):
        nets = dict(zip((f"vgg_{norm}" for norm in NORMS), steps, strict=False)) | {"vgg_bn": 400}
        for seed in folder.seeds:
            for model, at in nets.items():
                wobbled = 10 * round(at * folder.wobble(seed * (model != "vgg_bn") + 2) / 10)
                tables = {"metrics": folder.curve(dict.fromkeys((0.4, 0.5, 0.6, 0.7), wobbled))}
                folder.write(model, seed, tables, sweep="fig5_lp_vgg")
        assert folder.judged("lp_trains").verdict == verdict

    @pytest.mark.parametrize(
        ("steps", "verdict"),
        [
            ((400, 300), "supported"),
            ((800, 800), "contradicted"),
            ((300, 900), "mixed"),
            ((400,), "inconclusive"),
        ],
    )
    def test_batch_independent_ones_against_batch_norm_by_its_batch(self, folder, steps, verdict):
        for seed in folder.seeds:
            for model, statistics, at in (
                ("vgg_bn", "batch", 400),
                ("vgg_bn", "running", 2000),
                *(
                    (f"vgg_{n}", "batch", at)
                    for n, at in zip(BATCH_INDEPENDENT, steps, strict=False)
                ),
            ):
                wobbled = 10 * round(at * folder.wobble(seed * (model != "vgg_bn") + 2) / 10)
                tables = {"metrics": folder.curve({0.6: wobbled})}
                folder.write(model, seed, tables, sweep="controls", model__statistics=statistics)
        result = folder.judged("batch_independent_trains")
        assert result.verdict == verdict
        assert {reading.reading for reading in result.readings} == {"the only one"}

    @pytest.mark.parametrize("other", [None, 2900])
    def test_never_there_is_not_as_fast(self, folder, other):
        for seed in folder.seeds:
            for model in ("vgg_bn", "vgg_l1", "vgg_l2", "vgg_linf"):
                at = 2900 if model == "vgg_bn" and seed == 0 else other
                curve = folder.curve({} if at is None else {0.4: at + 10 * (seed % 2)})
                folder.write(model, seed, {"metrics": curve}, sweep="fig5_lp_vgg")
        part = folder.judged("lp_trains").components[0]
        assert part.label.startswith("l1 to 40%")
        assert part.verdict == ("inconclusive" if other is None else "supported")


class TestLpTrainsDeepLinear:
    def write(self, folder, losses):
        for seed in folder.seeds:
            for model, loss in ({"dln_bn": 480.0} | losses).items():
                wobble = folder.wobble(seed if model != "dln_bn" else 2)
                values = [1e5] * 250 + [loss * wobble] * 50
                tables = {
                    "metrics": folder.metric("train/loss", range(0, folder.steps, 10), values)
                }
                status = {"state": "diverged" if math.isinf(loss) else "completed"}
                folder.write(model, seed, tables, status, "fig5_lp_dln", optim__lr=1e-6)

    @pytest.mark.parametrize(
        ("l1", "l2", "linf", "verdict"),
        [
            (97.0, 482.0, 480.0, "supported"),
            (970.0, 960.0, 980.0, "contradicted"),
            (97.0, 482.0, 986.0, "mixed"),  # the paper's
            (97.0, 482.0, math.inf, "mixed"),  # it diverged in every seed
            (970.0, 960.0, math.inf, "contradicted"),
        ],
    )
    def test_verdicts(self, folder, l1, l2, linf, verdict):
        self.write(folder, {"dln_l1": l1, "dln_l2": l2, "dln_linf": linf})
        result = folder.judged("lp_trains_dln")
        assert result.verdict == verdict
        assert result.diverged == ({"dln_linf": 5} if math.isinf(linf) else {})
        assert result.components[0].effect == pytest.approx(l1 / 480, rel=0.01)


class TestLpShifts:
    @pytest.mark.parametrize(
        ("sizes", "verdict"),
        [
            ((0.3, 0.2, 0.4), "supported"),
            ((0.01, 0.01, 0.01), "contradicted"),
            ((0.3, 0.2, 0.01), "mixed"),
        ],
    )
    def test_verdicts(self, folder, sizes, verdict):
        nets = {f"vgg_{norm}": size for norm, size in zip(NORMS, sizes, strict=True)}
        for seed in folder.seeds:
            for model, size in ({"vgg": 0.05} | nets).items():
                wide = 1 + size * folder.wobble(seed if model != "vgg" else 2)
                activations = {  # after a norm parameters move, as far as nobody asks
                    **{"step": 2 * [0, 1], "layer": [2] * 4, "unit": [0] * 4, "mean": [0.0] * 4},
                    "site": ["after_noise"] * 2 + ["before_norm"] * 2,
                    "variance": [1.0, wide**2, 1.0, 100.0]
                    if model == "vgg"
                    else [1.0, 100.0, 1.0, wide**2],
                }
                folder.write(model, seed, {"activations": activations}, sweep="fig5_lp_vgg")
        result = folder.judged("lp_shifts")
        assert result.verdict == verdict
        assert result.components[0].effect == pytest.approx(sizes[0] / 0.05, rel=0.01)


@pytest.mark.parametrize(
    ("before", "entering", "verdict"),
    [
        ((0.01, 0.02), (0.01, 0.01), "supported"),
        ((0.3, 0.2), (0.3, 0.2), "contradicted"),
        ((0.01, 0.02), (0.3, 0.01), "mixed"),
    ],
)
def test_batch_independent_norms_steady_means(folder, before, entering, verdict):
    nets = dict(zip(BATCH_INDEPENDENT, zip(before, entering, strict=True), strict=True))
    moved = {"vgg": (9.0, 0.05)} | {f"vgg_{norm}": sizes for norm, sizes in nets.items()}
    for seed in folder.seeds:
        for init in ("glorot_normal", "unit_variance"):
            for model, sizes in moved.items():
                wobble = folder.wobble(seed if model != "vgg" else 2)
                first, second = (size * wobble for size in sizes)
                activations = {
                    **{"step": 2 * [0, 1], "layer": [2] * 4, "unit": [0] * 4},
                    **{"variance": [1.0] * 4, "mean": [0.0, first, 0.0, second]},
                    "site": ["before_norm"] * 2 + ["after_noise"] * 2,
                }
                if init == "glorot_normal" or model == "vgg":
                    tables = {"activations": activations}
                    folder.write(model, seed, tables, sweep="controls", init__name=init)
    result = folder.judged("batch_independent_steady")
    assert result.verdict == verdict
    assert result.components[0].effect == pytest.approx(before[0] / 0.05, rel=0.01)
