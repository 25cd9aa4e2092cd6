import math

import numpy
import pytest
from scipy import stats

from src.analysis.statistics import (
    equivalence,
    first_reached,
    holm,
    mcnemar,
    mean,
    ratio_of_means,
    steps_ratio,
)


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


class TestMean:
    def test_is_scipy_s_t_test(self, random):
        x = random.normal(1, 2, 7)
        found, known = mean(x, null=0.5), stats.ttest_1samp(x, 0.5)
        assert found.effect == pytest.approx(x.mean())
        assert found.p == pytest.approx(known.pvalue)
        assert found.interval == pytest.approx(tuple(known.confidence_interval(0.95)))
        wide = mean(x, level=0.99).interval
        assert wide == pytest.approx(tuple(known.confidence_interval(0.99)))

    def test_differences_are_the_paired_test(self, random):
        a, b = random.normal(0, 1, (2, 6))
        assert mean(b - a).p == pytest.approx(stats.ttest_rel(b, a).pvalue)

    def test_two_values_by_hand(self):
        # t(1) is Cauchy: the 97.5 % point is tan(0.475 pi); the error is |1 - 3| / 2
        low, high = mean([1.0, 3.0]).interval
        assert (high - low) / 2 == pytest.approx(math.tan(0.475 * math.pi))

    @pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0], [0.1] * 5, [1.0, math.inf]])
    def test_without_spread_there_is_no_interval(self, values):
        found = mean(values)
        assert found.interval is None and found.p is None and found.n == len(values)
        assert math.isnan(found.effect) == (not values)

    def test_all_infinite_alike_is_beyond_everything(self):
        for value in (math.inf, -math.inf):
            found = mean([value] * 3)
            assert (found.effect, found.interval, found.p) == (value, (value, value), 0.0)
        assert mean([math.inf]).interval is None
        assert mean([math.inf, -math.inf]).interval is None

    def test_nan_is_not_counted(self):
        assert mean([1.0, math.nan, 2.0, 3.0]) == mean([1.0, 2.0, 3.0])
        assert mean([math.nan]).n == 0

    def test_floor_is_the_least_spread(self):
        low, high = mean([1.0] * 4, floor=0.5).interval
        half = stats.t.ppf(0.975, 3) * 0.5 / 2
        assert (low, high) == pytest.approx((1 - half, 1 + half))
        x = [0.0, 1.0, 5.0]
        assert mean(x, floor=0.5) == mean(x)

    def test_false_positives_and_coverage_at_five_seeds(self, random):
        draws = random.normal(0.3, 1, (4000, 5))
        found = [mean(x, null=0.3) for x in draws]
        rejected = numpy.mean([e.p < 0.05 for e in found])
        covered = numpy.mean([e.interval[0] <= 0.3 <= e.interval[1] for e in found])
        assert rejected == pytest.approx(0.05, abs=0.012)  # 3.5 standard errors
        assert covered == pytest.approx(1 - rejected)  # they are one test

    def test_interval_covers_at_five_seeds_of_a_skewed_quantity(self, random):
        # a log ratio of two gamma variables: not normal, but symmetric
        x = numpy.log(random.gamma(2, size=(2, 2000, 5)))
        covered = [e.interval[0] <= 0 <= e.interval[1] for e in map(mean, x[1] - x[0])]
        assert numpy.mean(covered) == pytest.approx(0.95, abs=0.02)


class TestEquivalence:
    def test_is_scipy_s_two_one_sided_tests(self, random):
        x = random.normal(0.2, 1, 8)
        above = stats.ttest_1samp(x, -1, alternative="greater").pvalue
        below = stats.ttest_1samp(x, 1, alternative="less").pvalue
        assert equivalence(x, -1, 1) == pytest.approx(max(above, below))

    def test_agrees_with_the_90_percent_interval(self, random):
        for x in random.normal(0, 1, (200, 5)):
            low, high = mean(x, level=0.9).interval
            assert (equivalence(x, -1, 1) < 0.05) == (low > -1 and high < 1)

    def test_false_positives_at_the_margin(self, random):
        p = [equivalence(x, -1, 1) for x in random.normal(1, 0.2, (4000, 5))]
        assert numpy.mean(numpy.array(p) < 0.05) == pytest.approx(0.05, abs=0.012)

    @pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0]])
    def test_without_spread_there_is_no_test(self, values):
        assert equivalence(values, -1, 1) is None


class TestRatioOfMeans:
    def test_interval_inverts_the_t_test(self, random):
        x, y = random.normal(1, 0.3, 6), random.normal(2, 0.4, 6)
        found = ratio_of_means(x, y, null=0.8)
        assert found.effect == pytest.approx(x.mean() / y.mean())
        for end in found.interval:
            assert stats.ttest_1samp(x - end * y, 0).pvalue == pytest.approx(0.05)
        assert found.p == pytest.approx(stats.ttest_1samp(x - 0.8 * y, 0).pvalue)

    def test_floor_is_the_least_spread(self, random):
        x, y = random.normal(1, 0.1, 6), random.normal(2, 0.1, 6)
        plain, wide = ratio_of_means(x, y, null=0.45), ratio_of_means(x, y, 0.45, floor=0.3)
        assert ratio_of_means(x, y, null=0.45, floor=1e-9) == plain
        assert plain.p < wide.p == pytest.approx(mean(x - 0.45 * y, floor=0.3).p)
        half = stats.t.ppf(0.975, 5) * 0.3 / math.sqrt(6) / y.mean()
        assert wide.interval == pytest.approx((wide.effect - half, wide.effect + half))
        low, high = wide.interval
        assert (low < 0.45 < high) == (wide.p > 0.05)

    def test_equal_values_have_the_interval_of_the_floor(self):
        found = ratio_of_means([1.0] * 5, [2.0] * 5, null=0.4, floor=0.1)
        half = stats.t.ppf(0.975, 4) * 0.1 / math.sqrt(5) / 2
        assert found.interval == pytest.approx((0.5 - half, 0.5 + half))
        assert ratio_of_means([1.0] * 5, [2.0] * 5, null=0.4).interval is None

    def test_any_ratio_is_possible_where_the_denominator_may_be_0(self):
        found = ratio_of_means([1.0, 2.0, 3.0], [1.0, -1.0, 0.5], null=0.5)
        assert found.interval is None and found.n == 3

    def test_coverage_and_false_positives_at_five_seeds(self, random):
        x, y = random.normal(0.5, 0.2, (2000, 5)), random.normal(1, 0.2, (2000, 5))
        found = [ratio_of_means(a, b, null=0.5) for a, b in zip(x, y, strict=True)]
        bounded = [e for e in found if e.interval]
        assert len(bounded) > 1900
        rejected = numpy.mean([e.p < 0.05 for e in found])
        assert rejected == pytest.approx(0.05, abs=0.017)
        covered = numpy.mean([e.interval[0] <= 0.5 <= e.interval[1] for e in bounded])
        assert covered == pytest.approx(0.95, abs=0.017)

    def test_nan_leaves_out_the_pair_and_one_pair_has_no_interval(self):
        found = ratio_of_means([1.0, math.nan], [2.0, 3.0], null=0.5)
        assert (found.effect, found.interval, found.n) == (0.5, None, 1)
        assert ratio_of_means([], [], null=0.5).n == 0


class TestHolm:
    def test_by_hand(self):
        assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
            {"a": 0.03, "b": 0.06, "c": 0.06}
        )

    def test_untested_count_in_a_family_of_fixed_size(self):
        assert holm({"a": 0.01, "b": None}) == {"a": 0.02, "b": None}

    def test_never_above_1_nor_below_p_and_in_order(self, random):
        p = {str(i): float(v) for i, v in enumerate(random.random(20))}
        adjusted = holm(p)
        order = sorted(p, key=p.__getitem__)
        assert all(p[name] <= adjusted[name] <= 1 for name in p)
        assert [adjusted[n] for n in order] == sorted(adjusted[n] for n in order)

    def test_one_false_rejection_in_a_family_is_rare(self, random):
        families = random.random((4000, 6))
        wrong = [min(holm(dict(enumerate(p))).values()) < 0.05 for p in families]
        assert numpy.mean(wrong) == pytest.approx(0.05, abs=0.012)


class TestMcNemar:
    @pytest.mark.parametrize(
        ("first", "second", "p"), [(0, 5, 2 / 32), (0, 6, 2 / 64), (1, 5, 14 / 64), (3, 3, 1)]
    )
    def test_is_the_sign_test_of_the_discordant(self, first, second, p):
        assert mcnemar(first, second) == pytest.approx(p) == mcnemar(second, first)

    def test_no_discordant_pair(self):
        assert mcnemar(0, 0) == 1


class TestFirstReached:
    def test_mean_of_five(self):
        steps, values = range(0, 100, 10), [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
        assert first_reached(steps, values, 0.2) == 40
        assert first_reached(steps, values, 0.6) == 60
        assert first_reached(steps, values, 1.0) == 80

    def test_a_single_lucky_batch_does_not_count(self):
        assert first_reached(range(10), [0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 0.5) == math.inf
        assert first_reached(range(10), [0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 0.5, points=1) == 5

    def test_equal_values_reach_themselves(self):
        assert first_reached(range(5), [0.7] * 5, 0.7) == 4

    def test_never(self):
        assert first_reached(range(4), [1.0] * 4, 0.5) == math.inf  # too few for a mean
        assert first_reached(range(6), [math.nan] * 6, 0.5) == math.inf


class TestStepsRatio:
    def test_all_reached(self):
        found = steps_ratio([100, 200], [50, 50], [1000, 1000])
        assert numpy.exp(found.log_ratio) == pytest.approx([0.5, 0.25])
        assert (found.bound, found.reached, found.p_reached) == (None, (2, 2), 1)

    @pytest.mark.parametrize(
        ("first", "second", "bound", "reached"),
        [
            ([100, math.inf], [50, 100], "at most", (1, 2)),
            ([100, 100], [50, math.inf], "at least", (2, 1)),
            ([100, math.inf], [math.inf, 50], None, (1, 1)),
            ([math.inf, math.inf], [math.inf, 50], None, (0, 1)),
            ([math.inf, math.inf], [math.inf, math.inf], None, (0, 0)),
        ],
    )
    def test_censored(self, first, second, bound, reached):
        found = steps_ratio(first, second, [1000, 1000])
        assert (found.bound, found.reached) == (bound, reached)
        restricted = numpy.minimum([first, second], 1000)
        assert found.log_ratio == pytest.approx(list(numpy.log(restricted[1] / restricted[0])))

    def test_bound_is_one_of_the_truth(self, random):
        a, b = random.exponential(500, (2, 400)) + 1
        for horizon in (100, 400):
            for first, second in zip(a, b, strict=True):
                seen = [math.inf if t > horizon else t for t in (first, second)]
                found = steps_ratio(seen[:1], seen[1:], [horizon])
                truth = math.log(second / first)
                if found.bound == "at most":
                    assert truth < found.log_ratio[0]
                elif found.bound == "at least":
                    assert truth > found.log_ratio[0]
                elif found.reached == (1, 1):
                    assert truth == pytest.approx(found.log_ratio[0])

    def test_exact_test_on_reached_or_not(self):
        found = steps_ratio([math.inf] * 6, [10] * 6, [100] * 6)
        assert found.p_reached == pytest.approx(2 / 64)
