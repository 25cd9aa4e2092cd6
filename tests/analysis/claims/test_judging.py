import json
from dataclasses import replace

import pytest

from src.analysis.claims import judge, rules, to_csv, to_json
from src.analysis.claims.judging import _corrected
from src.runs.reading import read_runs

SWEEP = "fig1_training"
LEVELS = (0.4, 0.5, 0.6, 0.7)


@pytest.fixture
def trained(folder):
    """Write a run that gets to all levels at a step."""

    def write(model, seed, steps, sweep=SWEEP, status=None, levels=LEVELS, **settings):
        at = dict.fromkeys(levels, 10 * round(steps * folder.wobble(seed) / 10))
        tables = {"metrics": folder.curve(at)}
        return folder.write(model, seed, tables, status, sweep, **settings)

    return write


class TestPairs:
    def test_never_across_seeds(self, folder, trained):
        for seed in range(5):
            trained("vgg", seed, 800)
            trained("vgg_bn", seed + 5, 200)
        assert folder.judged("faster_training").verdict == "not run"

    @pytest.mark.parametrize(
        "other",
        [
            {"device": "NVIDIA H100"},
            {"threads": 1},
            {"versions": {"torch": "2.15.0"}},
            {"data": "cifar10 (official)"},
        ],
    )
    def test_never_across_kinds_of_machine(self, folder, trained, other):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200, status=other)
        result = folder.judged("faster_training")
        assert (result.verdict, result.seeds) == ("not run", 0)
        assert "on one kind of machine" in result.note

    def test_another_host_with_another_kernel_is_no_matter(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            there = {"machine": {"host": "there", "platform": "Linux-6.18.2-x86_64-with-glibc2.36"}}
            trained("vgg_bn", seed, 200, status=there)
        assert folder.judged("faster_training").seeds == 5

    def test_the_kind_with_the_most_runs_stands_for_the_claim(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200)
            if seed < 3:
                trained("vgg", seed, 200, status={"device": "NVIDIA H100"})
                trained("vgg_bn", seed, 800, status={"device": "NVIDIA H100"})
        result = folder.judged("faster_training")
        assert (result.verdict, result.seeds) == ("supported", 5)
        told = {reading.reading: reading.seeds for reading in result.readings}
        assert len(told) == 2 and sorted(told.values()) == [3, 5]
        assert any("NVIDIA H100" in reading for reading in told)

    @pytest.mark.parametrize("state", ["running", "failed"])
    def test_runs_that_have_not_ended_do_not_count(self, folder, trained, state):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200, status={"state": state} if seed == 4 else None)
        result = folder.judged("faster_training")
        assert (result.verdict, result.seeds) == ("inconclusive", 4)
        assert "1 run not ended" in result.note


class TestPool:
    def test_runs_of_another_sweep_do_not_count(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200, sweep="controls")
        assert folder.judged("faster_training").verdict == "not run"

    def test_where_the_sweep_was_not_started_any_run_counts(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800, sweep="demo")
            trained("vgg_bn", seed, 200, sweep="demo")
        result = folder.judged("faster_training")
        assert result.verdict == "supported"
        assert "fig1_training was not started" in result.note

    def test_a_missing_run_is_told_of(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            gone = trained("vgg_bn", seed, 200)
        for path in (folder.root / gone).iterdir():
            path.unlink()
        (folder.root / gone).rmdir()
        result = folder.judged("faster_training")
        assert (result.seeds, result.verdict) == (4, "inconclusive")
        assert "1 run of the sweep missing" in result.note

    def test_a_damaged_table_costs_its_seed_and_is_named(self, folder):
        for seed in folder.seeds:
            for model in ("vgg", "vgg_bn"):
                tables = {"metrics": folder.final(0.7, 0.5 + 0.1 * (model == "vgg_bn"))}
                name = folder.write(model, seed, tables, sweep=SWEEP, optim__lr=0.5)
        (folder.root / name / "metrics.parquet").write_bytes(b"PAR1")
        runs = read_runs(folder.root)
        (result,) = (r for r in judge(folder.root, runs) if r.id == "trains_at_half")
        assert (result.seeds, result.verdict) == (4, "inconclusive")
        assert any(name in line for line in runs.problems)


class TestScale:
    def test_the_largest_with_data(self, folder, trained):
        for seed in folder.seeds:
            for model, small, paper in (("vgg", 800, 200), ("vgg_bn", 200, 800)):
                trained(model, seed, small)
                trained(model, seed, paper, scale="paper", levels=(0.6, 0.8, 0.9, 0.95))
        result = folder.judged("faster_training")
        assert (result.scale, result.verdict) == ("paper", "contradicted")
        assert "scale small too" in result.note

    def test_one_without_pairs_has_no_data(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200)
            trained("vgg_bn", seed, 200, scale="paper")
        assert folder.judged("faster_training").scale == "small"


class TestReadings:
    def test_each_gets_a_verdict_and_the_default_stands_for_the_claim(self, folder, trained):
        for seed in folder.seeds:
            for decay, standard, normalised in ((0.0, 800, 200), (5e-4, 200, 800)):
                for model, steps in (("vgg", standard), ("vgg_bn", normalised)):
                    trained(model, seed, steps, optim__weight_decay=decay)
        result = folder.judged("faster_training")
        told = [(reading.reading, reading.verdict) for reading in result.readings]
        assert told == [
            ("optim.weight_decay=0", "supported"),
            ("optim.weight_decay=0.0005", "contradicted"),
        ]
        assert result.verdict == "supported" and "weight_decay" not in result.note

    def test_where_the_default_was_not_run_the_note_says_so(self, folder, trained):
        for seed in folder.seeds:
            for model, steps in (("vgg", 800), ("vgg_bn", 200)):
                trained(model, seed, steps, data__name="digits")
        result = folder.judged("faster_training")
        assert result.verdict == "supported" and "data.name=digits" in result.note
        assert [reading.reading for reading in result.readings] == ["the only one"]

    def test_a_setting_without_effect_on_a_variant_does_not_part_its_runs(self, folder, trained):
        """The standard and BatchNorm runs are shared by both placements of the noise."""
        for seed in folder.seeds:
            trained("vgg", seed, 2700, "fig2_noise", noise__placement="before_affine")
            trained("vgg_bn", seed, 300 + 10 * seed, "fig2_noise")
            for placement, steps in (("after_affine", 500), ("before_affine", 1900)):
                trained("vgg_noisy", seed, steps, "fig2_noise", noise__placement=placement)
        result = folder.judged("noisy_trains")
        told = {reading.reading: reading.verdict for reading in result.readings}
        assert told == {
            "noise.placement=after_affine": "supported",
            "noise.placement=before_affine": "contradicted",
        }
        assert result.verdict == "supported"

    def test_keys_without_effect_on_either_side_join(self, folder, trained):
        """Of plain noisy runs the norm's keys are silent, of BatchNorm's runs the noise's."""
        for seed in folder.seeds:
            for affine in (True, False):
                for placement in ("after_affine", "before_affine"):
                    setting = {"model__affine": affine, "noise__placement": placement}
                    trained("vgg_noisy", seed, 500, "fig2_noise", **setting)
                trained("vgg_bn", seed, 300 + 10 * seed, "fig2_noise", model__affine=affine)
            trained("vgg", seed, 2700, "fig2_noise")
        result = folder.judged("noisy_trains")
        assert len(result.readings) == 4 and {r.seeds for r in result.readings} == {5}

    def test_a_run_older_than_a_key_has_its_default(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200, model__dropout=0.0, noise__strength=1.0)
        assert len(folder.judged("faster_training").readings) == 1

    def test_how_a_probe_measured_is_a_reading_how_often_is_not(self, folder):
        for seed in folder.seeds:
            for model, l2 in (("vgg", 1.0), ("vgg_bn", 2.0)):
                for lr in (0.1, 0.01):
                    for update, every in (("optimiser", 100), ("gradient", 50)):
                        ics = {"step": [0, 100], "layer": [2, 2], "l2": [l2 + 0.01 * seed] * 2}
                        probes = {"ics": {"every": every + seed, "update": update}}
                        status = {"probes": probes}
                        folder.write(
                            model, seed, {"ics": ics}, status, "fig3_ics_vgg", optim__lr=lr
                        )
        result = folder.judged("shift_vgg")
        told = [reading.reading for reading in result.readings]
        assert told == ["probes.ics.update=optimiser", "probes.ics.update=gradient"]

    def test_the_precision_of_a_probe_is_told_where_the_claim_looks_at_it(self, folder):
        ics = {"step": [0, 100], "layer": [2, 2], "l2": [1.0, 1.0]}
        status = {"probes": {"ics": {"precision": "float64"}}}
        tables = {"ics": ics, "landscape": folder.landscape([0, 100])}
        for seed in folder.seeds:
            for model in ("vgg", "vgg_bn"):
                folder.write(model, seed, tables, status)
        told = "probes.ics.precision=float64"
        assert told in folder.judged("shift_vgg").note
        assert told not in folder.judged("loss_variation").note


class TestOlderThanRule:
    @pytest.mark.parametrize(("before", "older"), [(1.0, 1), (-1.0, 0)])
    def test_by_the_start_of_each_run_used(self, folder, trained, fixed, before, older):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            status = {"started": fixed - before} if seed == 3 else None
            trained("vgg_bn", seed, 200, status=status)
        result = folder.judged("faster_training")
        assert (result.older_than_rule, result.runs) == (older, 10)

    def test_a_run_that_does_not_tell_when_it_began_cannot_be_younger(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200, status={"started": None})
        assert folder.judged("faster_training").older_than_rule == 5
        assert not folder.judged("higher_rate").older_than_rule  # not run


class TestWhatHappenedOnTheWay:
    def test_to_a_run_is_told(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800, status={"moved": "threads: 1, then 2"} if seed == 1 else None)
            trained("vgg_bn", seed, 200)
        told = "begun in another place (device, CPU, threads or torch): vgg-00000002"
        assert told in folder.judged("faster_training").note

    def test_to_a_probe_is_told(self, folder):
        runs = [
            folder.write(
                model,
                seed,
                {"landscape": folder.landscape([0, 100], 1 + seed / 10)},
                {"probe_failures": {"landscape": "out of memory"} if seed == 3 else {}},
                "fig4_landscape",
            )
            for seed in folder.seeds
            for model in ("vgg", "vgg_bn")
        ]
        note = folder.judged("loss_variation").note
        told = f"landscape failed on the way, and was measured until then: {runs[6]}, {runs[7]}"
        assert told in note
        assert "failed" not in folder.judged("theorem_parts").note  # of another table


class TestHolm:
    def test_the_family_has_its_fixed_size(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200)
        results = {r.id: r for r in judge(folder.root, read_runs(folder.root))}
        result = results["faster_training"]
        family = sum(rule.confirmatory for rule in rules().claims.values())
        assert result.p_holm == pytest.approx(family * result.p)
        assert all(r.p_holm is None for r in results.values() if not r.confirmatory)

    def test_what_does_not_survive_is_inconclusive(self, folder):
        for seed, ratio in enumerate([0.55, 0.95, 0.6, 0.8, 0.85]):  # p between 1 and 5 %
            for model, steps in (("vgg", 1000), ("vgg_bn", 1000 * ratio)):
                at = dict.fromkeys(LEVELS, 10 * round(steps / 10))
                folder.write(model, seed, {"metrics": folder.curve(at)}, sweep=SWEEP)
        alone = folder.judged("faster_training")
        assert alone.verdict == "supported" and 0.01 < alone.p < 0.05
        results = judge(folder.root, read_runs(folder.root))
        (result,) = (r for r in results if r.id == "faster_training")
        assert result.verdict == "inconclusive" and result.p_holm > 0.05
        assert result.readings[0].verdict == "inconclusive"
        assert "supported by itself, but not after Holm's correction" in result.note

    @pytest.mark.parametrize(
        ("verdict", "whole", "p", "after"),
        [
            ("inconclusive", False, 1e-6, (None, "inconclusive")),  # a bound left it open
            ("mixed", True, 1e-6, (2e-6, "mixed")),
            ("mixed", True, 0.04, (0.06, "inconclusive")),
        ],
    )
    def test_only_a_p_that_speaks_for_its_verdict_takes_part(
        self, folder, trained, verdict, whole, p, after
    ):
        for seed in folder.seeds:
            trained("vgg", seed, 800)
            trained("vgg_bn", seed, 200)
        plain = folder.judged("faster_training")
        part = plain.components[0] if whole else None
        other = replace(plain, id="other", verdict=verdict, whole=part, p=p)
        told, beside = _corrected([other, replace(plain, p=0.03)])
        assert (told.p_holm, told.verdict) == (pytest.approx(after[0]), after[1])
        alone = p == 1e-6 and whole  # then the other is the last that is left
        assert (beside.p_holm, beside.verdict) == (
            (0.03, "supported") if alone else (0.06, "inconclusive")
        )


class TestFiles:
    def results(self, folder, trained):
        for seed in folder.seeds:
            trained("vgg", seed, 800, status={"state": "diverged"} if seed == 0 else None)
            trained("vgg_bn", seed, 200)
        return judge(folder.root, read_runs(folder.root))

    def test_json_holds_everything_and_the_hash(self, folder, trained):
        results = self.results(folder, trained)
        content = json.loads(to_json(results, rules().hash))
        assert content["rules"] == rules().hash
        assert [claim["id"] for claim in content["claims"]] == list(rules().claims)
        claim = next(c for c in content["claims"] if c["id"] == "faster_training")
        assert claim["verdict"] == "supported" and claim["diverged"] == {"vgg": 1}
        assert len(claim["interval"]) == 2 and len(claim["components"]) == 4

    def test_csv_has_a_row_a_claim(self, folder, trained):
        lines = to_csv(self.results(folder, trained), "abc").splitlines()
        assert len(lines) == 1 + len(rules().claims)
        assert lines[0].startswith("id,family,sentence") and lines[1].endswith("vgg:1,abc")

    def test_no_runs_at_all(self, folder):
        results = judge(folder.root, read_runs(folder.root))
        assert {result.verdict for result in results} == {"not run"}
        assert "NaN" not in to_json(results, "abc")
