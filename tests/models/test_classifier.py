import math

import pytest
import torch

from src import models


@pytest.fixture(scope="module")
def model(settings):
    options = ("optim.lr=0.3", "optim.momentum=0.5", "optim.weight_decay=0.01")
    return models.build(settings("scale=smoke", "model.depth=11", "seed=4", *options), 10)


def test_loss_is_the_mean_cross_entropy_in_nats(model):
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    expected = (math.log(2) + math.log(4)) / 2
    loss = model.loss(logits, torch.tensor([0, 1]))
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected, rel=1e-15)
    assert model.loss(logits.bfloat16(), torch.tensor([0, 1])).dtype == torch.float32


def test_optimiser_is_plain_sgd_over_all_parameters(model):
    optimiser = model.configure_optimizers()
    (group,) = optimiser.param_groups
    assert type(optimiser) is torch.optim.SGD
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.5, 0.01)
    assert not group["nesterov"] and group["dampening"] == 0
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}


def test_training_step_gives_the_loss_and_detached_output(model):
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    outputs = model.training_step((images, labels), 0)
    assert outputs["loss"].requires_grad and not outputs["output"].requires_grad
    assert torch.equal(outputs["loss"], model.loss(outputs["output"], labels))


def test_moment_starts_at_the_seed_s_first_step(model):
    assert (model.moment.seed, model.moment.step, model.moment.evaluation) == (4, 0, None)


def test_forward_takes_images_of_another_precision(settings):
    double = models.build(settings("scale=smoke", "model.depth=11"), 10).double()
    assert double(torch.randn(2, 3, 32, 32)).dtype == torch.float64
