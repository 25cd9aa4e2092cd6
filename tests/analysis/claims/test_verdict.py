import math

import numpy
import pytest

from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, concluded, difference, ratio


def by_seed(values):
    return dict(enumerate(values))


SPREAD = numpy.array([-0.2, -0.1, 0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("direction", "centre", "verdict"),
    [
        ("less", -1, "supported"),
        ("less", 1, "contradicted"),
        ("less", 0.1, "inconclusive"),
        ("greater", 1, "supported"),
        ("greater", -1, "contradicted"),
        ("greater", 0.1, "inconclusive"),
        ("not less", 1, "supported"),
        ("not less", 0, "supported"),
        ("not less", -0.25, "contradicted"),  # within the margin, but less for sure
        ("not less", -1, "contradicted"),
        ("not greater", -1, "supported"),
        ("not greater", 0, "supported"),
        ("not greater", 1, "contradicted"),
        ("equal", 0, "supported"),
        ("equal", 0.45, "inconclusive"),
        ("equal", 1, "contradicted"),
        ("equal", -1, "contradicted"),
    ],
)
def test_directions(direction, centre, verdict):
    margin = {"equal": 0.5, "not less": 0.5, "not greater": 0.5}.get(direction, 0.0)
    for than in (0.0, 2.0):
        found = difference("", "", by_seed(SPREAD + centre + than), direction, than, margin)
        assert found.verdict == verdict
        assert found.effect == pytest.approx(centre + than)
        assert (found.p < 0.05) == (verdict != "inconclusive")
    logs = ratio("", "", by_seed(SPREAD + centre + math.log(2)), direction, 2.0, math.exp(margin))
    assert logs.verdict == verdict and logs.effect == pytest.approx(2 * math.exp(centre))


@pytest.mark.parametrize(
    ("direction", "centre", "under"),
    [  # the verdict on a lower bound, and on an upper one
        ("less", -1, ("inconclusive", "supported")),
        ("less", 1, ("contradicted", "inconclusive")),
        ("not less", 1, ("supported", "inconclusive")),
        ("not less", -1, ("inconclusive", "contradicted")),
        ("greater", 1, ("supported", "inconclusive")),
        ("greater", -1, ("inconclusive", "contradicted")),
        ("not greater", -1, ("inconclusive", "supported")),
        ("equal", 0, ("inconclusive", "inconclusive")),
        ("equal", 1, ("contradicted", "inconclusive")),
        ("equal", -1, ("inconclusive", "contradicted")),
    ],
)
def test_a_bound_decides_nothing_on_its_open_side(direction, centre, under):
    logs, margin = by_seed(SPREAD + centre), math.exp(0.5)
    judged = [
        ratio("", "", logs, direction, 1.0, margin, bound=bound)
        for bound in ("at least", "at most")
    ]
    assert tuple(part.verdict for part in judged) == under
    assert [part.bound for part in judged] == ["at least", "at most"]


def test_false_positives_of_each_direction_at_five_seeds():
    random = numpy.random.default_rng(1)
    draws = random.normal(0, 1, (1500, 5))
    for direction in ("less", "greater"):
        verdicts = [difference("", "", by_seed(x), direction).verdict for x in draws]
        assert verdicts.count("supported") / len(draws) == pytest.approx(0.025, abs=0.014)
        assert verdicts.count("contradicted") / len(draws) == pytest.approx(0.025, abs=0.014)
    # At the margin itself a claim that it is not beyond it is false.
    verdicts = [difference("", "", by_seed(x - 2), "not less", margin=2.0).verdict for x in draws]
    assert verdicts.count("supported") / len(draws) <= 0.04
    judged = [difference("", "", by_seed(x / 5 + 2), "equal", margin=2.0) for x in draws]
    found = [part.verdict == "supported" for part in judged]
    assert sum(found) / len(draws) == pytest.approx(0.025, abs=0.014)
    for part, supported in zip(judged, found, strict=True):  # its interval and its p say the same
        low, high = part.interval
        assert supported == (low > -2 and high < 2) == (part.p < 0.05 and part.effect < 2)


@pytest.mark.parametrize(
    ("values", "verdict", "seeds"),
    [
        ([], "not run", 0),
        ([math.nan] * 5, "not run", 0),
        ([1.0], "inconclusive", 1),
        ([1.0, 1.1, 0.9, 1.0], "inconclusive", 4),
        ([1.0, 1.1, 0.9, 1.0, math.nan], "inconclusive", 4),
        ([1.0] * 5, "inconclusive", 5),  # no spread to judge by
        ([1.0, 1.1, 0.9, 1.0, math.inf], "inconclusive", 5),
        ([1.0, 1.1, 0.9, 1.0, 1.0], "supported", 5),
    ],
)
def test_what_there_is_too_little_of(values, verdict, seeds):
    found = difference("", "", by_seed(values), "greater")
    assert (found.verdict, found.seeds) == (verdict, seeds)


def test_what_each_seed_alone_says():
    found = ratio("", "", {3: math.log(2), 5: math.nan, 1: math.log(4)}, "greater")
    assert found.values == {3: pytest.approx(2), 1: pytest.approx(4)} and found.seeds == 2


def part(verdict, seeds=5, p=0.01):
    return Component(verdict, "", 1.0, None, None, seeds, p, verdict)


class TestConcluded:
    @pytest.mark.parametrize(
        ("verdicts", "expected"),
        [
            (["supported", "supported"], "supported"),
            (["contradicted", "contradicted"], "contradicted"),
            (["supported", "contradicted"], "mixed"),
            (["supported", "inconclusive", "contradicted"], "mixed"),
            (["supported", "inconclusive"], "inconclusive"),
            (["inconclusive"], "inconclusive"),
        ],
    )
    def test_every_part_must_hold(self, verdicts, expected):
        assert concluded(Finding([part(v) for v in verdicts]))[0] == expected

    def test_the_weakest_part_is_shown(self):
        parts = [part("supported", p=p) for p in (0.01, 0.04, 0.02)]
        assert concluded(Finding(parts)) == ("supported", parts[1])
        parts = [part("inconclusive", 1, None), part("inconclusive", 3, 0.2)]
        assert concluded(Finding(parts)) == ("inconclusive", parts[1]), "the one of more seeds"

    @pytest.mark.parametrize("p", [0.005, 0.02])
    def test_an_opposite_part_must_be_more_than_the_chance_of_so_many(self, p):
        parts = [part("supported", p=0.001), *[part("inconclusive", p=0.5)] * 8]
        verdict, shown = concluded(Finding([*parts, part("contradicted", p=p)]))
        expected = "mixed" if 9 * p < 0.05 else "inconclusive"
        assert verdict == shown.verdict == expected
        assert (shown.effect, shown.p) == ((None, None) if expected == "mixed" else (1.0, 0.5))
        finding = Finding([*parts[1:], part("contradicted", p=p)], whole=parts[0])
        assert concluded(finding)[0] == ("mixed" if 9 * p < 0.05 else "supported")

    def test_an_opposite_part_that_a_grid_decides_has_no_p(self):
        parts = [part("supported"), part("contradicted", p=None)]
        verdict, shown = concluded(Finding(parts))
        assert (verdict, shown.effect, shown.seeds) == ("mixed", None, 5)

    def test_a_part_without_a_seed_holds_nothing(self):
        parts = [part("supported"), part("not run", seeds=0)]
        assert concluded(Finding(parts)) == ("inconclusive", parts[0])

    def test_a_part_no_run_got_to_is_left_out(self):
        parts = [part("supported"), part("not run", seeds=5)]
        assert concluded(Finding(parts)) == ("supported", parts[0])
        assert concluded(Finding(parts[1:]))[0] == "inconclusive"

    def test_nothing(self):
        assert concluded(Finding([])) == ("not run", None)
        assert concluded(Finding([part("not run", seeds=0)])) == ("not run", None)
        assert concluded(Finding([], part("not run", seeds=0))) == ("not run", None)

    @pytest.mark.parametrize(
        ("whole", "detail", "expected"),
        [
            ("supported", "inconclusive", "supported"),
            ("supported", "contradicted", "mixed"),
            ("contradicted", "supported", "mixed"),
            ("inconclusive", "supported", "inconclusive"),
        ],
    )
    def test_the_whole_decides_unless_a_detail_says_the_opposite(self, whole, detail, expected):
        finding = Finding([part(detail)], whole=part(whole))
        assert concluded(finding) == (expected, finding.whole)
