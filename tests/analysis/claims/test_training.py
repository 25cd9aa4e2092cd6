import math

import pytest
from scipy import stats

LEVELS = (0.4, 0.5, 0.6, 0.7)


@pytest.fixture
def trained(folder):
    """Write runs of a sweep that reach the levels at given steps, the same for all levels."""

    def write(model, steps, seeds=folder.seeds, sweep="fig1_training", **settings):
        for seed in seeds:
            at = {
                level: 40 + 10 * round(steps * folder.wobble(seed) * (1 + number) / 10)
                for number, level in enumerate(LEVELS)
                if steps is not None
            }
            folder.write(model, seed, {"metrics": folder.curve(at)}, sweep=sweep, **settings)

    return write


class TestFasterTraining:
    def test_supported(self, folder, trained):
        trained("vgg", 400)
        trained("vgg_bn", 100)
        result = folder.judged("faster_training")
        assert result.verdict == "supported" and result.confirmatory
        assert result.seeds == 5 and result.scale == "small"
        assert len(result.components) == 4
        assert result.effect == pytest.approx((40 + 100) / (40 + 400), rel=0.2)
        low, high = result.interval
        assert low < result.effect < high < 1
        assert result.p < 1e-3 and result.p_holm == result.p
        assert not result.older_than_rule and result.diverged == {}

    def test_contradicted(self, folder, trained):
        trained("vgg", 100)
        trained("vgg_bn", 400)
        assert folder.judged("faster_training").verdict == "contradicted"

    def test_inconclusive_where_seeds_disagree(self, folder, trained):
        for seed, (a, b) in enumerate([(100, 400), (400, 100), (300, 200), (200, 300), (200, 210)]):
            trained("vgg", a, [seed])
            trained("vgg_bn", b, [seed])
        result = folder.judged("faster_training")
        assert result.verdict == "inconclusive"
        assert result.interval[0] < 1 < result.interval[1]

    def test_mixed_where_levels_disagree(self, folder):
        for seed in folder.seeds:
            early, late = 100 * seed + 200, 2000 + 10 * seed
            at = [(early * 2, early * 2 + 100, 1500, 1700), (early, early + 50, late, late + 300)]
            slow, quick = (folder.curve(dict(zip(LEVELS, steps, strict=True))) for steps in at)
            folder.write("vgg", seed, {"metrics": slow}, sweep="fig1_training")
            folder.write("vgg_bn", seed, {"metrics": quick}, sweep="fig1_training")
        result = folder.judged("faster_training")
        assert result.verdict == "mixed"
        verdicts = [part.verdict for part in result.components]
        assert verdicts == ["supported", "supported", "contradicted", "contradicted"]

    def test_four_seeds_are_inconclusive_and_shown(self, folder, trained):
        trained("vgg", 400, range(4))
        trained("vgg_bn", 100)
        result = folder.judged("faster_training")
        assert (result.verdict, result.seeds) == ("inconclusive", 4)
        assert result.effect < 1 and result.interval[1] < 1

    def test_not_run(self, folder, trained):
        trained("vgg_bn", 100)
        result = folder.judged("faster_training")
        assert (result.verdict, result.seeds, result.effect) == ("not run", 0, None)
        assert "no seed" in result.note

    def test_nothing_at_all(self, folder):
        result = folder.judged("faster_training")
        assert (result.verdict, result.scale, result.note) == ("not run", None, "")

    def test_a_standard_net_that_never_gets_there_bounds_the_ratio(self, folder, trained):
        trained("vgg", None)
        trained("vgg_bn", 100)
        result = folder.judged("faster_training")
        assert (result.verdict, result.bound) == ("supported", "at most")
        assert "reached by 0 of 5 and 5 of 5" in result.components[0].label
        assert result.components[0].effect == pytest.approx(140 / 3000, rel=0.05)

    def test_what_two_ends_hide_in_opposite_ways_is_left_open(self, folder):
        for seed in folder.seeds:
            for model, at in (("vgg", 50 if seed == 0 else None), ("vgg_bn", 150)):
                steps = range(50, 3001, 50)
                values = [0.8 if at and step >= at else 0.1 for step in steps]
                evaluated = folder.metric("train_eval/accuracy", steps, values)
                tables = {"metrics": folder.stack(folder.curve({}), evaluated)}
                folder.write(model, seed, tables, sweep="fig1_training")
        parts = folder.judged("faster_training").readings[1].components
        assert {(part.verdict, part.bound) for part in parts} == {("inconclusive", None)}

    def test_levels_that_neither_reaches_say_nothing(self, folder):
        for seed in folder.seeds:
            for model, steps in (("vgg", 1000), ("vgg_bn", 200)):
                at = {0.4: steps + 10 * seed}
                folder.write(model, seed, {"metrics": folder.curve(at)}, sweep="fig1_training")
        result = folder.judged("faster_training")
        assert result.verdict == "supported"
        assert [part.verdict for part in result.components] == ["supported", *["not run"] * 3]
        assert "to 70%: no pair got far enough" in result.note

    def test_neither_gets_anywhere(self, folder, trained):
        trained("vgg", None)
        trained("vgg_bn", None)
        result = folder.judged("faster_training")
        assert (result.verdict, result.effect, result.seeds) == ("inconclusive", None, 5)

    def test_diverged_runs_count_and_are_shown(self, folder, trained):
        for seed in folder.seeds:
            folder.write(
                "vgg", seed, {"metrics": folder.curve({})}, {"state": "diverged"}, "fig1_training"
            )
        trained("vgg_bn", 100)
        result = folder.judged("faster_training")
        assert result.verdict == "supported" and result.diverged == {"vgg": 5}

    def test_steps_in_evaluation_mode_are_a_reading(self, folder):
        for seed in folder.seeds:
            for model, steps, evaluated in (("vgg", 400, 500), ("vgg_bn", 100, 1000)):
                at = {level: steps + 10 * (seed + i) for i, level in enumerate(LEVELS)}
                taken = folder.metric("train_eval/accuracy", [evaluated + seed], [0.9])
                tables = {"metrics": folder.stack(folder.curve(at), taken)}
                folder.write(model, seed, tables, sweep="fig1_training")
        result = folder.judged("faster_training")
        told = {reading.reading: reading.verdict for reading in result.readings}
        assert told == {
            "accuracy=minibatch": "supported",
            "accuracy=train_eval/accuracy": "contradicted",
        }
        assert result.verdict == "supported"


class TestTrainsAtHalf:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict"),
        [
            ((0.1, 0.1), (0.7, 0.6), "supported"),
            ((0.7, 0.6), (0.1, 0.1), "contradicted"),
            ((0.6, 0.5), (0.7, 0.6), "mixed"),  # both train
            ((0.1, 0.1), (0.3, 0.3), "mixed"),  # neither
            ((0.6, 0.6), (0.7, 0.5), "mixed"),
            ((0.1, 0.6), (0.7, 0.6), "inconclusive"),
        ],
    )
    def test_verdicts(self, folder, standard, normalised, verdict):
        for seed in folder.seeds:
            for model, (train, test) in (("vgg", standard), ("vgg_bn", normalised)):
                tables = {"metrics": folder.final(train, test * folder.wobble(seed, 0.001))}
                folder.write(model, seed, tables, sweep="fig1_training", optim__lr=0.5)
        result = folder.judged("trains_at_half")
        assert result.verdict == verdict
        assert result.effect == pytest.approx(100 * (normalised[1] - standard[1]), abs=0.1)

    def test_seeds_that_agree_err_as_accuracies_do(self, folder):
        """Half a point each, and two of them in a difference."""
        for seed in folder.seeds:
            for model in ("vgg", "vgg_bn"):
                tables = {"metrics": folder.final(0.7, 0.6)}
                folder.write(model, seed, tables, sweep="fig1_training", optim__lr=0.5)
        result = folder.judged("trains_at_half")
        half = stats.t.ppf(0.975, 4) * 0.5 / math.sqrt(5)
        assert result.interval == pytest.approx((-half * math.sqrt(2), half * math.sqrt(2)))
        assert result.components[0].interval == pytest.approx((30 - half, 30 + half))

    def test_a_diverged_net_is_at_chance(self, folder):
        for seed in folder.seeds:
            lr = {"optim__lr": 0.5, "sweep": "fig1_training"}
            folder.write("vgg", seed, {}, {"state": "diverged"}, **lr)
            folder.write("vgg_bn", seed, {"metrics": folder.final(0.7, 0.6)}, **lr)
        result = folder.judged("trains_at_half")
        assert (result.verdict, result.diverged) == ("supported", {"vgg": 5})
        assert result.effect == pytest.approx(50)


class TestSaturatingTrains:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict"),
        [
            ({"sigmoid": 0.1, "tanh": 0.5}, {"sigmoid": 0.6, "tanh": 0.7}, "supported"),
            ({"sigmoid": 0.2, "tanh": 0.3}, {"sigmoid": 0.1, "tanh": 0.2}, "contradicted"),
            ({"sigmoid": 0.1, "tanh": 0.8}, {"sigmoid": 0.6, "tanh": 0.7}, "mixed"),
            ({"sigmoid": 0.1}, {"sigmoid": 0.6}, "inconclusive"),  # tanh is missing
            ({}, {}, "not run"),
        ],
    )
    def test_verdicts(self, folder, standard, normalised, verdict):
        for seed in folder.seeds:
            for model, finals in (("vgg", standard), ("vgg_bn", normalised)):
                for activation, accuracy in finals.items():
                    tables = {"metrics": folder.final(accuracy * folder.wobble(seed))}
                    folder.write(
                        model, seed, tables, sweep="saturating", model__activation=activation
                    )
        result = folder.judged("saturating_trains")
        assert result.verdict == verdict
        assert "model.activation" not in result.note  # it is what the claim varies

    def test_minibatches_are_a_reading_where_running_averages_lag_behind(self, folder):
        """BatchNorm trains by its batches' statistics; evaluated by the running ones it fails."""
        for seed in folder.seeds:
            for model, evaluated, batches in (("vgg", 0.2, 0.2), ("vgg_bn", 0.1, 0.7)):
                wobble = folder.wobble(seed if model == "vgg_bn" else 2)
                late = range(2700, folder.steps, 10)
                tables = {
                    "metrics": folder.stack(
                        folder.final(evaluated * wobble),
                        folder.metric("train/accuracy", late, [batches * wobble] * len(late)),
                    )
                }
                for activation in ("sigmoid", "tanh"):
                    folder.write(
                        model, seed, tables, sweep="saturating", model__activation=activation
                    )
        result = folder.judged("saturating_trains")
        assert result.verdict == "contradicted"
        assert {r.reading: r.verdict for r in result.readings} == {
            "accuracy=train_eval/accuracy": "contradicted",
            "accuracy=minibatch": "supported",
        }


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.2, 0.3, 0.3, 0.2), "supported"),
        ((-0.1, -0.2, -0.1, -0.2), "contradicted"),
        ((-0.1, 0.3, 0.3, 0.2), "mixed"),
        ((0.2, 0.3, 0.3), "inconclusive"),  # the largest is missing
    ],
)
def test_the_gain_at_each_batch_size(folder, gains, verdict):
    for seed in folder.seeds:
        for size, gain in zip((8, 32, 128, 512), gains, strict=False):
            for model, accuracy in (("vgg", 0.4), ("vgg_bn", 0.4 + gain * folder.wobble(seed))):
                tables = {"metrics": folder.final(accuracy)}
                folder.write(model, seed, tables, sweep="batch_size", data__batch_size=size)
    result = folder.judged("every_batch_size")
    assert result.verdict == verdict
    assert result.components[0].effect == pytest.approx(100 * gains[0])


def test_minibatches_err_by_their_own_size_and_not_that_of_the_smallest(folder):
    """Thirty records of eight images may be 4.6 points apart; of 512, half a point."""
    late = range(2700, folder.steps, 10)
    for seed in folder.seeds:
        for size in (8, 32, 128, 512):
            for model, accuracy in (("vgg", 0.4), ("vgg_bn", 0.434 + 0.001 * seed)):
                batches = folder.metric("train/accuracy", late, [accuracy] * len(late))
                tables = {"metrics": folder.stack(folder.final(accuracy), batches)}
                folder.write(model, seed, tables, sweep="batch_size", data__batch_size=size)
    result = folder.judged("every_batch_size")
    by_minibatches = next(r for r in result.readings if r.reading == "accuracy=minibatch")
    verdicts = [part.verdict for part in by_minibatches.components]
    assert verdicts == ["inconclusive", "supported", "supported", "supported"]
    assert result.verdict == "supported"


@pytest.mark.parametrize(
    ("detached", "running", "verdict"),
    [
        ((0.1, 0.1), (0.1, 0.12), "supported"),
        ((0.6, 0.5), (0.6, 0.5), "contradicted"),
        ((0.1, 0.1), (0.1, 0.6), "mixed"),
        ((0.1, 0.1), (0.1, None), "inconclusive"),
    ],
)
def test_statistics_that_are_constants_and_not_those_of_the_batch(
    folder, detached, running, verdict
):
    finals = {"batch": (0.8, 0.8), "detached": detached, "running": running}
    for seed in folder.seeds:
        for statistics, accuracies in finals.items():
            for lr, accuracy in zip((0.1, 0.01), accuracies, strict=True):
                if accuracy is not None:
                    tables = {"metrics": folder.final(accuracy * folder.wobble(seed))}
                    setting = {"optim__lr": lr, "model__statistics": statistics}
                    folder.write("vgg_bn", seed, tables, sweep="controls", **setting)
    result = folder.judged("constant_statistics")
    assert result.verdict == verdict
    assert result.components[0].effect == pytest.approx(100 * (detached[0] - 0.15))


class TestMlpFaster:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict"),
        [
            (1000, 300, "supported"),
            (300, 1000, "contradicted"),
            (math.inf, 300, "supported"),
            (math.inf, math.inf, "inconclusive"),
        ],
    )
    def test_verdicts(self, folder, standard, normalised, verdict):
        for seed in folder.seeds:
            for model, at in (("mlp", standard), ("mlp_bn", normalised)):
                steps = range(0, folder.steps, 50)
                values = [0.9 if step >= at + 50 * (seed % 2) else 0.1 for step in steps]
                tables = {"metrics": folder.metric("val/accuracy", steps, values)}
                folder.write(model, seed, tables, sweep="ioffe_mlp")
        assert folder.judged("mlp_faster").verdict == verdict

    @pytest.mark.parametrize(
        ("standard", "normalised", "bound"),
        [(1000, 50, "at most"), (50, 1000, "at least"), (50, 50, None), (1000, 300, None)],
    )
    def test_who_is_there_at_the_first_evaluation_was_there_before(
        self, folder, standard, normalised, bound
    ):
        for seed in folder.seeds:
            for model, at in (("mlp", standard), ("mlp_bn", normalised)):
                steps = range(50, folder.steps, 50)
                values = [0.9 if step >= at else 0.1 for step in steps]
                tables = {"metrics": folder.metric("val/accuracy", steps, values)}
                folder.write(model, seed, tables, sweep="ioffe_mlp")
        assert {part.bound for part in folder.judged("mlp_faster").components} == {bound}
