import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from src import models
from src.models.evaluation import evaluate, without_noise
from src.models.network import Classifier
from src.models.noise import Noise
from src.models.norms import LpNorm

SIZES = (8, 8, 5)  # the last batch is partial
NORMS = ("torch", "scratch")


def data(sizes: tuple[int, ...] = SIZES) -> list[tuple[Tensor, Tensor]]:
    stream = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 3, 32, 32, generator=stream),
            torch.randint(10, (size,), generator=stream),
        )
        for size in sizes
    ]


BATCHES = data()


@pytest.fixture
def build(settings) -> Callable[..., Classifier]:
    def built(*overrides: str) -> Classifier:
        model = models.build(settings("scale=smoke", "model.depth=11", *overrides), 10).double()
        for number, (images, _) in enumerate(BATCHES):  # running statistics of their own
            model.clock.step = number
            model(images)
        return model

    return built


def naive(model: Classifier, forward: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Loss and accuracy image by image."""
    losses, right = [], 0
    for images, labels in BATCHES:
        for row, label in zip(forward(images).tolist(), labels.tolist(), strict=True):
            losses.append(math.log(sum(math.exp(v) for v in row)) - row[label])
            right += max(range(10), key=row.__getitem__) == label
    return sum(losses) / len(losses), right / len(losses)


def snapshot(model: Classifier) -> dict[str, object]:
    """All that evaluation may not leave changed."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "momenta": [getattr(module, "momentum", None) for module in model.modules()],
        "flags": [(m.expected, m.off) for m in model.modules() if isinstance(m, Noise)],
        "clock": (model.clock.step, model.clock.evaluation),
        "global": torch.get_rng_state(),
        "gradients": [p.grad for p in model.parameters()],
    }


def assert_unchanged(model: Classifier, before: dict[str, object]) -> None:
    after = snapshot(model)
    for key in before:
        torch.testing.assert_close(after[key], before[key], rtol=0, atol=0)


@pytest.mark.parametrize("batch_norm", NORMS)
@pytest.mark.parametrize("name", ["vgg", "vgg_bn"])
def test_equals_a_naive_loop_over_the_images(build, name, batch_norm):
    model = build(f"model={name}", f"model.batch_norm={batch_norm}", "model.dropout=0.5")
    scores = evaluate(model, lambda: BATCHES)
    loss, accuracy = naive(model, model.eval())
    assert scores == {"loss": pytest.approx(loss, rel=1e-12), "accuracy": pytest.approx(accuracy)}


@pytest.mark.parametrize("name", ["vgg_noisy", "vgg_plain_noisy"])
def test_noisy_scores_are_means_over_passes_of_fresh_noise(build, name):
    model = build(f"model={name}")
    model.clock.step = 40
    scores = evaluate(model, lambda: BATCHES, passes=3)

    model.eval()
    single = []
    for number in range(3):
        counter = iter(range(len(BATCHES)))

        def forward(images: Tensor, counter=counter, number=number) -> Tensor:
            model.clock.evaluation = (next(counter), number)
            return model(images)

        single.append(naive(model, forward))
    losses, accuracies = zip(*single, strict=True)
    assert len(set(losses)) == 3
    assert scores["loss"] == pytest.approx(sum(losses) / 3, rel=1e-12)
    assert scores["accuracy"] == pytest.approx(sum(accuracies) / 3, rel=1e-6)


def test_mean_noise_scales_every_activation_by_the_closed_form(build):
    model = build("model=vgg_noisy", "noise.n_sigma=1.6")
    scores = evaluate(model, lambda: BATCHES, mean_noise=True)
    for noise in [m for m in model.modules() if isinstance(m, Noise)]:
        noise.register_forward_hook(lambda module, inputs, output: inputs[0] * 1.3)
    assert scores["accuracy_mean_noise"] == pytest.approx(naive(model, model.eval())[1])


def test_evaluation_draws_by_step(build):
    model = build("model=vgg_noisy")
    first = evaluate(model, lambda: BATCHES)
    assert evaluate(model, lambda: BATCHES) == first
    model.clock.step += 1
    assert evaluate(model, lambda: BATCHES)["loss"] != first["loss"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("clock", [None, (3, 2)])
@pytest.mark.parametrize("name", ["vgg_bn", "vgg_noisy"])
def test_the_model_is_left_as_it_was(build, name, clock, training):
    model = build(f"model={name}").train(training)
    model.clock.step, model.clock.evaluation = 17, clock
    model.network.norm1.train(not training)  # as with statistics that are held constant
    before = snapshot(model)
    evaluate(model, lambda: BATCHES, passes=2, mean_noise=True)
    assert_unchanged(model, before)


@pytest.mark.parametrize("name", ["vgg_bn", "vgg_noisy"])
def test_the_model_is_left_as_it_was_when_the_data_fail(build, name):
    model = build(f"model={name}")
    before = snapshot(model)
    with pytest.raises(OSError, match="gone"):
        evaluate(model, failing)
    assert_unchanged(model, before)


def failing() -> Iterator[tuple[Tensor, Tensor]]:
    yield BATCHES[0]
    raise OSError("gone")


def test_a_loss_that_is_not_a_number_is_not_left_out(build):
    model = build("model=vgg_bn")
    poisoned = [(BATCHES[0][0] * math.nan, BATCHES[0][1]), *BATCHES[1:]]
    assert math.isnan(evaluate(model, lambda: poisoned)["loss"])
    infinite = build("model=vgg")
    infinite.network.linear11.weight.data.mul_(1e308).mul_(1e10)
    assert not math.isfinite(evaluate(infinite, lambda: BATCHES)["loss"])


@pytest.mark.parametrize("batch_norm", NORMS)
@pytest.mark.parametrize("placement", ["after_affine", "before_affine"])
class TestWithoutNoise:
    """Recalibration, by Algorithm 2 of Ioffe & Szegedy."""

    @pytest.fixture
    def model(self, build, batch_norm, placement) -> Classifier:
        return build(
            "model=vgg_noisy", f"model.batch_norm={batch_norm}", f"noise.placement={placement}"
        )

    def test_statistics_are_averages_over_batches(self, model):
        names = [name for name, m in model.network.named_children() if name.startswith("norm")]
        norms = [model.network.get_submodule(name) for name in names]
        inputs: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}
        handles = [
            norm.register_forward_pre_hook(lambda module, args: inputs[module].append(args[0]))
            for norm in norms
        ]
        with without_noise(model, lambda: BATCHES):
            for handle in handles:
                handle.remove()
            for norm in norms:
                over = [0, 2, 3][: 1 if inputs[norm][0].dim() == 2 else 3]
                means = [x.mean(over) for x in inputs[norm]]
                variances = [x.var(over, correction=1) for x in inputs[norm]]
                for buffer, values in ((norm.running_mean, means), (norm.running_var, variances)):
                    torch.testing.assert_close(buffer, torch.stack(values).mean(0))
        assert len(norms) == 10 and len(inputs[norms[0]]) == len(BATCHES)

    def test_noise_is_off_inside_and_each_pass_is_one(self, model):
        with without_noise(model, lambda: BATCHES):
            assert all(m.off for m in model.modules() if isinstance(m, Noise))
            scores = evaluate(model, lambda: BATCHES)
            assert scores.keys() == {"loss", "accuracy"}
            assert torch.is_grad_enabled()

    @pytest.mark.parametrize("training", [True, False])
    def test_everything_is_what_it_was_afterwards(self, model, training):
        model.train(training)
        before = snapshot(model)
        with without_noise(model, lambda: BATCHES):
            evaluate(model, lambda: BATCHES)
        assert_unchanged(model, before)

    def test_everything_is_what_it_was_after_an_error_inside(self, model):
        before = snapshot(model)
        with pytest.raises(KeyError, match="inside"), without_noise(model, lambda: BATCHES):
            raise KeyError("inside")
        assert_unchanged(model, before)

    def test_everything_is_what_it_was_after_an_error_in_the_data(self, model):
        before = snapshot(model)
        with pytest.raises(OSError, match="gone"), without_noise(model, failing):
            raise AssertionError("never begun")
        assert_unchanged(model, before)

    def test_a_last_batch_of_one_image_is_left_out(self, model):
        one_more = [*BATCHES, data((1,))[0]]
        with without_noise(model, lambda: BATCHES):
            expected = model.network.norm9.running_var.clone()
        with without_noise(model, lambda: one_more):
            assert torch.equal(model.network.norm9.running_var, expected)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_an_lp_norm_s_statistics_are_averages_over_batches_too(build, p):
    model = build("model=vgg_noisy")
    for name, norm in list(model.network.named_children()):
        if name.startswith("norm"):
            model.network.set_submodule(name, LpNorm(p, len(norm.running_mean)).double())
    first, inputs = model.network.norm1, []
    handle = first.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    before = snapshot(model)
    with without_noise(model, lambda: BATCHES):
        handle.remove()
        norms = [vector_norm(x, p) for x in inputs]
        torch.testing.assert_close(first.running_norm, torch.stack(norms).mean(0))
        means = [x.mean((0, 2, 3)) for x in inputs]
        torch.testing.assert_close(first.running_mean, torch.stack(means).mean(0))
    assert_unchanged(model, before)


def vector_norm(x: Tensor, p: float) -> Tensor:
    """The p-norm of each unit's values, as a mean."""
    values = x.transpose(0, 1).flatten(1)
    return torch.linalg.vector_norm(values, p, dim=1) / values.shape[1] ** (1 / p)
