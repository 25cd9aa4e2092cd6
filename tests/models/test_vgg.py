import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from src import models
from src.models.noise import Noise
from src.models.norms import Affine, BatchNorm
from src.models.vgg import VGG, VGGBatchNorm, VGGNoisyBatchNorm, VGGPlainNoisy

# Simonyan & Zisserman's configurations at full width: convolutions, and their parameters with
# biases as torchvision's vgg11, vgg13, vgg16 and vgg19 have them in `features`.
FEATURES = {11: (8, 9_220_480), 13: (10, 9_404_992), 16: (13, 14_714_688), 19: (16, 20_024_384)}
HEADS = {
    "linear": (1, 512 * 10 + 10),
    "512": (3, 2 * (512 * 512 + 512) + 512 * 10 + 10),
    "4096": (3, (512 * 4096 + 4096) + (4096 * 4096 + 4096) + 4096 * 10 + 10),
}
VARIANTS = {
    "vgg": VGG,
    "vgg_bn": VGGBatchNorm,
    "vgg_noisy": VGGNoisyBatchNorm,
    "vgg_plain_noisy": VGGPlainNoisy,
}
TINY = ("scale=smoke", "model.depth=11")


@pytest.fixture(scope="module")
def build(settings):
    """A model of some overrides; its width is the smoke scale's unless they say otherwise."""
    return lambda *overrides: models.build(settings(*TINY, *overrides), 10)


def parameters(model: nn.Module, *kinds: type[nn.Module]) -> int:
    chosen = [m for m in model.modules() if isinstance(m, kinds)] if kinds else [model]
    return sum(p.numel() for m in chosen for p in m.parameters())


def images(count: int = 4, **options: object) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 32, 32, generator=stream, **options)


def kinds(model: VGG) -> list[str]:
    """The layers of a network by their names, digits off."""
    return [name.rstrip("0123456789") for name, _ in model.network.named_children()]


class TestSize:
    @pytest.mark.parametrize("head", HEADS)
    @pytest.mark.parametrize("depth", FEATURES)
    def test_layers_and_parameters_at_full_width(self, settings, depth, head):
        chosen = settings("model=vgg", f"model.depth={depth}", f"model.head={head}", "scale=paper")
        with torch.device("meta"):
            model = models.build(chosen, 10)
        convolutions, features = FEATURES[depth]
        linears, classifier = HEADS[head]
        assert kinds(model).count("conv") == convolutions
        assert kinds(model).count("linear") == linears
        assert kinds(model).count("pool") == 5
        assert parameters(model, nn.Conv2d) == features
        assert parameters(model, nn.Linear) == classifier
        assert parameters(model) == features + classifier
        if head == "4096":
            assert depth == convolutions + linears  # what the number in the name counts

    @pytest.mark.parametrize("depth", FEATURES)
    def test_batch_norm_swaps_a_bias_for_gamma_and_beta(self, build, depth):
        plain = build("model=vgg", f"model.depth={depth}")
        normalised = build("model=vgg_bn", f"model.depth={depth}")
        biases = [name for name, _ in plain.named_parameters() if name.endswith("bias")]
        units = sum(plain.get_parameter(name).numel() for name in biases[:-1])
        assert parameters(normalised) == parameters(plain) + units

    @pytest.mark.parametrize("width", [0.0001, 0.125, 0.5, 2.0])
    def test_width_multiplies_the_convolutions(self, settings, width):
        with torch.device("meta"):
            model = models.build(settings("model.head=linear", f"model.width={width}"), 10)
        channels = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
        full = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
        assert channels == [max(1, round(width * c)) for c in full]
        assert model.network.linear14.in_features == channels[-1]

    def test_layers_count_from_one_through_the_head(self, build):
        names = list(build("model=vgg").network._modules)
        numbered = [n for n in names if n.startswith(("conv", "linear"))]
        assert numbered == [f"conv{i}" for i in range(1, 9)] + ["linear9", "linear10", "linear11"]

    @pytest.mark.parametrize("classes", [2, 10])
    def test_logits(self, settings, classes):
        model = models.build(settings(*TINY), classes)
        assert model(images()).shape == (4, classes)
        assert torch.isfinite(model(images())).all()


class TestVariants:
    @pytest.mark.parametrize("name, kind", VARIANTS.items())
    def test_one_class_a_variant(self, build, name, kind):
        assert type(build(f"model={name}")) is kind

    @pytest.mark.parametrize("init", ["glorot_normal", "he_uniform", "orthogonal"])
    def test_one_seed_starts_them_from_equal_weights(self, build, init):
        built = [build(f"model={name}", f"init={init}", "seed=3") for name in VARIANTS]
        shared = [
            f"{name}.weight"
            for name, module in built[0].named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        assert len(shared) == 11
        for name in shared:
            first = built[0].get_parameter(name)
            assert all(torch.equal(model.get_parameter(name), first) for model in built)

    def test_another_seed_starts_from_others(self, build):
        one, other = (build(f"seed={seed}").network.conv1.weight for seed in (0, 1))
        assert not torch.equal(one, other)

    def test_global_stream_plays_no_part(self, build):
        torch.manual_seed(0)
        one = build()
        torch.manual_seed(1)
        other = build()
        for first, second in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(first, second)

    @pytest.mark.parametrize(
        "overrides, between",
        [
            (["model=vgg"], []),
            (["model=vgg_bn"], ["norm"]),
            (["model=vgg_noisy"], ["norm", "noise"]),
            (["model=vgg_noisy", "noise.placement=before_affine"], ["norm", "noise", "affine"]),
            (
                ["model=vgg_noisy", "noise.placement=before_affine", "model.affine=false"],
                ["norm", "noise"],
            ),
            (["model=vgg_plain_noisy"], ["noise"]),
            (["model=vgg_plain_noisy", "noise.placement=before_affine"], ["noise"]),
        ],
    )
    @pytest.mark.parametrize("normalise_head", [True, False])
    @pytest.mark.parametrize("dropout", [0, 0.5])
    def test_what_stands_before_every_non_linearity(
        self, build, overrides, between, normalise_head, dropout
    ):
        model = build(
            *overrides, f"model.normalise_head={normalise_head}", f"model.dropout={dropout}"
        )
        head = between if normalise_head else []
        expected = []
        for plan in ([64], [128], [256, 256], [512, 512], [512, 512]):
            expected += ["conv", *between, "activation"] * len(plan) + ["pool"]
        expected += ["flatten"]
        expected += ["linear", *head, "activation", *["dropout"] * (dropout > 0)] * 2 + ["linear"]
        assert kinds(model) == expected

    @pytest.mark.parametrize("name", VARIANTS)
    @pytest.mark.parametrize("normalise_head", [True, False])
    @pytest.mark.parametrize("affine", [True, False])
    def test_bias_is_absent_exactly_where_normalised(self, build, name, normalise_head, affine):
        model = build(
            f"model={name}", f"model.normalise_head={normalise_head}", f"model.affine={affine}"
        )
        layers = list(model.network)
        normalising = nn.BatchNorm1d | nn.BatchNorm2d
        for layer, following in pairwise(layers):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                assert (layer.bias is None) == isinstance(following, normalising)
        assert layers[-1].bias is not None

    @pytest.mark.parametrize("batch_norm", ["torch", "scratch"])
    @pytest.mark.parametrize("placement", ["after_affine", "before_affine"])
    @pytest.mark.parametrize("name", ["vgg_bn", "vgg_noisy"])
    def test_gamma_and_beta_where_asked_for(self, build, name, placement, batch_norm):
        options = (
            f"model={name}",
            f"noise.placement={placement}",
            f"model.batch_norm={batch_norm}",
        )
        norms = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, Affine)
        without = build(*options, "model.affine=false")
        learned = build(*options, "model.affine=true")
        hidden = list(learned.network)[:-1]
        units = sum(len(m.weight) for m in hidden if isinstance(m, nn.Conv2d | nn.Linear))
        assert parameters(without, *norms) == 0
        assert parameters(learned, *norms) == 2 * units

    def test_before_and_after_affine_start_as_one_network(self, build):
        """Gamma is 1 and beta 0 at first."""
        one, other = (
            build("model=vgg_noisy", f"noise.placement={place}")
            for place in ("after_affine", "before_affine")
        )
        torch.testing.assert_close(one(images()), other(images()))

    def test_noise_of_no_size_leaves_batch_norm(self, build):
        noiseless, plain = build("model=vgg_noisy", "noise=none"), build("model=vgg_bn")
        torch.testing.assert_close(noiseless(images()), plain(images()), rtol=0, atol=1e-6)

    def test_noise_layers_draw_apart_and_at_one_moment(self, build):
        model = build("model=vgg_noisy")
        noises = [m for m in model.network if isinstance(m, Noise)]
        assert [m.layer for m in noises] == list(range(1, 11))
        assert all(m.clock is model.clock for m in noises)

    @pytest.mark.parametrize(
        "overrides, std", [(["noise.r_sigma_is=std"], 0.04), (["noise.r_sigma_is=variance"], 0.2)]
    )
    def test_r_sigma_is_a_standard_deviation_or_a_variance(self, build, overrides, std):
        model = build("model=vgg_noisy", "noise.r_sigma=0.04", *overrides)
        s, _ = model.network.noise1.draw(torch.zeros(500, 4, 4, 4))
        assert s.std((0, 2, 3)).mean().item() == pytest.approx(std, rel=0.02)

    def test_settings_of_the_noise_arrive(self, build):
        constants = ("n_mu=0.3", "n_sigma=1.6", "r_mu=0.2", "r_sigma=0.05", "per=sample")
        model = build("model=vgg_plain_noisy", *(f"noise.{constant}" for constant in constants))
        shape = model.network.noise3.shape
        assert (shape.n_mu, shape.n_sigma, shape.r_mu, shape.r_sigma) == (0.3, 1.6, 0.2, 0.05)
        assert not shape.per_position

    def test_settings_of_the_norm_arrive(self, build):
        for batch_norm in ("torch", "scratch"):
            model = build("model.eps=1e-3", "model.momentum=0.3", f"model.batch_norm={batch_norm}")
            assert (model.network.norm2.eps, model.network.norm2.momentum) == (1e-3, 0.3)

    def test_variants_see_the_noise_of_the_same_step_alike(self, build):
        """Noise is paired by (seed, step, layer), whatever it is added to."""
        one, other = build("model=vgg_noisy"), build("model=vgg_plain_noisy")
        like = torch.zeros(3, 4, 8, 8)
        for first, second in zip(
            one.network.noise1.draw(like), other.network.noise1.draw(like), strict=True
        ):
            assert torch.equal(first, second)


ACTIVATIONS = {
    "relu": lambda x: max(x, 0.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / 2**0.5)) / 2,
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_the_function_of_its_name(build, name):
    model = build(f"model.activation={name}")
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    expected = torch.tensor([ACTIVATIONS[name](v) for v in x.tolist()], dtype=torch.float64)
    activations = [m for n, m in model.network.named_children() if n.startswith("activation")]
    assert len(activations) == 10
    for activation in activations:
        torch.testing.assert_close(activation(x), expected)
    model.loss(model(images()), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", ["vgg_bn", "vgg_noisy"])
def test_batch_norm_from_scratch_trains_as_torch_s_does(build, name, affine):
    states = []
    for batch_norm in ("torch", "scratch"):
        model = build(
            f"model={name}", f"model.batch_norm={batch_norm}", f"model.affine={affine}"
        ).double()
        optimiser = model.configure_optimizers()
        for step in range(3):
            model.clock.step = step
            logits = model(images(8, dtype=torch.float64))
            optimiser.zero_grad()
            model.loss(logits, torch.arange(8)).backward()
            optimiser.step()
        states.append({"logits": logits, **model.state_dict()})
        assert {"logits", *model.eval().state_dict()} == set(states[0])
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-8, atol=1e-8, msg=key)


@pytest.mark.parametrize("batch_norm", ["torch", "scratch"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_under_bf16_autocast(build, name, batch_norm):
    model = build(f"model={name}", f"model.batch_norm={batch_norm}", "model.dropout=0.5")
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images())
        loss = model.loss(logits, torch.arange(4))
    assert loss.dtype == torch.float32
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_dropout_in_the_head_alone_and_by_step(build):
    model = build("model=vgg", "model.dropout=0.5")
    dropouts = [n for n in kinds(model) if n == "dropout"]
    assert len(dropouts) == 2
    first = model(images())
    assert torch.equal(model(images()), first)
    model.clock.step = 1
    assert not torch.equal(model(images()), first)
    plain = build("model=vgg").eval()
    assert torch.equal(model.eval()(images()), plain(images()))
