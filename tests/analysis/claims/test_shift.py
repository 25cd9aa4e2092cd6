import math

import pytest


@pytest.fixture
def shifted(folder):
    """Write runs of two networks whose shift has given sizes at each rate."""

    def write(nets, sizes, sweep, seeds=folder.seeds, losses=(1.0, 1.0), column="l2"):
        for (model, loss), by_rate in zip(zip(nets, losses, strict=True), sizes, strict=True):
            for lr, size in by_rate.items():
                for seed in seeds:
                    value = size * folder.wobble(seed if model.endswith("bn") else 2)
                    rows = [(s, layer) for s in range(0, folder.steps, 100) for layer in (1, 2, 3)]
                    ics = {
                        "step": [step for step, _ in rows],
                        "layer": [layer for _, layer in rows],
                        # the first layer has no shift, and must not count
                        column: [0.0 if layer == 1 else value for _, layer in rows],
                    }
                    steps = range(0, folder.steps, 10)
                    falling = [3 * math.exp(-loss * step / 1000) for step in steps]
                    tables = {"ics": ics, "metrics": folder.metric("train/loss", steps, falling)}
                    folder.write(model, seed, tables, sweep=sweep, optim__lr=lr)

    return write


VGG, DLN = ("vgg", "vgg_bn"), ("dln", "dln_bn")
ONE = {0.1: 1.0, 0.01: 1.0}


@pytest.mark.parametrize(
    ("normalised", "verdict"),
    [
        ({0.1: 2.0, 0.01: 1.5}, "supported"),
        ({0.1: 1.0, 0.01: 1.0}, "supported"),  # alike is not lower
        ({0.1: 0.5, 0.01: 0.5}, "contradicted"),
        ({0.1: 0.9, 0.01: 0.9}, "contradicted"),  # within the margin, but lower for sure
        ({0.1: 2.0, 0.01: 0.5}, "mixed"),
        ({0.1: 2.0}, "inconclusive"),
        ({}, "not run"),
    ],
)
@pytest.mark.parametrize(("claim", "column"), [("shift_vgg", "l2"), ("shift_relative", "relative")])
def test_sizes(folder, shifted, claim, column, normalised, verdict):
    shifted(VGG, (ONE, normalised), "fig3_ics_vgg", column=column)
    result = folder.judged(claim)
    assert result.verdict == verdict
    if 0.1 in normalised:
        assert result.components[0].effect == pytest.approx(normalised[0.1], rel=0.01)


def test_four_seeds(folder, shifted):
    shifted(VGG, (ONE, {0.1: 2.0, 0.01: 2.0}), "fig3_ics_vgg", range(4))
    assert folder.judged("shift_vgg").verdict == "inconclusive"


@pytest.mark.parametrize(
    ("normalised", "verdict"),
    [
        ({0.1: 0.2, 0.01: 0.4}, "supported"),
        ({0.1: 0.8, 0.01: 0.9}, "contradicted"),
        ({0.1: 0.2, 0.01: 0.9}, "mixed"),
    ],
)
def test_cosines(folder, shifted, normalised, verdict):
    shifted(("vgg",), ({0.1: 0.5, 0.01: 0.5},), "fig3_ics_vgg", losses=(1.0,), column="cosine")
    for lr, cosine in normalised.items():
        for seed in folder.seeds:
            steps = 2 * list(range(0, folder.steps, 100))
            cosines = [1.0] * 30 + [cosine + 0.001 * seed] * 30  # layer 1 must not count
            ics = {"step": steps, "layer": [1] * 30 + [2] * 30, "cosine": cosines}
            folder.write("vgg_bn", seed, {"ics": ics}, sweep="fig3_ics_vgg", optim__lr=lr)
    result = folder.judged("shift_vgg_cosine")
    assert result.verdict == verdict
    low = 0.5 * folder.wobble(2)
    effects = [part.effect for part in result.components]
    assert effects == pytest.approx([normalised[lr] + 0.002 - low for lr in (0.1, 0.01)])


class TestEqualLoss:
    @pytest.mark.parametrize(
        ("ratio", "verdict"), [(2.0, "supported"), (1.0, "supported"), (0.9, "contradicted")]
    )
    def test_verdicts(self, folder, shifted, ratio, verdict):
        shifted(VGG, (ONE, {0.1: ratio}), "equal_loss")
        result = folder.judged("shift_equal_loss")
        assert result.verdict == verdict
        assert result.effect == pytest.approx(ratio, rel=0.01)

    @pytest.mark.parametrize(
        ("relative", "cosine", "verdict"),
        [(1.0, 0.5, "supported"), (0.9, 0.8, "contradicted"), (1.0, 0.8, "mixed")],
    )
    def test_of_the_gradient_s_length_and_direction(self, folder, relative, cosine, verdict):
        """BatchNorm's, falling twice as fast, where the standard network has the same loss."""
        for seed in folder.seeds:
            for model, rate in (("vgg", 1.0), ("vgg_bn", 2.0)):
                steps = range(0, folder.steps, 10)
                losses = [3 * math.exp(-rate * step / 1000) for step in steps]
                by, to, w = 1.0, 0.5, 0.0
                if model == "vgg_bn":
                    by, to, w = relative, cosine, 0.005 * (seed - 2)
                ics = {"step": [*steps], "layer": [2] * 300}
                ics["relative"] = [by * loss * (1 + w) for loss in losses]
                ics["cosine"] = [to + w - loss / 10 for loss in losses]
                tables = {"ics": ics, "metrics": folder.metric("train/loss", steps, losses)}
                folder.write(model, seed, tables)
        result = folder.judged("shift_relative_equal_loss")
        assert result.verdict == verdict
        *lengths, turn, turn_back = (part.effect for part in result.components)
        assert lengths == pytest.approx([relative] * 2, rel=0.02)
        assert [turn, turn_back] == pytest.approx([cosine - 0.5] * 2, abs=0.01)

    def test_pairs_steps_of_equal_loss(self, folder):
        """The shift is the loss: at equal steps BatchNorm's is lower, at equal losses it is not."""
        for seed in folder.seeds:
            for model, rate in (("vgg", 1.0), ("vgg_bn", 2.0 + 0.01 * seed)):
                for lr in (0.1, 0.01):
                    steps = range(0, folder.steps, 10)
                    losses = [3 * math.exp(-rate * step / 1000) for step in steps]
                    ics = {"step": list(steps), "layer": [2] * 300, "l2": losses}
                    tables = {"ics": ics, "metrics": folder.metric("train/loss", steps, losses)}
                    folder.write(model, seed, tables, optim__lr=lr)
        assert folder.judged("shift_vgg").verdict == "contradicted"
        equal = folder.judged("shift_equal_loss")
        assert equal.components[0].effect == pytest.approx(1, abs=0.05)

    @pytest.mark.parametrize(("every", "seeds"), [(400, 5), (1000, 0)])
    def test_a_pair_that_meets_at_few_steps_tells_nothing(self, folder, every, seeds):
        for seed in folder.seeds:
            for model, steps in (("vgg", range(0, 3000, 10)), ("vgg_bn", range(0, 3000, every))):
                ics = {"step": [*steps], "layer": [2] * len(steps), "l2": [1.0] * len(steps)}
                fallen = [2.1 - step / 3000 for step in range(0, 3000, 10)]
                losses = folder.metric("train/loss", range(0, 3000, 10), fallen)
                tables = {"ics": ics, "metrics": losses}
                folder.write(model, seed, tables)
        assert folder.judged("shift_equal_loss").seeds == seeds

    def test_a_plateau_is_not_compared(self, folder):
        """At chance until step 2,000, where the shift is nothing; then as with BatchNorm."""
        steps = range(0, folder.steps, 10)
        late = [2.0 - (step - 2000) / 1000 for step in steps if step >= 2000]
        for seed in folder.seeds:
            for model in ("vgg", "vgg_bn"):
                plateau = [2.3] * 200 if model == "vgg" else [2.25, *[0.5] * 199]
                shift = [1e-4] * 200 if model == "vgg" else [5.0] * 200
                ics = {"step": [*steps], "layer": [2] * 300, "l2": [*shift, *[1.0] * 100]}
                losses = folder.metric("train/loss", steps, plateau + late)
                folder.write(model, seed, {"ics": ics, "metrics": losses})
        assert folder.judged("shift_equal_loss").effect == pytest.approx(1)

    def test_losses_that_do_not_meet(self, folder):
        for seed in folder.seeds:
            for model, base in (("vgg", 2.0), ("vgg_bn", 0.5)):
                steps = range(0, folder.steps, 10)
                losses = [base + 0.1 * (step == 0) for step in steps]
                ics = {"step": list(steps), "layer": [2] * 300, "l2": [1.0] * 300}
                tables = {"ics": ics, "metrics": folder.metric("train/loss", steps, losses)}
                folder.write(model, seed, tables)
        assert folder.judged("shift_equal_loss").verdict == "not run"


class TestOverTraining:
    @staticmethod
    def write(folder, early, late):
        """Write shifts; BatchNorm's change after a third of training, as (length, turn)."""
        for seed in folder.seeds:
            steps = list(range(0, folder.steps, 100))
            for model, own in (("vgg", [(1.0, 0.5)] * 30), ("vgg_bn", [early] * 10 + [late] * 20)):
                by = folder.wobble(seed) if model == "vgg_bn" else 1.0
                lengths = [length * by for length, _ in own]
                ics = {"step": steps, "layer": [2] * 30, "l2": lengths, "relative": lengths}
                ics["cosine"] = [turn * by for _, turn in own]
                folder.write(model, seed, {"ics": ics}, sweep="fig3_ics_vgg")

    @pytest.mark.parametrize(
        ("early", "late", "verdict"),
        [
            ((2.0, 0.2), (1.5, 0.4), "supported"),
            ((0.5, 0.7), (0.5, 0.7), "contradicted"),
            ((2.0, 0.2), (0.5, 0.7), "mixed"),
        ],
    )
    def test_each_part_counts(self, folder, early, late, verdict):
        self.write(folder, early, late)
        result = folder.judged("shift_over_training")
        assert result.verdict == verdict and len(result.components) == 12
        parts = {part.label: part.effect for part in result.components}
        assert parts["relative at LR 0.1, 7% to 33% of training"] == pytest.approx(early[0], 0.01)
        assert parts["cosine at LR 0.1, 67% to 100% of training"] == pytest.approx(
            late[1] - 0.5, abs=0.01
        )


class TestDeepLinear:
    @pytest.mark.parametrize(
        ("sizes", "cosine", "verdict"),
        [
            ({1e-6: 2.0, 1e-7: 100.0}, -0.2, "supported"),
            ({1e-6: 0.5, 1e-7: 0.5}, 0.9, "contradicted"),
            ({1e-6: 0.5, 1e-7: 100.0}, -0.2, "mixed"),
        ],
    )
    def test_verdicts(self, folder, sizes, cosine, verdict):
        for seed in folder.seeds:
            for lr, size in sizes.items():
                for model, l2, turn in (("dln", 1.0, 0.5), ("dln_bn", size, cosine)):
                    own = seed if model == "dln_bn" else 2
                    rows = {"step": [0, 50], "layer": [2, 2], "l2": [l2 * folder.wobble(own)] * 2}
                    ics = rows | {"cosine": [turn + 0.01 * own] * 2}
                    folder.write(model, seed, {"ics": ics}, sweep="fig3_ics_dln", optim__lr=lr)
        result = folder.judged("shift_dln")
        assert result.verdict == verdict and len(result.components) == 4


@pytest.mark.parametrize(
    ("size", "cosine", "verdict"),
    [(0.6, 0.8, "contradicted"), (2.0, 0.2, "supported"), (2.0, 0.8, "mixed")],
)
def test_the_standard_network_alone_from_he_s_initialisation(folder, size, cosine, verdict):
    for seed in folder.seeds:
        for model, init, (length, turn) in (
            ("vgg", "he_normal", (1.0, 0.5)),
            ("vgg_bn", "glorot_normal", (size, cosine)),
            ("vgg", "glorot_normal", (30.0, 0.0)),
            ("vgg_bn", "he_normal", (0.03, 1.0)),
        ):
            wobble = folder.wobble(seed if model == "vgg_bn" else 2)
            ics = {
                **{"step": [0, 100, 200], "layer": [2, 2, 2], "cosine": [turn * wobble] * 3},
                **{"l2": [length * wobble] * 3, "relative": [2 * length * wobble] * 3},
            }
            for lr in (0.1, 0.01):
                setting = {"optim__lr": lr, "init__name": init}
                folder.write(model, seed, {"ics": ics}, sweep="own_initialisation", **setting)
    result = folder.judged("shift_own_initialisation")
    assert result.verdict == verdict and result.runs == 20 and len(result.components) == 6
    assert result.components[2].effect == pytest.approx(size, rel=0.01)
