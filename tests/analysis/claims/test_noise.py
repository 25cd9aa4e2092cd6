import math

import pytest
from scipy import stats

LEVELS = (0.4, 0.5, 0.6, 0.7)


class TestNoisyTrains:
    @staticmethod
    def write(folder, standard, normalised, noisy, seeds=range(5)):
        for seed in seeds:
            nets = (("vgg", standard, 0), ("vgg_bn", normalised, 1), ("vgg_noisy", noisy, 2))
            for model, steps, shift in nets:
                # so that the nets of a seed do not move together
                wobbled = None if steps is None else steps * folder.wobble(seed * shift + 1)
                at = {} if wobbled is None else dict.fromkeys(LEVELS, 10 * round(wobbled / 10))
                folder.write(model, seed, {"metrics": folder.curve(at)}, sweep="fig2_noise")

    @pytest.mark.parametrize(
        ("steps", "verdict"),
        [
            ((2700, 300, 500), "supported"),
            ((2700, 300, 1900), "contradicted"),
            ((2700, 300, 900), "inconclusive"),  # one half of the gap, in logarithms
            ((300, 2700, 1900), "inconclusive"),  # the gap is the wrong way round
            ((None, None, None), "inconclusive"),
            ((None, 300, None), "inconclusive"),  # any share is possible
        ],
    )
    def test_verdicts(self, folder, steps, verdict):
        self.write(folder, *steps)
        result = folder.judged("noisy_trains")
        assert result.verdict == verdict and result.confirmatory and result.bound is None

    @pytest.mark.parametrize(
        ("steps", "verdict"),
        [
            ((None, 300, 2500), "inconclusive"),  # the gap may be as wide as one likes
            ((2900, 300, None), "contradicted"),
            ((2900, None, 2500), "inconclusive"),  # the gap is the wrong way round
        ],
    )
    def test_a_share_is_small_if_it_is_whatever_was_not_seen(self, folder, steps, verdict):
        self.write(folder, *steps)
        parts = folder.judged("noisy_trains").components
        assert {part.verdict for part in parts} == {verdict}

    def test_a_level_that_batchnorm_alone_reaches_is_left_open(self, folder):
        for seed in folder.seeds:
            for model, steps in (("vgg", 2700), ("vgg_bn", 300), ("vgg_noisy", 500)):
                at = {0.4: steps + 10 * seed} | ({0.5: 900} if model == "vgg_bn" else {})
                folder.write(model, seed, {"metrics": folder.curve(at)}, sweep="fig2_noise")
        result = folder.judged("noisy_trains")
        verdicts = [part.verdict for part in result.components]
        assert verdicts == ["supported", "inconclusive", "not run", "not run"]
        assert result.verdict == "inconclusive"
        assert "reached by 0 of 5, 5 of 5, 0 of 5" in result.components[1].label

    @pytest.mark.parametrize("first", [50, 100])
    def test_who_is_there_when_first_looked_at_was_there_before(self, folder, first):
        for seed in folder.seeds:
            for model, at in (("vgg", 2500 + 50 * seed), ("vgg_bn", first), ("vgg_noisy", 150)):
                steps = range(50, 3001, 50)
                values = [0.8 if step >= at else 0.1 for step in steps]
                evaluated = folder.metric("train_eval/accuracy", steps, values)
                late = folder.curve(dict.fromkeys(LEVELS, 10 * (at // 10)))
                tables = {"metrics": folder.stack(late, evaluated)}
                folder.write(model, seed, tables, sweep="fig2_noise")
        (reading,) = folder.judged("noisy_trains").readings[1:]
        assert reading.reading == "accuracy=train_eval/accuracy" and reading.bound is None
        assert reading.verdict == ("inconclusive" if first == 50 else "supported")

    def test_steps_are_known_to_within_what_lies_between_two_records(self, folder):
        steps = {"vgg": 2700, "vgg_bn": 300, "vgg_noisy": 500}
        for seed in folder.seeds:
            for model, at in steps.items():
                curve = folder.curve(dict.fromkeys(LEVELS, at))
                folder.write(model, seed, {"metrics": curve}, sweep="fig2_noise")
        widths = [share * 10 / at for share, at in zip((0.5, 0.5, 1), steps.values(), strict=True)]
        error = math.sqrt(sum(width**2 for width in widths) / 12 / 5)
        half = stats.t.ppf(0.975, 4) * error / math.log(2700 / 300)
        effect = math.log(2700 / 500) / math.log(2700 / 300)
        highest = folder.judged("noisy_trains").components[-1]
        assert highest.interval == pytest.approx((effect - half, effect + half))

    def test_each_seed_alone(self, folder):
        self.write(folder, 2700, 300, 500, range(4, -1, -1))
        values = folder.judged("noisy_trains").values
        assert list(values) == [0, 1, 2, 3, 4] and all(0.6 < v < 0.9 for v in values.values())

    def test_the_paper_s_own_share(self, folder):
        self.write(folder, 2900, 800, 1300)
        assert folder.judged("noisy_trains").effect == pytest.approx(0.62, abs=0.02)

    def test_a_standard_net_that_never_gets_there_bounds_the_share(self, folder):
        self.write(folder, None, 300, 500)
        result = folder.judged("noisy_trains")
        assert (result.verdict, result.bound) == ("supported", "at least")
        assert "0 of 5, 5 of 5, 5 of 5: standard, BatchNorm, noisy" in result.components[0].label

    def test_four_seeds_of_all_three(self, folder):
        self.write(folder, 2700, 300, 500, range(4))
        assert folder.judged("noisy_trains").verdict == "inconclusive"

    def test_not_run_without_all_three(self, folder):
        for seed in folder.seeds:
            folder.write("vgg", seed, {"metrics": folder.curve({0.4: 100})}, sweep="fig2_noise")
        assert folder.judged("noisy_trains").verdict == "not run"


class TestNoisyFinal:
    @pytest.mark.parametrize(
        ("late", "evaluated", "verdict"),
        [
            (-0.005, 0.002, "supported"),
            (-0.1, -0.1, "contradicted"),
            (-0.1, 0.0, "mixed"),
            (-0.018, -0.018, "inconclusive"),
        ],
    )
    def test_verdicts(self, folder, late, evaluated, verdict):
        for seed in folder.seeds:
            for model, by in (("vgg_bn", 0), ("vgg_noisy", 1)):
                noise = 0.004 * (seed - 2) * by
                minibatches = folder.metric(
                    "train/accuracy", range(0, folder.steps, 10), [0.9 + by * late + noise] * 300
                )
                final = folder.final(0.9 + by * evaluated + noise)
                tables = {"metrics": folder.stack(minibatches, final)}
                folder.write(model, seed, tables, sweep="fig2_noise")
        assert folder.judged("noisy_final").verdict == verdict

    @pytest.mark.parametrize(("part", "images"), [(0, 30 * 128), (1, 10_000)])
    def test_seeds_that_agree_know_it_to_an_accuracy_s_error(self, folder, part, images):
        for seed in folder.seeds:
            minibatches = folder.metric("train/accuracy", range(0, folder.steps, 10), [0.9] * 300)
            tables = {"metrics": folder.stack(minibatches, folder.final(0.9))}
            for model in ("vgg_bn", "vgg_noisy"):
                folder.write(model, seed, tables, sweep="fig2_noise")
        low, high = folder.judged("noisy_final").components[part].interval
        error = 100 * math.sqrt(2 * 0.25 / images)
        assert (low, high) == pytest.approx(
            (-2.776 * error / 5**0.5, 2.776 * error / 5**0.5), rel=1e-3
        )

    def test_a_diverged_net_is_at_chance(self, folder):
        for seed in folder.seeds:
            minibatches = folder.metric("train/accuracy", range(0, folder.steps, 10), [0.9] * 300)
            tables = {"metrics": folder.stack(minibatches, folder.final(0.9))}
            folder.write("vgg_bn", seed, tables, sweep="fig2_noise")
            folder.write("vgg_noisy", seed, tables, {"state": "diverged"}, "fig2_noise")
        result = folder.judged("noisy_final")
        assert (result.verdict, result.diverged) == ("contradicted", {"vgg_noisy": 5})
        assert result.effect == pytest.approx(-80)


class TestNoisyUnstable:
    @staticmethod
    def activations(sites):
        """Return two units whose means move by so much of their spread, at two pairs of steps."""
        rows = [
            (step + after, 2, site, unit, (1 + unit) * moved * after, float((1 + unit) ** 2))
            for site, moved in sites.items()
            for step in (0, 100)
            for after in (0, 1)
            for unit in (0, 1)
        ]
        keys = ("step", "layer", "site", "unit", "mean", "variance")
        return {key: [row[i] for row in rows] for i, key in enumerate(keys)}

    @pytest.mark.parametrize(
        ("before_norm", "after_noise", "verdict"),
        [(0.1, 0.3, "supported"), (0.001, 0.001, "contradicted"), (0.001, 0.3, "mixed")],
    )
    def test_verdicts(self, folder, before_norm, after_noise, verdict):
        for seed in folder.seeds:
            own = 0.02 * folder.wobble(seed)
            standard = self.activations({"before_norm": own, "after_noise": own})
            sites = {"before_norm": before_norm, "after_norm": 0.0, "after_noise": after_noise}
            noisy = self.activations(sites)
            folder.write("vgg", seed, {"activations": standard}, sweep="fig2_noise")
            folder.write("vgg_noisy", seed, {"activations": noisy}, sweep="fig2_noise")
        result = folder.judged("noisy_unstable")
        assert result.verdict == verdict
        effects = {part.label: part.effect for part in result.components}
        assert effects == {
            "before_norm": pytest.approx(before_norm / 0.02, rel=0.01),
            "after_noise": pytest.approx(after_noise / 0.02, rel=0.01),
        }

    def test_without_activations(self, folder):
        for seed in folder.seeds:
            for model in ("vgg", "vgg_noisy"):
                folder.write(model, seed, {}, sweep="fig2_noise")
        assert folder.judged("noisy_unstable").verdict == "not run"


class TestForLong:
    """In a step the noise moves means by a spread, back and forth; the parameters by little."""

    @staticmethod
    def write(folder, model, seed, jitter, drift, late=True):
        sites = {"after_noise": 1.0 if model == "vgg" else 10.0}
        if model != "vgg":
            sites["before_norm"] = 1.0
        rows = [
            (step, 2, site, unit, times * drift * step + jitter * (step % 2), 1.0 + 0.01 * step)
            for step in (0, 1, 100, 101, 500, 501, *((1500, 1501, 1600, 2000) if late else ()))
            for unit in (0, 1)
            for site, times in sites.items()
        ]
        keys = ("step", "layer", "site", "unit", "mean", "variance")
        table = {key: [row[i] for row in rows] for i, key in enumerate(keys)}
        folder.write(model, seed, {"activations": table}, sweep="fig2_noise")

    def test_jitter_is_no_drift(self, folder):
        for seed in folder.seeds:
            self.write(folder, "vgg", seed, 0.0, 0.01 * folder.wobble(seed))
            self.write(folder, "vgg_noisy", seed, 1.0, 0.002)
            self.write(folder, "vgg_bn", seed, 0.0, 0.001)
        assert folder.judged("noisy_unstable").components[0].effect > 50
        noisy, plain = map(folder.judged, ("noisy_unstable_for_long", "stable_for_long"))
        assert (noisy.verdict, plain.verdict) == ("mixed", "supported")
        when = ("100 steps", "500 steps")
        when = (*when, *(f"{lag}, from 33% of training on" for lag in when))
        assert [part.label for part in noisy.components] == [
            f"{site}, {part}" for site in ("before_norm", "after_noise") for part in when
        ]
        effects = [part.effect for part in noisy.components]
        assert effects == pytest.approx([0.2] * 4 + [2.0] * 4, rel=0.02)
        assert [part.effect for part in plain.components] == pytest.approx([0.1] * 4, rel=0.02)

    def test_the_first_third_is_not_the_rest(self, folder):
        for seed in folder.seeds:
            self.write(folder, "vgg", seed, 0.0, 0.01 * folder.wobble(seed))
            self.write(folder, "vgg_bn", seed, 0.0, 0.001, late=False)
        early, _, *late = folder.judged("stable_for_long").components
        assert early.seeds == 5 and [part.verdict for part in late] == ["not run"] * 2

    def test_the_spread_is_that_of_both_steps(self, folder):
        for seed in folder.seeds:
            for model, to in (("vgg", 1.0), ("vgg_bn", 7.0)):
                site = "after_noise" if model == "vgg" else "before_norm"
                w = folder.wobble(seed) if model == "vgg" else 1.0
                table = {"step": [0, 100], "layer": [2, 2], "site": [site] * 2, "unit": [0, 0]}
                table |= {"mean": [0.0, w], "variance": [1.0, to]}
                folder.write(model, seed, {"activations": table}, sweep="fig2_noise")
        part = folder.judged("stable_for_long").components[0]
        assert part.effect == pytest.approx(0.5, rel=0.01)


class TestSteadiness:
    """What moves before the norm: less than without BatchNorm, more where noise follows."""

    @staticmethod
    def write(folder, model, seed, **sites):
        tables = {"activations": TestNoisyUnstable.activations(sites)}
        folder.write(model, seed, tables, sweep="fig2_noise")

    @pytest.mark.parametrize(
        ("before_norm", "verdict"), [(0.01, "supported"), (0.5, "contradicted")]
    )
    def test_against_the_standard_network(self, folder, before_norm, verdict):
        for seed in folder.seeds:
            own = 0.1 * folder.wobble(seed)
            self.write(folder, "vgg", seed, before_norm=9.0, after_noise=own)
            self.write(folder, "vgg_bn", seed, before_norm=before_norm, after_norm=0.0)
        result = folder.judged("stable_distributions")
        assert result.verdict == verdict
        assert result.components[0].effect == pytest.approx(before_norm / 0.1, rel=0.01)

    @pytest.mark.parametrize(
        ("batch", "verdict"), [("fixed", "supported"), ("training", "not run")]
    )
    def test_on_the_same_images(self, folder, batch, verdict):
        """Runs of other sweeps tell nothing of it, unless they look at the same images too."""
        for seed in folder.seeds:
            for model, moved in (("vgg", 0.1 * folder.wobble(seed)), ("vgg_bn", 0.01)):
                sites = {"after_noise": moved, "before_norm": moved}
                tables = {"activations": TestNoisyUnstable.activations(sites)}
                status = {"probes": {"activations": {"batch": batch}}}
                folder.write(model, seed, tables, status, sweep="fig2_noise")
        result = folder.judged("stable_on_same_images")
        assert result.verdict == verdict
        assert folder.judged("stable_distributions").verdict == "supported"

    @pytest.mark.parametrize(
        ("noisy", "verdict"), [(0.8, "supported"), (0.01, "contradicted"), (0.1, "inconclusive")]
    )
    def test_against_batch_norm_without_noise(self, folder, noisy, verdict):
        for seed in folder.seeds:
            self.write(folder, "vgg_bn", seed, before_norm=0.1 * folder.wobble(seed))
            self.write(folder, "vgg_noisy", seed, before_norm=noisy, after_noise=9.0)
        result = folder.judged("noise_unsettles")
        assert (result.verdict, result.seeds) == (verdict, 5)
        assert result.effect == pytest.approx(noisy / 0.1, rel=0.01)


class TestNoiseStops:
    KINDS = ({}, {"noise__relative": True}, {"noise__n_sigma": 1.0, "noise__r_sigma": 0.0})

    @pytest.mark.parametrize(
        ("claim", "sweep", "kind"),
        [
            ("plain_noise_stops", "fig2_noise", KINDS[0]),
            ("relative_noise_stops", "controls", KINDS[1]),
            ("shifts_stop", "noise_sensitivity", KINDS[2]),
        ],
    )
    @pytest.mark.parametrize(
        ("noisy", "plain", "verdict"),
        [
            (0.1, 0.6, "supported"),
            (0.6, 0.6, "contradicted"),
            (0.15, 0.6, "inconclusive"),
            (0.1, 0.2, "not run"),  # a network that does not train without the noise
            (0.1, None, "not run"),
        ],
    )
    def test_verdicts(self, folder, noisy, plain, verdict, claim, sweep, kind):
        for seed in folder.seeds:
            finals = [("vgg_plain_noisy", noisy, kind)]
            finals += [("vgg_plain_noisy", 0.12, other) for other in self.KINDS if other != kind]
            finals += [("vgg", plain, {})] if plain is not None else []
            for model, accuracy, noise in finals:
                tables = {"metrics": folder.final(accuracy)}
                folder.write(model, seed, tables, sweep=sweep, **noise)
        result = folder.judged(claim)
        assert result.verdict == verdict
        assert (result.interval is None) == (verdict == "not run")  # even where seeds agree wholly
