import math

import numpy
import pytest

STEPS = range(0, 3000, 100)
SIZES = {
    "loss_variation": "band",
    "lipschitz": "band",
    "predictiveness": "change",
    "beta": "change",
}


class TestGap:
    @pytest.mark.parametrize("claim", SIZES)
    @pytest.mark.parametrize(
        ("size", "verdict"), [(0.3, "supported"), (3.0, "contradicted"), (1.0, "inconclusive")]
    )
    def test_verdicts(self, folder, compared, claim, size, verdict):
        key = SIZES[claim]
        compared(lambda place, w: folder.landscape(STEPS, **{key: (size if place else 1.0) * w}))
        result = folder.judged(claim)
        assert result.verdict == verdict
        assert result.effect == pytest.approx(size, rel=0.01)
        assert len(result.components) == 4
        assert result.judged[0].label == "all of training" and len(result.judged) == 5

    @pytest.mark.parametrize("claim", SIZES)
    def test_mixed_where_a_part_of_training_says_the_opposite(self, folder, compared, claim):
        key = SIZES[claim]

        def make(place, w):
            early = folder.landscape(range(0, 200, 10), **{key: (9.0 if place else 1.0) * w})
            late = folder.landscape(range(200, 3000, 50), **{key: (0.3 if place else 1.0) * w})
            return {k: early[k] + late[k] for k in early}

        compared(make)
        result = folder.judged(claim)
        assert result.verdict == "mixed" and result.effect == pytest.approx(0.3, rel=0.01)
        assert result.components[0].verdict == "contradicted"

    def test_four_seeds_and_none(self, folder, compared):
        compared(
            lambda place, w: folder.landscape(STEPS, band=(0.3 if place else 1) * w), seeds=range(4)
        )
        assert folder.judged("loss_variation").verdict == "inconclusive"
        assert folder.judged("landscape_dln").verdict == "not run"

    def test_only_the_paper_s_step_sizes_count(self, folder, compared):
        """Beyond 4 x LR the standard network's loss explodes; the paper stops there."""

        def make(place, w):
            near, far = (
                folder.landscape(STEPS, band=w),
                folder.landscape(STEPS, band=1.0 if place else 1e9, etas=(8.0,)),
            )
            return {k: near[k] + far[k] for k in near}

        compared(make)
        assert folder.judged("loss_variation").effect == pytest.approx(1, rel=0.01)

    @pytest.mark.parametrize("claim", [*SIZES, "largest_gradient"])
    def test_a_point_that_is_no_number_lies_beyond_infinity(self, folder, compared, claim):
        def make(place, w):
            found = folder.landscape(STEPS, band=w, change=w)
            for column in () if place else ("loss", "grad_norm_at", "grad_diff", "cosine", "beta"):
                found[column][3::4] = [math.nan] * 30
            return found

        compared(make)
        result = folder.judged(claim)
        assert (result.verdict, result.effect, result.interval) == ("supported", 0.0, (0.0, 0.0))

    def test_where_there_is_no_gradient_nothing_is_compared(self, folder, compared):
        others = [step for step in range(0, 3000, 10) if step % 100]

        def make(place, w):
            none = folder.landscape(others, band=9.0 if place else 1.0)
            none["grad_norm"] = [0.0 if place else 1.0] * len(none["step"])
            return folder.stack(folder.landscape(STEPS, band=(0.3 if place else 1.0) * w), none)

        compared(make)
        assert folder.judged("loss_variation").effect == pytest.approx(0.3, rel=0.01)

    def test_random_directions_and_the_relative_metric_are_readings(self, folder, compared):
        def make(place, w):
            parts = [
                folder.landscape(STEPS, change=(0.3 if place else 1.0) * w),
                folder.landscape(STEPS, change=(3.0 if place else 1.0) * w, direction="random"),
                folder.landscape(
                    STEPS, change=(3.0 if place else 1.0) * w, metric="relative", gradient=0.1
                ),
            ]
            return {k: [value for part in parts for value in part[k]] for k in parts[0]}

        compared(make)
        told = {r.reading: r.verdict for r in folder.judged("beta").readings}
        assert told == {"direction=gradient": "supported", "direction=random": "contradicted"}
        assert folder.judged("beta_relative").verdict == "contradicted"


class TestEachStep:
    def test_a_gap_at_large_steps_alone(self, folder, compared):
        def make(place, w):
            found = folder.landscape(STEPS, beta=20.0 * w)
            sizes = {0.05: 1.0, 0.1: 0.7, 0.2: 0.5, 0.4: 0.25}
            if place:
                found["beta"] = [
                    beta * sizes[round(eta, 3)]
                    for beta, eta in zip(found["beta"], found["eta"], strict=True)
                ]
            return found

        compared(make)
        assert folder.judged("beta").effect == pytest.approx(1, rel=0.01)
        result = folder.judged("beta_each_step")
        late = [part for part in result.components if "67% to 100%" in part.label]
        assert [part.label.split(",")[0] for part in late] == ["0.5 LR", "1 LR", "2 LR", "4 LR"]
        assert [part.effect for part in late] == pytest.approx([1, 0.7, 0.5, 0.25], rel=0.01)
        assert [part.verdict for part in late] == ["inconclusive", *["supported"] * 3]
        assert result.verdict == "inconclusive"


class TestEqualLoss:
    """The landscape is as rough as the loss is high, and BatchNorm's falls twice as fast."""

    def write(self, folder, gap):
        for seed in folder.seeds:
            for model, rate, factor in (("vgg", 1.0, 1.0), ("vgg_bn", 2.0, gap)):
                by = factor * folder.wobble(seed) if model == "vgg_bn" else 1.0
                records = range(0, folder.steps, 10)
                losses = [2 * math.exp(-rate * step / 1000) for step in records]
                found = [folder.landscape([s], *[by * losses[s // 10]] * 2) for s in STEPS]
                table = {k: [v for part in found for v in part[k]] for k in found[0]}
                metrics = folder.metric("train/loss", records, losses)
                tables = {"landscape": table, "metrics": metrics}
                folder.write(model, seed, tables)

    @pytest.mark.parametrize(
        ("gap", "verdict"), [(1.0, "inconclusive"), (0.3, "supported"), (3.0, "contradicted")]
    )
    def test_verdicts(self, folder, gap, verdict):
        self.write(folder, gap)
        assert folder.judged("loss_variation").effect < 0.5 * gap
        result = folder.judged("landscape_equal_loss")
        assert result.verdict == verdict and len(result.components) == 6
        for part in result.components:
            assert part.effect == pytest.approx(gap, rel=0.05)


def test_who_is_long_at_a_loss_decides_how_much_it_counts(folder):
    """Alike above 1.8 nats, where the standard network stays long; half as rough below."""
    records, probed = range(0, folder.steps, 10), range(0, 2900, 20)
    for seed in folder.seeds:
        for model, turn in (("vgg", 2500), ("vgg_bn", 100)):
            losses = numpy.interp(records, [0, turn, folder.steps], [2.0, 1.8, 1.0])
            rough = numpy.where((losses < 1.8) & (model == "vgg_bn"), 0.5, 1.0)
            rough *= folder.wobble(seed) if model == "vgg_bn" else 1.0
            found = [folder.landscape([s], *[float(rough[s // 10])] * 2) for s in probed]
            metrics = folder.metric("train/loss", records, losses.tolist())
            folder.write(model, seed, {"landscape": folder.stack(*found), "metrics": metrics})
    parts = folder.judged("landscape_equal_loss").components
    assert [part.label.partition(", ")[2] for part in parts[2:4]] == ["", "at BatchNorm's steps"]
    assert parts[0].effect == pytest.approx(1, rel=0.05)
    assert parts[3].effect == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("longer", "verdict"), [(1.0, "inconclusive"), (2.0, "supported"), (0.5, "contradicted")]
)
def test_the_gradient_s_change_over_its_length_at_equal_steps_and_losses(folder, longer, verdict):
    """The change is the loss, which BatchNorm's network has at half the steps."""
    for seed in folder.seeds:
        for model, rate in (("vgg", 1.0), ("vgg_bn", 2.0)):
            length = longer * folder.wobble(seed) if model == "vgg_bn" else 1.0
            records = range(0, folder.steps, 10)
            losses = [2 * math.exp(-rate * step / 1000) for step in records]
            found = [folder.landscape([s], 1.0, losses[s // 10], gradient=length) for s in STEPS]
            tables = {
                "landscape": folder.stack(*found),
                "metrics": folder.metric("train/loss", records, losses),
            }
            folder.write(model, seed, tables)
    result = folder.judged("predictiveness_per_length")
    loss, other_way, *parts = result.components
    assert loss.label == "equal loss"
    assert loss.verdict == verdict and loss.effect == pytest.approx(1 / longer, rel=0.05)
    assert other_way.effect == pytest.approx(1 / longer, rel=0.05)
    assert parts[3].effect < 0.5 / longer
    assert parts[0].effect > parts[1].effect > parts[2].effect > parts[3].effect


@pytest.mark.parametrize(
    ("at_start", "on_the_way", "verdict"),
    [(1, 0.3, "inconclusive"), (0.3, 0.3, "supported"), (0.3, 3, "contradicted")],
)
def test_the_largest_gradient_is_at_the_start_or_on_the_way(
    folder, compared, at_start, on_the_way, verdict
):
    def make(place, w):
        found = folder.landscape(STEPS, gradient=(at_start if place else 1.0) * w)
        found["grad_norm_at"] = [(on_the_way if place else 1.0) * w] * len(found["step"])
        return found

    compared(make)
    result = folder.judged("largest_gradient")
    assert result.verdict == verdict
    assert result.effect == pytest.approx(max(at_start, on_the_way), rel=0.01)


class TestRelative:
    @pytest.mark.parametrize(
        ("size", "verdict"), [(0.3, "supported"), (3.0, "contradicted"), (1.0, "inconclusive")]
    )
    def test_verdicts(self, folder, compared, size, verdict):
        change = {"metric": "relative", "gradient": 0.1}
        compared(
            lambda place, w: folder.landscape(STEPS, change=(size if place else 1.0) * w, **change)
        )
        assert folder.judged("beta_relative").verdict == verdict

    def test_step_sizes_need_be_no_multiples_of_the_rate(self, folder, compared):
        matched = {"metric": "relative", "etas": (0.0007, 0.0013)}
        compared(
            lambda place, w: folder.landscape(STEPS, change=(0.3 if place else 1.0) * w, **matched)
        )
        assert folder.judged("beta_relative").effect == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize(
    ("band", "change", "verdict"),
    [(0.3, 0.3, "supported"), (3, 3, "contradicted"), (0.3, 3, "mixed"), (0.3, 1, "inconclusive")],
)
def test_deep_linear(folder, compared, band, change, verdict):
    def make(place, w):
        sizes = (band, change) if place else (1, 1)
        return folder.landscape(STEPS, sizes[0] * w, sizes[1] * w, lr=1e-6)

    compared(make, "fig10_landscape_dln", ("dln", "dln_bn"), optim__lr=1e-6)
    assert folder.judged("landscape_dln").verdict == verdict


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [((0.3, 0.3), "supported"), ((3, 3), "contradicted"), ((0.3, 3), "mixed")],
)
def test_batch_independent_norms(folder, compared, sizes, verdict):
    def make(place, w):
        size = (1, *sizes)[place] * w
        return folder.landscape(STEPS, size, size)

    compared(make, "controls", ("vgg", "vgg_layer", "vgg_group"))
    result = folder.judged("batch_independent_smooth")
    assert result.verdict == verdict and len(result.components) == 6
    found = {part.label: part.effect for part in result.components}
    assert found["group: width of the loss band"] == pytest.approx(sizes[1], rel=0.01)


@pytest.mark.parametrize(
    ("size", "verdict"), [(0.3, "supported"), (3, "contradicted"), (1, "inconclusive")]
)
def test_the_standard_network_alone_from_he_s_initialisation(folder, size, verdict):
    for seed in folder.seeds:
        for model, init, gap in (
            ("vgg", "he_normal", 1.0),
            ("vgg_bn", "glorot_normal", size),
            ("vgg", "glorot_normal", 50.0),
            ("vgg_bn", "he_normal", 0.02),
        ):
            w = gap * folder.wobble(seed if model == "vgg_bn" else 2)
            tables = {"landscape": folder.landscape(STEPS, w, w)}
            folder.write(model, seed, tables, sweep="own_initialisation", init__name=init)
    result = folder.judged("landscape_own_initialisation")
    assert result.verdict == verdict and result.runs == 10
    for part in result.components:
        assert part.effect == pytest.approx(size, rel=0.01)
