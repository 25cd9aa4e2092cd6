from typing import ClassVar

import pytest

STEPS = range(0, 3000, 100)
RATES = (0.01, 0.03, 0.1, 0.3, 0.5)


class TestBestRate:
    LOSSES: ClassVar = {"vgg": (1.0, 0.9, 0.5, 0.8, 0.7), "vgg_bn": (1.0, 0.9, 0.8, 0.9, 0.2)}

    def write(self, folder, losses, gap, accuracies=None, seeds=range(5, 11), rates=RATES):
        """Write landscapes at each rate; of a network the seeds whose accuracy is given train."""
        for seed in seeds:
            for model, by_rate in losses.items():
                for lr, loss in zip(rates, by_rate[: len(rates)], strict=True):
                    size = gap * folder.wobble(seed) if model == "vgg_bn" else 1.0
                    accuracy = (accuracies or {}).get((model, lr), lambda seed: 0.8)(seed)
                    rows = folder.metric("train/loss", range(0, folder.steps, 10), [loss] * 300)
                    tables = {
                        "landscape": folder.landscape(STEPS, size, size, lr=lr),
                        "metrics": folder.stack(rows, folder.final(accuracy)),
                    }
                    folder.write(model, seed, tables, sweep="confounds", optim__lr=lr)

    @pytest.mark.parametrize(("gap", "verdict"), [(0.3, "supported"), (40.0, "contradicted")])
    def test_verdicts(self, folder, gap, verdict):
        self.write(folder, self.LOSSES, gap)
        result = folder.judged("landscape_best_rate")
        assert result.verdict == verdict
        assert list(result.values) == [6, 7, 8, 9, 10]  # the lowest seed is left out
        assert "of the rates 0.01 to 0.5, on seed 5: vgg 0.1, vgg_bn 0.5" in result.note

    def test_a_rate_that_diverges_is_not_the_best(self, folder):
        self.write(folder, self.LOSSES, 0.3)
        folder.write("vgg_bn", 5, {}, {"state": "diverged"}, "confounds", optim__lr=0.5)
        assert "vgg_bn 0.1" in folder.judged("landscape_best_rate").note

    def test_a_rate_at_which_one_seed_in_six_trains_is_not_the_best(self, folder):
        lucky = {("vgg", 0.1): lambda seed: 0.8 if seed == 5 else 0.1}
        self.write(folder, self.LOSSES, 0.3, lucky)
        assert "vgg 0.5" in folder.judged("landscape_best_rate").note

    def test_a_pair_of_which_one_does_not_train_tells_nothing(self, folder):
        unlucky = {("vgg", 0.1): lambda seed: 0.1 if seed == 7 else 0.8}
        self.write(folder, self.LOSSES, 0.3, unlucky)
        assert list(folder.judged("landscape_best_rate").values) == [6, 8, 9, 10]

    def test_four_rates_decide_nothing(self, folder):
        self.write(folder, self.LOSSES, 0.3, seeds=range(6, 11))
        self.write(folder, self.LOSSES, 0.3, seeds=[5], rates=RATES[:4])  # the seed that chooses
        assert folder.judged("landscape_best_rate").verdict == "not run"


class TestOffEdge:
    @pytest.mark.parametrize(
        ("size", "verdict"), [(0.3, "supported"), (1.4, "contradicted"), (1.0, "inconclusive")]
    )
    def test_verdicts(self, folder, compared, size, verdict):
        def make(place, w):
            edge = folder.landscape(range(1000, 3000, 100), beta=20.0)  # 2 / LR: says nothing
            off = folder.landscape(range(0, 1000, 100), beta=(size if place else 1.0) * w * 10)
            return {k: edge[k] + off[k] for k in edge}

        compared(make, "confounds")
        result = folder.judged("beta_off_edge")
        assert result.verdict == verdict and result.effect == pytest.approx(size, rel=0.01)

    def test_rates_always_at_the_edge_are_left_out(self, folder, compared):
        compared(lambda place, w: folder.landscape(STEPS, beta=20.0), "confounds")
        assert folder.judged("beta_off_edge").verdict == "not run"

    def test_mixed_over_rates(self, folder, compared):
        for lr, size in ((0.1, 0.3), (0.01, 1.4)):
            compared(
                lambda place, w, s=size, lr=lr: folder.landscape(
                    STEPS, beta=(s if place else 1.0) * w * 10, lr=lr
                ),
                "confounds",
                optim__lr=lr,
            )
        assert folder.judged("beta_off_edge").verdict == "mixed"

    @pytest.mark.parametrize(("steps", "verdict"), [(4, "not run"), (5, "supported")])
    def test_five_steps_off_the_edge_are_the_least(self, folder, compared, steps, verdict):
        def make(place, w):
            edge = folder.landscape(STEPS[steps:], beta=20.0)
            return folder.stack(
                folder.landscape(STEPS[:steps], beta=(0.3 if place else 1) * w), edge
            )

        compared(make, "confounds")
        assert folder.judged("beta_off_edge").verdict == verdict

    def test_one_run_in_six_that_does_not_train_is_left_out_alone(self, folder, compared):
        def make(place, w):
            return folder.landscape(STEPS, beta=(0.3 if place else 1.0) * w * 10)

        compared(make, "confounds", seeds=range(5))
        compared(make, "confounds", seeds=[5], accuracy=0.1)
        result = folder.judged("beta_off_edge")
        assert (result.verdict, list(result.values)) == ("supported", [0, 1, 2, 3, 4])

    def test_rates_at_which_one_does_not_train_are_left_out(self, folder, compared):
        def make(place, w):
            return folder.landscape(STEPS, beta=(0.3 if place else 1.0) * w * 10, lr=lr)

        for lr, accuracy in ((0.1, 0.8), (0.5, 0.1)):
            compared(make, "confounds", accuracy=accuracy, optim__lr=lr)
        assert [part.label for part in folder.judged("beta_off_edge").components] == ["LR 0.1"]


class TestSmallestStep:
    def write(self, folder, beta):
        """Write both networks at three rates, with the same absolute step sizes."""
        for model in ("vgg", "vgg_bn"):
            for lr in (0.05, 0.1, 0.2):
                for seed in folder.seeds:
                    own = seed / 100
                    parts = [
                        folder.landscape(
                            STEPS, lr=1.0, etas=(eta,), beta=beta(eta, lr) * (eta * lr) ** own
                        )
                        for eta in (0.025, 0.05, 0.1, 0.2)
                    ]
                    table = {k: [v for part in parts for v in part[k]] for k in parts[0]}
                    tables = {"landscape": table, "metrics": folder.final(0.8)}
                    folder.write(model, seed, tables, sweep="confounds", optim__lr=lr)

    @pytest.mark.parametrize(
        ("beta", "verdict"),
        [
            (lambda eta, lr: 20.0, "supported"),
            (lambda eta, lr: 1 / eta, "mixed"),
            (lambda eta, lr: 2 / lr, "mixed"),
            (lambda eta, lr: 1 / (eta * lr), "contradicted"),
        ],
    )
    def test_verdicts(self, folder, beta, verdict):
        self.write(folder, beta)
        result = folder.judged("beta_smallest_step")
        effects = [part.effect for part in result.components]
        in_step, in_rate = effects[0], effects[3]
        assert in_step == pytest.approx(-1 if beta(0.1, 0.1) != beta(0.2, 0.1) else 0, abs=0.05)
        assert in_rate == pytest.approx(-1 if beta(0.1, 0.1) != beta(0.1, 0.2) else 0, abs=0.05)
        assert len(effects) == 8 and result.verdict == verdict
