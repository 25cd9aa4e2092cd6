import itertools
import math

import pytest

RATES = [0.001, 0.01, 0.1, 1.0]


@pytest.fixture
def trained(folder):
    """Write runs at each rate that end at given accuracies; sharpness is measured at the first."""

    def write(model, accuracies, seeds=folder.seeds, sharpness=None, rates=RATES):
        for seed in seeds:
            for lr, accuracy in zip(rates, accuracies, strict=False):
                tables = {"metrics": folder.final(accuracy * folder.wobble(seed))}
                if sharpness is not None and lr == rates[0]:
                    value = sharpness * folder.wobble(seed)
                    quantity = ["largest_eigenvalue"]
                    tables["curvature"] = {"step": [0], "quantity": quantity, "value": [value]}
                folder.write(model, seed, tables, sweep="lr_sensitivity", optim__lr=lr)

    return write


class TestHigherRate:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict", "effect", "bound"),
        [
            ((0.6, 0.6, 0.1, 0.1), (0.6, 0.6, 0.6, 0.1), "supported", 10, None),
            ((0.6, 0.1, 0.1, 0.1), (0.6, 0.6, 0.6, 0.1), "supported", 100, None),
            ((0.6, 0.1, 0.1, 0.1), (0.6, 0.6, 0.6, 0.6), "supported", 1000, "at least"),
            ((0.1, 0.1, 0.1, 0.1), (0.6, 0.6, 0.6, 0.1), "supported", 100, "at least"),
            ((0.6, 0.6, 0.6, 0.6), (0.6, 0.1, 0.1, 0.1), "contradicted", 1e-3, "at most"),
            ((0.6, 0.6, 0.1, 0.1), (0.6, 0.6, 0.1, 0.1), "inconclusive", 1, None),
            ((0.6, 0.6, 0.6, 0.6), (0.6, 0.6, 0.6, 0.6), "inconclusive", 1, None),
        ],
    )
    def test_verdicts(self, folder, trained, standard, normalised, verdict, effect, bound):
        trained("vgg", standard)
        trained("vgg_bn", normalised)
        result = folder.judged("higher_rate")
        assert (result.verdict, result.bound, result.seeds) == (verdict, bound, 5)
        assert result.effect == pytest.approx(effect)

    def test_the_grid_is_no_finer_than_its_spacing(self, folder, trained):
        trained("vgg", (0.6, 0.6, 0.1, 0.1))
        trained("vgg_bn", (0.6, 0.6, 0.6, 0.1))
        low, high = folder.judged("higher_rate").interval
        half = 2.776 * math.log(10) / math.sqrt(6) / math.sqrt(5)
        assert math.log(high / low) / 2 == pytest.approx(half, rel=1e-3)

    def test_a_rate_is_rounded_to_the_next_one_and_no_further(self, folder, trained):
        """The grid is coarse where it is low, and that says nothing of where it is fine."""
        rates = [0.003, 0.03, 0.3, 0.5, 1.0]
        trained("vgg", (0.6, 0.6, 0.6, 0.1, 0.1), rates=rates)
        trained("vgg_bn", (0.6, 0.6, 0.6, 0.6, 0.1), rates=rates)
        result = folder.judged("higher_rate")
        assert result.verdict == "supported" and result.effect == pytest.approx(0.5 / 0.3)
        rounding = math.hypot(math.log(0.5 / 0.3), math.log(1 / 0.5)) / math.sqrt(12)
        low, high = result.interval
        assert math.log(high / low) / 2 == pytest.approx(2.776 * rounding / math.sqrt(5), rel=1e-3)

    @pytest.mark.parametrize("claim", ["higher_rate", "rate_sensitivity"])
    def test_minibatches_are_a_reading(self, folder, claim):
        """By them BatchNorm trains at every rate, by evaluations only at half of them."""
        late = range(2700, folder.steps, 10)
        for seed in folder.seeds:
            for model, batches in (("vgg", 0.1), ("vgg_bn", 0.6)):
                for lr in RATES:
                    evaluated = 0.6 if lr < 0.1 else 0.1
                    accuracy = max(evaluated, batches)
                    rows = folder.metric("train/accuracy", late, [accuracy] * len(late))
                    tables = {"metrics": folder.stack(folder.final(evaluated), rows)}
                    folder.write(model, seed, tables, sweep="lr_sensitivity", optim__lr=lr)
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
                    folder.write(
                        model, seed, {"metrics": rows}, sweep="lr_sensitivity", optim__lr=lr
                    )
        result = folder.judged("higher_rate")
        assert result.effect == pytest.approx(10)
        assert "no seed tells by the main reading" in result.note

    def test_where_neither_trains_there_is_nothing_to_compare(self, folder, trained):
        trained("vgg", (0.1,) * 4)
        trained("vgg_bn", (0.1,) * 4)
        assert folder.judged("higher_rate").verdict == "not run"

    @pytest.mark.parametrize("claim", ["higher_rate", "rate_sensitivity"])
    def test_three_rates_decide_nothing(self, folder, trained, claim):
        trained("vgg", (0.6, 0.1, 0.1))
        trained("vgg_bn", (0.6, 0.6, 0.6))
        assert folder.judged(claim).verdict == "not run"

    def test_four_seeds(self, folder, trained):
        trained("vgg", (0.6, 0.1, 0.1, 0.1), range(4))
        trained("vgg_bn", (0.6,) * 4)
        assert folder.judged("higher_rate").verdict == "inconclusive"


class TestRateSensitivity:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict"),
        [
            ((0.1, 0.6, 0.1, 0.1), (0.6, 0.6, 0.6, 0.6), "supported"),
            ((0.6, 0.6, 0.6, 0.6), (0.1, 0.6, 0.1, 0.1), "contradicted"),
            ((0.1, 0.6, 0.6, 0.1), (0.1, 0.6, 0.6, 0.1), "inconclusive"),
            ((0.1, 0.1, 0.1, 0.1), (0.6, 0.6, 0.6, 0.6), "supported"),  # nowhere is not everywhere
        ],
    )
    def test_verdicts(self, folder, trained, standard, normalised, verdict):
        trained("vgg", standard)
        trained("vgg_bn", normalised)
        result = folder.judged("rate_sensitivity")
        assert result.verdict == verdict
        assert len(result.readings) == 1  # minibatches were not recorded

    def test_mixed_where_the_best_rate_may_be_exceeded_by_less(self, folder, trained):
        trained("vgg", (0.1, 0.1, 0.6, 0.59))
        trained("vgg_bn", (0.55, 0.55, 0.6, 0.1))
        result = folder.judged("rate_sensitivity")
        share, above = result.judged
        assert (share.verdict, share.effect) == ("supported", 25)
        assert (above.verdict, above.bound) == ("contradicted", "at most")
        assert above.effect == pytest.approx(0.1) and result.verdict == "mixed"

    def test_not_run(self, folder, trained):
        trained("vgg", (0.6,) * 4)
        assert folder.judged("rate_sensitivity").verdict == "not run"


class TestInitDependence:
    POINTS = tuple(itertools.product(("glorot_normal", "he_normal", "torch"), (1.0, 2.0)))

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
            both = [(accuracy, None) for accuracy in accuracies * 2]
            self.write(folder, model, dict(zip(self.POINTS, both, strict=True)))
        assert folder.judged("init_dependence").verdict == verdict

    def test_minibatches_are_a_reading(self, folder):
        """BatchNorm ends alike from each by its minibatches; its evaluations lag from one."""
        standard = [(0.9, 0.9), (0.5, 0.5), (0.7, 0.7)] * 2
        normalised = [(0.9, 0.9), (0.2, 0.9), (0.9, 0.9)] * 2
        for model, both in (("vgg", standard), ("vgg_bn", normalised)):
            self.write(folder, model, dict(zip(self.POINTS, both, strict=True)))
        assert {r.reading: r.verdict for r in folder.judged("init_dependence").readings} == {
            "accuracy=train_eval/accuracy": "contradicted",
            "accuracy=minibatch": "supported",
        }

    def test_five_initialisations_decide_nothing(self, folder):
        for model, low in (("vgg", 0.3), ("vgg_bn", 0.68)):
            both = [(0.7, None), (low, None)] * 3
            self.write(folder, model, dict(list(zip(self.POINTS, both, strict=True))[:5]))
        assert folder.judged("init_dependence").verdict == "not run"


class TestSharpnessRate:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict"),
        [(20, 200, "supported"), (20 * 300, 200 * 300, "contradicted"), (20, 200e-3, "mixed")],
    )
    def test_verdicts(self, folder, trained, standard, normalised, verdict):
        trained("vgg", (0.6, 0.6, 0.6, 0.1), sharpness=standard)
        trained("vgg_bn", (0.6, 0.6, 0.1, 0.1), sharpness=normalised)
        result = folder.judged("sharpness_rate")
        assert result.verdict == verdict
        effects = {part.label: part.effect for part in result.components}
        assert effects["vgg"] == pytest.approx(0.1 * standard / 2, rel=0.01)

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
                folder.write("vgg", seed, tables, sweep="lr_sensitivity", optim__lr=lr)
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
        result = folder.judged("sharpness_rate")
        assert (result.verdict, result.bound) == (verdict, "at least")
        assert result.effect == pytest.approx(sharpness / 2, rel=0.01)

    def test_without_curvature(self, folder, trained):
        trained("vgg", (0.6,) * 4)
        assert folder.judged("sharpness_rate").verdict == "not run"
