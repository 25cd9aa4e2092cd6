import itertools
import math

import pytest
from scipy import stats

RATES = [0.001, 0.01, 0.1, 1.0]
GRID = {"scale": "smoke", "sweep": "lr_sensitivity"}  # where four rates are a whole grid


@pytest.fixture
def trained(folder):
    """Write runs at each rate that end at given accuracies; sharpness is measured at the first."""

    def write(model, accuracies, seeds=folder.seeds, sharpness=None, rates=RATES):
        for seed in seeds:
            for lr, accuracy in zip(rates, accuracies, strict=False):
                tables = {"metrics": folder.final(accuracy * folder.wobble(seed))}
                if sharpness is not None and lr == rates[0]:
                    value = sharpness * folder.wobble(seed)
                    quantity = ["gradient_curvature", *["largest_eigenvalue"] * 2]
                    tables["curvature"] = {
                        **{"step": [0, 3000, 0], "quantity": quantity},
                        "value": [9 * value, 7 * value, value],
                    }
                folder.write(model, seed, tables, **GRID, optim__lr=lr)

    return write


@pytest.mark.parametrize(
    ("standard", "normalised", "verdict", "effect"),
    [
        ((0.55, 0.55, 0.1, 0.1, 0.1), (0.8, 0.8, 0.8, 0.8, 0.1), "supported", 4),
        ((0.55, 0.55, 0.1, 0.1, 0.1), (0.8, 0.8, 0.8, 0.8, 0.8), "supported", 4),  # at least
        ((0.55, 0.55, 0.55, 0.1, 0.1), (0.8, 0.8, 0.2, 0.1, 0.1), "contradicted", 0.5),
        ((0.55, 0.55, 0.55, 0.1, 0.1), (0.8, 0.8, 0.6, 0.6, 0.1), "mixed", 0.5),  # trains, though
        ((0.55, 0.55, 0.1, 0.1, 0.1), (0.8, 0.8, 0.1, 0.1, 0.1), "inconclusive", 1),
        ((0.55, 0.55, 0.1, 0.1), (0.8, 0.8, 0.8, 0.8), "not run", None),  # not the whole grid
    ],
)
def test_the_strongest_noise_borne(folder, standard, normalised, verdict, effect):
    def write(model, seed, final, **setting):
        late = range(2700, folder.steps, 10)
        accuracy = final * folder.wobble(seed, 0.005)
        minibatches = folder.metric("train/accuracy", late, [accuracy] * len(late))
        folder.write(model, seed, {"metrics": minibatches}, sweep="noise_sensitivity", **setting)

    for seed in range(6):
        write("vgg", seed, 0.6 if seed < 5 else 0.15)  # one that does not train bears anything
        write("vgg_bn", seed, 0.85)
        for model, finals in (("vgg_plain_noisy", standard), ("vgg_noisy", normalised)):
            write(model, seed, 0.1, noise__r_mu=0.0)  # another shape
            for strength, accuracy in zip((0.25, 0.5, 1.0, 2.0, 4.0), finals, strict=False):
                write(model, seed, accuracy, noise__strength=strength)
                write(model, seed, 0.1, noise__strength=strength, optim__lr=0.5)
    result = folder.judged("noise_tolerance")
    assert result.verdict == verdict and result.seeds == (0 if effect is None else 5)
    assert result.effect == (effect and pytest.approx(effect, rel=1e-4))


class TestHigherRate:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict", "effect", "bound"),
        [
            ((0.6, 0.6, 0.1, 0.1), (0.6, 0.6, 0.6, 0.1), "supported", 10, None),
            ((0.6, 0.1, 0.1, 0.1), (0.6, 0.6, 0.6, 0.1), "supported", 100, None),
            ((0.6, 0.1, 0.1, 0.1), (0.6, 0.6, 0.6, 0.6), "supported", 100, "at least"),
            ((0.1, 0.1, 0.1, 0.1), (0.6, 0.6, 0.6, 0.1), "supported", 100, "at least"),
            ((0.6, 0.6, 0.6, 0.6), (0.6, 0.1, 0.1, 0.1), "contradicted", 1e-2, "at most"),
            ((0.6, 0.6, 0.1, 0.1), (0.6, 0.6, 0.1, 0.1), "inconclusive", 1, None),
            ((0.6, 0.6, 0.6, 0.6), (0.6, 0.6, 0.6, 0.6), "inconclusive", None, None),
        ],
    )
    def test_verdicts(self, folder, trained, standard, normalised, verdict, effect, bound):
        trained("vgg", standard)
        trained("vgg_bn", normalised)
        result = folder.judged("higher_rate")
        assert (result.verdict, result.bound, result.seeds) == (verdict, bound, 5)
        assert result.effect == (effect and pytest.approx(effect, rel=1e-4))
        if bound:  # all seeds have the same one, which is no certainty
            assert result.interval is None

    def test_what_the_grid_hides_does_not_average_out_over_seeds(self, folder, trained):
        """Between 0.01 and 0.1 against between 0.1 and 1: anything from 1 to 100."""
        trained("vgg", (0.6, 0.6, 0.1, 0.1))
        trained("vgg_bn", (0.6, 0.6, 0.6, 0.1))
        assert folder.judged("higher_rate").interval == pytest.approx((1, 100), rel=1e-4)

    def test_a_rate_lies_below_the_next_one_and_no_further(self, folder, trained):
        """The grid is coarse where it is low, and that says nothing of where it is fine."""
        rates = [0.003, 0.03, 0.3, 0.5, 1.0]
        trained("vgg", (0.6, 0.6, 0.6, 0.1, 0.1), rates=rates)
        trained("vgg_bn", (0.6, 0.6, 0.6, 0.6, 0.1), rates=rates)
        result = folder.judged("higher_rate")
        assert result.verdict == "supported" and result.effect == pytest.approx(0.5 / 0.3)
        assert result.interval == pytest.approx((1, 1 / 0.3), rel=1e-4)

    def test_one_seed_without_a_step_between_leaves_it_open(self, folder, trained):
        trained("vgg", (0.6, 0.6, 0.1, 0.1))
        trained("vgg_bn", (0.6, 0.6, 0.6, 0.1), range(4))
        trained("vgg_bn", (0.6, 0.6, 0.1, 0.1), [4])
        result = folder.judged("higher_rate")
        assert result.verdict == "inconclusive"
        assert result.effect == pytest.approx(10**0.8) and result.interval[0] < 1

    def test_a_seed_of_which_the_grid_tells_nothing_is_no_ratio_of_one(self, folder, trained):
        trained("vgg", (0.6, 0.1, 0.1, 0.1), range(4))
        trained("vgg", (0.6,) * 4, [4])
        trained("vgg_bn", (0.6,) * 4)
        result = folder.judged("higher_rate")
        assert (result.verdict, result.effect, result.interval) == ("inconclusive", None, None)
        assert "bounds it on either side" in result.effect_label

    @pytest.mark.parametrize("claim", ["higher_rate", "rate_sensitivity"])
    def test_minibatches_are_a_reading(self, folder, claim):
        """By them BatchNorm trains at every rate, by evaluations only at one."""
        late = range(2700, folder.steps, 10)
        for seed in folder.seeds:
            for model, batches in (("vgg", 0.1), ("vgg_bn", 0.6)):
                for lr in RATES:
                    evaluated = 0.6 if lr == 0.01 else 0.1
                    accuracy = max(evaluated, batches)
                    rows = folder.metric("train/accuracy", late, [accuracy] * len(late))
                    tables = {"metrics": folder.stack(folder.final(evaluated), rows)}
                    folder.write(model, seed, tables, **GRID, optim__lr=lr)
        assert {r.reading: r.verdict for r in folder.judged(claim).readings} == {
            "accuracy=train_eval/accuracy": "inconclusive",
            "accuracy=minibatch": "supported",
        }

    def test_without_evaluations_minibatches_are_judged_and_said_to_be(self, folder):
        for seed in folder.seeds:
            for model, trains in (("vgg", 2), ("vgg_bn", 3)):
                for place, lr in enumerate(RATES):
                    late = [0.6 if place < trains else 0.1]
                    rows = folder.metric("train/accuracy", [folder.steps - 10], late)
                    folder.write(model, seed, {"metrics": rows}, **GRID, optim__lr=lr)
        result = folder.judged("higher_rate")
        assert result.effect == pytest.approx(10)
        assert "no seed tells by the main reading" in result.note

    def test_where_neither_trains_there_is_nothing_to_compare(self, folder, trained):
        trained("vgg", (0.1,) * 4)
        trained("vgg_bn", (0.1,) * 4)
        assert folder.judged("higher_rate").verdict == "not run"

    @pytest.mark.parametrize("claim", ["higher_rate", "rate_sensitivity"])
    def test_what_is_not_the_whole_grid_decides_nothing(self, folder, trained, claim):
        """That a network fails at the lowest rates is no sign that it does at higher ones."""
        trained("vgg", (0.1, 0.1, 0.1, 0.6))
        trained("vgg_bn", (0.6, 0.6, 0.6))
        assert folder.judged(claim).verdict == "not run"

    def test_four_seeds(self, folder, trained):
        trained("vgg", (0.6, 0.1, 0.1, 0.1), range(4))
        trained("vgg_bn", (0.6,) * 4)
        assert folder.judged("higher_rate").verdict == "inconclusive"


class TestRateSensitivity:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict", "effect", "bound"),
        [
            ((0.1, 0.6, 0.1, 0.1), (0.6, 0.6, 0.6, 0.6), "supported", 10, "at least"),
            ((0.6, 0.6, 0.6, 0.6), (0.1, 0.6, 0.1, 0.1), "contradicted", 0.1, "at most"),
            ((0.1, 0.6, 0.6, 0.1), (0.1, 0.6, 0.6, 0.1), "inconclusive", 1, None),
            ((0.1, 0.1, 0.1, 0.1), (0.1, 0.6, 0.6, 0.1), "supported", 10, "at least"),
            # A range that ends with the grid may be wider.
            ((0.1, 0.6, 0.6, 0.1), (0.1, 0.1, 0.1, 0.6), "inconclusive", 1e-3, "at least"),
            ((0.6, 0.6, 0.1, 0.1), (0.1, 0.6, 0.6, 0.6), "inconclusive", None, None),
            # Good again beyond a rate that is not is no wider range.
            ((0.1, 0.6, 0.1, 0.6), (0.1, 0.6, 0.1, 0.1), "inconclusive", 1, None),
        ],
    )
    def test_verdicts(self, folder, trained, standard, normalised, verdict, effect, bound):
        trained("vgg", standard)
        trained("vgg_bn", normalised)
        result = folder.judged("rate_sensitivity")
        assert (result.verdict, result.bound) == (verdict, bound)
        assert result.effect == (effect and pytest.approx(effect, rel=1e-4))
        assert len(result.readings) == 1  # minibatches were not recorded

    def test_more_rates_where_the_grid_is_dense_are_no_wider_range(self, folder, trained):
        rates = [0.001, 0.003, 0.03, 0.1, 0.3, 0.5, 1.0, 3.0]
        trained("vgg", (0.1, 0.6, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1), rates=rates)
        trained("vgg_bn", (0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 0.1), rates=rates)
        result = folder.judged("rate_sensitivity")
        assert result.verdict == "inconclusive" and result.effect == pytest.approx(1)
        assert result.interval == pytest.approx((0.1, 10), rel=1e-4)

    def test_mixed_where_the_best_rate_may_be_exceeded_by_less(self, folder, trained):
        rates = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
        trained("vgg", (0.1, 0.1, 0.1, 0.6, 0.59, 0.59, 0.59, 0.1, 0.1), rates=rates)
        trained("vgg_bn", (0.1, 0.55, 0.55, 0.55, 0.55, 0.55, 0.55, 0.6, 0.1), rates=rates)
        whole, above = (result := folder.judged("rate_sensitivity")).judged
        assert whole.verdict == "supported" and whole.effect == pytest.approx(30)
        assert above.verdict == "contradicted" and above.effect == pytest.approx(0.03)
        assert result.verdict == "mixed"

    def test_beyond_the_grid_the_best_rate_may_be_exceeded_by_any_factor(self, folder, trained):
        trained("vgg", (0.1, 0.6, 0.59, 0.1))
        trained("vgg_bn", (0.1, 0.55, 0.55, 0.6))
        above = folder.judged("rate_sensitivity").components[0]
        assert (above.verdict, above.bound) == ("inconclusive", "at least")

    def test_of_equally_good_rates_the_lowest_is_the_best(self, folder, trained):
        trained("vgg", (0.1, 0.6, 0.1, 0.1))
        trained("vgg_bn", (0.1, 0.6, 0.6, 0.1))
        assert folder.judged("rate_sensitivity").components[0].effect == pytest.approx(10)

    def test_not_run(self, folder, trained):
        trained("vgg", (0.6,) * 4)
        assert folder.judged("rate_sensitivity").verdict == "not run"


class TestInitDependence:
    NAMES = ("glorot_normal", "he_normal", "torch")
    POINTS = tuple(itertools.product(NAMES, (0.5, 1.0, 2.0, 3.0)))[:11]

    def write(self, folder, model, accuracies):
        for seed in folder.seeds:
            for (name, gain), (accuracy, late) in accuracies.items():
                final = folder.final(accuracy * folder.wobble(seed, 0.01))
                rows = late and folder.metric("train/accuracy", [folder.steps - 10], [late])
                tables = {"metrics": folder.stack(final, rows) if rows else final}
                init = {"init__name": name, "init__gain": gain}
                folder.write(model, seed, tables, sweep="init_sensitivity", **init)

    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict"),
        [
            ((0.7, 0.3, 0.5), (0.7, 0.68, 0.72), "supported"),
            ((0.7, 0.68, 0.72), (0.7, 0.42, 0.5), "contradicted"),
            ((0.7, 0.5, 0.6), (0.7, 0.5, 0.6), "inconclusive"),
            ((0.9, 0.42, 0.41), (0.1, 0.1, 0.41), "mixed"),  # narrower, from fewer
            ((0.1, 0.1, 0.1), (0.7, 0.6, 0.5), "not run"),  # no spread where none trains
        ],
    )
    def test_verdicts(self, folder, standard, normalised, verdict):
        for model, accuracies in (("vgg", standard), ("vgg_bn", normalised)):
            both = [(accuracy, None) for accuracy in accuracies * 4]
            self.write(folder, model, dict(zip(self.POINTS, both, strict=False)))
        assert folder.judged("init_dependence").verdict == verdict

    def test_minibatches_are_a_reading(self, folder):
        """BatchNorm ends alike from each by its minibatches; its evaluations lag from one."""
        standard = [(0.9, 0.9), (0.5, 0.5), (0.7, 0.7)] * 4
        normalised = [(0.9, 0.9), (0.2, 0.9), (0.9, 0.9)] * 4
        for model, both in (("vgg", standard), ("vgg_bn", normalised)):
            self.write(folder, model, dict(zip(self.POINTS, both, strict=False)))
        assert {r.reading: r.verdict for r in folder.judged("init_dependence").readings} == {
            "accuracy=train_eval/accuracy": "mixed",  # alike from those from which both train
            "accuracy=minibatch": "supported",
        }

    def test_a_share_is_known_to_a_run(self, folder):
        """Of two shares each is rounded to one of eleven runs, evenly."""
        for model, low in (("vgg", 0.1), ("vgg_bn", 0.7)):
            both = [(0.7, None), *[(low, None)] * 10]
            self.write(folder, model, dict(zip(self.POINTS, both, strict=True)))
        share, _ = folder.judged("init_dependence").components
        error = math.sqrt(2 / 12) * 100 / 11 / math.sqrt(5)
        half = stats.t.ppf(0.975, 4) * error
        assert share.interval == pytest.approx((1000 / 11 - half, 1000 / 11 + half))

    def test_the_spread_over_those_from_which_both_train(self, folder):
        for model, accuracies in (("vgg", (0.9, 0.6, 0.1)), ("vgg_bn", (0.8, 0.7, 0.9))):
            both = [(accuracy, None) for accuracy in accuracies * 4]
            self.write(folder, model, dict(zip(self.POINTS, both, strict=False)))
        _, part = folder.judged("init_dependence").components
        assert part.effect == pytest.approx(5 - 15, rel=0.01) and part.verdict == "supported"

    def test_ten_initialisations_decide_nothing(self, folder):
        for model, low in (("vgg", 0.3), ("vgg_bn", 0.68)):
            both = [(0.7, None), (low, None)] * 5
            self.write(folder, model, dict(zip(self.POINTS, both, strict=False)))
        assert folder.judged("init_dependence").verdict == "not run"


class TestSharpnessRate:
    RATES = (0.03, 0.1, 0.2, 0.4)

    def write(self, trained, **sharpness):
        """Write networks of which all train up to 0.1, and none at 0.2."""
        for model, value in sharpness.items():
            trained(model, (0.6, 0.6, 0.1, 0.1), sharpness=value, rates=self.RATES)

    @pytest.mark.parametrize(
        ("standard", "verdict"),
        [
            (20, "supported"),
            (6000, "contradicted"),
            (0.2, "contradicted"),
            (60, "inconclusive"),  # three times the edge, or six
            (3, "inconclusive"),  # 0.15 of it, or 0.3
        ],
    )
    def test_verdicts(self, folder, trained, standard, verdict):
        self.write(trained, vgg=standard, vgg_bn=20, vgg_noisy=20)
        result = folder.judged("sharpness_rate")
        mixed = {"contradicted": "mixed"}
        assert result.verdict == mixed.get(verdict, verdict)
        part = result.components[0]
        assert (part.label, part.verdict, part.bound) == ("vgg", verdict, None)
        assert part.effect == pytest.approx(0.1 * standard / 2, rel=0.01)
        assert part.interval[1] / part.interval[0] > 2

    def test_a_gap_of_the_grid_around_the_edge_leaves_it_open(self, folder, trained):
        """A sixth of the edge, or six times it."""
        rates = (0.001, 0.003, 0.1, 0.5)
        trained("vgg", (0.6, 0.6, 0.1, 0.1), sharpness=118, rates=rates)
        part = folder.judged("sharpness_rate").components[0]
        assert part.verdict == "inconclusive"
        assert part.interval == pytest.approx((0.17, 6.1), rel=0.05)

    def test_every_network_is_needed(self, folder, trained):
        self.write(trained, vgg=20, vgg_bn=20)
        result = folder.judged("sharpness_rate")
        assert result.verdict == "inconclusive" and "vgg_noisy: no seed tells" in result.note

    def test_minibatches_are_a_reading(self, folder):
        """By them a rate ten times as high trains, and the edge is elsewhere."""
        for seed in folder.seeds:
            finals = ((0.6, 0.6), (0.6, 0.6), (0.1, 0.6), (0.1, 0.1))
            for lr, (evaluated, late) in zip(RATES, finals, strict=True):
                rows = folder.metric("train/accuracy", [folder.steps - 10], [late])
                curvature = {"step": [0], "quantity": ["largest_eigenvalue"]}
                tables = {
                    "metrics": folder.stack(folder.final(evaluated), rows),
                    "curvature": curvature | {"value": [200 * folder.wobble(seed)]},
                }
                folder.write("vgg", seed, tables, **GRID, optim__lr=lr)
        result = folder.judged("sharpness_rate")
        readings = {r.reading: r.effect for r in result.readings}
        assert readings == {
            "accuracy=train_eval/accuracy": pytest.approx(1, rel=0.01),
            "accuracy=minibatch": pytest.approx(10, rel=0.01),
        }
        assert [r.judged[0].effect for r in result.readings] == list(readings.values())

    @pytest.mark.parametrize(
        ("sharpness", "verdict"),
        [(2, "inconclusive"), (0.02, "inconclusive"), (200, "contradicted")],
    )
    def test_beyond_the_grid_s_end_it_may_be_anywhere(self, folder, trained, sharpness, verdict):
        trained("vgg", (0.6,) * 4, sharpness=sharpness)
        part = folder.judged("sharpness_rate").components[0]
        assert (part.verdict, part.bound) == (verdict, "at least")
        assert part.effect == pytest.approx(sharpness / 2, rel=0.01)

    def test_without_curvature(self, folder, trained):
        trained("vgg", (0.6,) * 4)
        assert folder.judged("sharpness_rate").verdict == "not run"
