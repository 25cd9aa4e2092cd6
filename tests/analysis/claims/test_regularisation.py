import pytest


class TestRegularises:
    @staticmethod
    def evaluated(folder, train, test):
        steps = [500 * (i + 1) for i in range(len(train))]
        return folder.stack(
            folder.metric("train_eval/accuracy", steps, train),
            folder.metric("val/accuracy", steps, test),
        )

    @pytest.mark.parametrize(
        ("gain", "verdict"), [(0.05, "supported"), (-0.05, "contradicted"), (0, "inconclusive")]
    )
    def test_verdicts(self, folder, gain, verdict):
        for seed in folder.seeds:
            noise = 0.01 * (seed - 2)
            slow = self.evaluated(folder, [0.2, 0.4, 0.6], [0.2, 0.4, 0.5])
            # Twice as fast: at 60 % after the first evaluation, and beyond at the end.
            test = [0.5 + gain + noise, 0.55, 0.9]
            quick = self.evaluated(folder, [0.6, 0.8, 0.95], test)
            folder.write("vgg", seed, {"metrics": slow}, sweep="fig1_training")
            folder.write("vgg_bn", seed, {"metrics": quick}, sweep="fig1_training")
        result = folder.judged("regularises")
        assert result.verdict == verdict
        assert result.effect == pytest.approx(100 * gain, abs=1e-6)

    def test_between_two_evaluations_the_curve_is_straight(self, folder):
        for seed in folder.seeds:
            noise = 0.001 * seed
            a = self.evaluated(folder, [0.2, 0.6], [0.3, 0.5])
            b = self.evaluated(folder, [0.4, 0.8], [0.4, 0.7 + noise])
            folder.write("vgg", seed, {"metrics": a}, sweep="fig1_training")
            folder.write("vgg_bn", seed, {"metrics": b}, sweep="fig1_training")
        # at 0.6: halfway from 0.4 to 0.702 on average, less 0.5
        assert folder.judged("regularises").effect == pytest.approx(100 * (0.551 - 0.5))

    def test_a_network_beyond_the_level_at_its_first_evaluation_tells_nothing(self, folder):
        for seed in folder.seeds:
            a = self.evaluated(folder, [0.2, 0.6], [0.3, 0.5 + 0.01 * seed])
            b = self.evaluated(folder, [0.7 if seed == 1 else 0.5, 0.9], [0.6, 0.7])
            folder.write("vgg", seed, {"metrics": a}, sweep="fig1_training")
            folder.write("vgg_bn", seed, {"metrics": b}, sweep="fig1_training")
        result = folder.judged("regularises")
        assert list(result.values) == [0, 2, 3, 4]


class TestRegularisationGain:
    @pytest.mark.parametrize(
        ("standard", "normalised", "verdict"),
        [
            ((0.10, 0.08), (0.01, 0.00), "supported"),
            ((0.01, 0.00), (0.10, 0.08), "contradicted"),
            ((0.10, 0.00), (0.01, 0.08), "mixed"),
            ((0.05, 0.05), (0.05, 0.05), "inconclusive"),
        ],
    )
    def test_verdicts(self, folder, standard, normalised, verdict):
        for seed in folder.seeds:
            for model, (dropout, decay) in (("vgg", standard), ("vgg_bn", normalised)):
                for p, wd, test in ((0.0, 0.0, 0.0), (0.5, 0.0, dropout), (0.0, 5e-4, decay)):
                    tables = {"metrics": folder.final(0.9, 0.6 + test + 0.002 * seed)}
                    setting = {"model__dropout": p, "optim__weight_decay": wd}
                    folder.write(model, seed, tables, sweep="regularisation", **setting)
        result = folder.judged("regularisation_gain")
        assert result.verdict == verdict
        assert "points: vgg 29.6, vgg_bn 29.6" in result.note
        assert [part.label for part in result.components] == ["dropout 0.5", "weight decay 0.0005"]

    @pytest.mark.parametrize(
        ("without", "with_it"), [((0.6, 0.57), (0.6, 0.59)), ((0.9, 0.6), (0.2, 0.2))]
    )
    def test_a_network_that_does_not_overfit_or_stops_training_tells_nothing(
        self, folder, without, with_it
    ):
        for seed in folder.seeds:
            for model, finals in (
                ("vgg", (without, with_it)),
                ("vgg_bn", ((0.9, 0.6), (0.9, 0.7))),
            ):
                for p, final in zip((0.0, 0.5), finals, strict=True):
                    tables = {"metrics": folder.final(*final)}
                    folder.write(model, seed, tables, sweep="regularisation", model__dropout=p)
        result = folder.judged("regularisation_gain")
        assert (result.verdict, result.effect, result.seeds) == ("inconclusive", None, 5)
        assert result.components[0].label.startswith("dropout 0.5 (no pair trains")
        assert "weight decay: no seed tells" in result.note

    @pytest.mark.parametrize("decayed", [None, 0.2])
    def test_each_regulariser_is_needed(self, folder, decayed):
        """Dropout adds less with BatchNorm; weight decay was not run, or stops both networks."""
        for seed in folder.seeds:
            for model, gain in (("vgg", 0.1), ("vgg_bn", 0.01)):
                finals = {(0.0, 0.0): (0.9, 0.6), (0.5, 0.0): (0.9, 0.6 + gain + 0.002 * seed)}
                if decayed:
                    finals[0.0, 5e-4] = (decayed, decayed)
                for (p, wd), final in finals.items():
                    tables = {"metrics": folder.final(*final)}
                    setting = {"model__dropout": p, "optim__weight_decay": wd}
                    folder.write(model, seed, tables, sweep="regularisation", **setting)
        result = folder.judged("regularisation_gain")
        assert result.components[0].verdict == "supported"
        assert result.verdict == "inconclusive"

    def test_not_run(self, folder):
        for seed in folder.seeds:
            folder.write("vgg", seed, {"metrics": folder.final(0.9)}, sweep="regularisation")
        assert folder.judged("regularisation_gain").verdict == "not run"
