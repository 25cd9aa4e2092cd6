"""Trainings with and without probes."""

import random

import numpy
import pytest
import torch

from src import models
from src.callbacks import probing
from src.catalogue import VARIANTS
from src.runs.folder import RunFolder
from tests.callbacks.trained import same, table, trained


def assert_untouched(run, model, *probes):
    steps = [given for given in probes if given.startswith("max_steps")]
    with pytest.MonkeyPatch.context() as patch:
        built, build = [], models.build
        patch.setattr(models, "build", lambda *given: built.append(build(*given)) or built[-1])
        streams = []
        for name, asked in (("plain", ["probes=none", *steps]), ("probed", probes)):
            random.seed(5)
            numpy.random.seed(5)
            folder = run(name, f"model={model}", *asked)
            state = numpy.random.get_state()
            streams.append((torch.get_rng_state(), random.getstate(), state[1].tolist(), state[2]))
    plain, probed = RunFolder(folder.path.with_name("plain")), folder
    assert same(*streams) and same(trained(plain), trained(probed))
    one, other = ({n: p.grad for n, p in m.named_parameters()} for m in built)
    assert same(one, other)
    for name in ("metrics", "norms"):
        assert table(plain, name).equals(table(probed, name), null_equal=True)
    return probed


@pytest.mark.parametrize("model", VARIANTS)
def test_training_is_untouched(run, model):
    steps, every = (50, 7) if model in ("vgg", "vgg_bn", "vgg_noisy", "vgg_plain_noisy") else (2, 1)
    given = (f"max_steps={steps}", f"probes.every={every}")
    probed = assert_untouched(run, model, "probes=all", *given)
    assert probed.status()["probe_failures"] == {}
    probed_at = range(0, steps, every)
    pairs = {step + next_ for step in probed_at for next_ in (0, 1)} - {steps}
    at = {name: set(probed_at) for name in ("ics", "landscape", "curvature")}
    for name, expected in (at | {"activations": pairs}).items():
        assert set(table(probed, name)["step"]) == expected


def test_also_where_a_point_overflows(run):
    probes = ("probes=landscape", "probes.step_sizes=[1e30]", "max_steps=2")
    probed = assert_untouched(run, "vgg_noisy", *probes)
    rows = table(probed, "landscape")
    assert not rows["loss"].is_finite().all() and rows["loss_at_zero"].is_finite().all()


def test_also_where_a_probe_raises(run, monkeypatch):
    real = probing.MEASURES["ics"]

    def broken(view, settings):
        if view.step == 1:
            raise ValueError("by a test")
        return real(view, settings)

    monkeypatch.setattr(probing, "MEASURES", {**probing.MEASURES, "ics": broken})
    probed = assert_untouched(run, "vgg_bn", "probes=paper")
    assert probed.status()["probe_failures"] == {"ics": "failed at step 1: by a test"}
    assert (probed.path / "train.log").read_text().count("ValueError: by a test") == 1
    assert table(probed, "ics")["step"].unique().to_list() == [0]
    assert set(table(probed, "landscape")["step"]) == {0, 1, 2}
