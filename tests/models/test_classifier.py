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
    assert (model.clock.seed, model.clock.step, model.clock.evaluation) == (4, 0, None)


def test_forward_takes_images_of_another_precision(settings):
    double = models.build(settings("scale=smoke", "model.depth=11"), 10).double()
    assert double(torch.randn(2, 3, 32, 32)).dtype == torch.float64


@pytest.fixture
def held(settings):
    """A network whose training normalises with the running statistics."""

    def built(*overrides: str):
        options = ("scale=smoke", "model.depth=11", "model.statistics=running", *overrides)
        return models.build(settings(*options), 10)

    return built


BATCH = (torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8))


@pytest.mark.parametrize("name", ["vgg_bn", "vgg_noisy"])
@pytest.mark.parametrize("batch_norm", ["torch", "scratch"])
def test_statistics_held_constant_are_those_that_the_step_leaves(held, name, batch_norm):
    """What a probe sees after the step, and what a checkpoint keeps, is what the step had."""
    model = held(f"model={name}", f"model.batch_norm={batch_norm}")
    for step in range(2):
        model.clock.step = step
        model.train()  # as after an evaluation
        loss = model.training_step(BATCH, step)["loss"]
        parameters = list(model.parameters())
        gradient = torch.autograd.grad(loss, parameters)
        buffers = [b.clone() for b in model.buffers()]
        again = model.loss(model(BATCH[0]), BATCH[1])
        assert torch.equal(again, loss)
        for one, other in zip(torch.autograd.grad(again, parameters), gradient, strict=True):
            assert torch.equal(one, other)
        assert all(torch.equal(*pair) for pair in zip(model.buffers(), buffers, strict=True))
        assert model.network.norm1.num_batches_tracked == step + 1
    model.eval()
    assert torch.equal(model.loss(model(BATCH[0]), BATCH[1]), loss)


def test_statistics_held_constant_leave_every_gradient_under_autocast(held):
    model = held("model=vgg_bn")
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.training_step(BATCH, 0)["loss"]
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_statistics_held_constant_go_on_from_a_checkpoint(held):
    trained, resumed = held("model=vgg_bn"), held("model=vgg_bn")
    for step in range(2):
        trained.training_step(BATCH, step)
    resumed.load_state_dict(trained.state_dict())
    assert torch.equal(*(m.training_step(BATCH, 2)["loss"] for m in (trained, resumed)))
