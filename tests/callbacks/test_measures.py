"""From a probe's tensors to rows."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from src import data, models
from src.callbacks.measures import MEASURES, View


class Reads(TorchDispatchMode):
    """Counts the numbers read off tensors one by one: each would make a GPU wait."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        Reads.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.fixture
def view(settings, tmp_path):
    chosen = settings("data=digits", "model=vgg_bn", "model.depth=11", "model.width=0.04")
    model = models.build(chosen, classes=10)
    digits = data.load("digits", tmp_path)
    images = data.Normaliser(digits.mean, digits.std)(digits.train_images[:16])
    batch = images, digits.train_labels[:16]
    loss = model.loss(model.network(batch[0]), batch[1])
    loss.backward()
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    gradient = {name: p.grad for name, p in model.network.named_parameters()}
    return View(
        step=0,
        network=model.network,
        loss_fn=model.loss,
        batch=batch,
        before=before,
        after={name: p - 0.1 * gradient[name] for name, p in before.items()},
        loss=loss.detach(),
        gradient=gradient,
        lr=0.1,
        weight_decay=0.0,
        seed=0,
        fixed=lambda: [batch],
        exact=True,
    ), chosen.probes


@pytest.mark.parametrize("name", ["ics", "landscape"])
def test_a_probe_waits_once_for_its_numbers(name, view, monkeypatch):
    lists = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: lists.append(1) or tolist(t))
    Reads.count = 0
    with Reads():
        assert torch.ones(1).item() == 1 and Reads.count == 1  # it does see them
        rows = MEASURES[name](*view)
    assert rows and Reads.count == 1 and len(lists) == 1


def test_the_step_s_own_gradient_saves_the_landscape_an_evaluation(view):
    exact, settings = view
    passes = []
    exact.network.register_forward_hook(lambda *_: passes.append(1))
    own = MEASURES["landscape"](exact, settings)
    taken = len(passes)
    evaluated = MEASURES["landscape"](replace(exact, exact=False), settings)
    assert taken == len(settings.step_sizes) and len(passes) == 2 * taken + 1
    for one, other in zip(own, evaluated, strict=True):
        assert one[:3] == other[:3] and one[3:] == pytest.approx(other[3:], rel=1e-4)
