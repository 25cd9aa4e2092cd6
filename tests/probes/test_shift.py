import pytest
import torch
from torch import Tensor, nn

from src.models.norms import BatchNorm
from src.probes import shift as module
from src.probes.layers import default_layers
from src.probes.shift import internal_covariate_shift

cross_entropy = nn.functional.cross_entropy


def half_square(output: Tensor, target: Tensor) -> Tensor:
    return 0.5 * (output - target).pow(2).sum()


@pytest.fixture
def naive(backward):
    """Definition 2.1 to the letter: two full passes for each layer."""

    def measure(model, loss_fn, batch, before, after, layers=None):
        layers = layers or default_layers(model)
        pairs = []
        for i, layer in enumerate(layers):
            weight, preceding = layer[0], {name for other in layers[:i] for name in other}
            mixed = {name: after[name] if name in preceding else before[name] for name in before}
            g = backward(model, loss_fn, batch, before)[1][weight].flatten()
            h = backward(model, loss_fn, batch, mixed)[1][weight].flatten()
            pairs.append((g, h))
        return {
            "l2": torch.stack([(g - h).norm() for g, h in pairs]),
            "cosine": torch.stack([nn.functional.cosine_similarity(g, h, 0) for g, h in pairs]),
            "grad_norm": torch.stack([g.norm() for g, _ in pairs]),
            "grad_norm_after": torch.stack([h.norm() for _, h in pairs]),
            "relative": torch.stack([(g - h).norm() / g.norm() for g, h in pairs]),
        }

    return measure


@pytest.fixture
def shared(monkeypatch) -> list[int]:
    """Grows by one whenever a shared prefix is used."""
    calls, path = [], module._carried

    def carried(*args):
        calls.append(1)
        return path(*args)

    monkeypatch.setattr(module, "_carried", carried)
    return calls


def agree(shift, expected, rtol: float = 1e-9) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(getattr(shift, name), value, rtol=rtol, atol=1e-12, msg=name)


VARIANTS = {
    "plain": ["model=vgg"],
    "torch BatchNorm": ["model=vgg_bn"],
    "scratch BatchNorm": ["model=vgg_bn", "model.batch_norm=scratch"],
    "normalised head": ["model=vgg_bn", "model.head=512"],
    "noisy": ["model=vgg_noisy"],
    "noise before affine": ["model=vgg_noisy", "noise.placement=before_affine"],
    "plain noisy": ["model=vgg_plain_noisy"],
    **{norm: [f"model=vgg_{norm}"] for norm in ("l1", "l2", "linf", "layer", "group", "instance")},
    "dropout stream": ["model=vgg", "model.head=512", "model.dropout=0.5"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_shared_prefix_gives_the_definition(variant, vgg, images, values, moved, naive, shared):
    model = vgg(*VARIANTS[variant])
    before = values(model)
    after = moved(before)
    shift = internal_covariate_shift(model, cross_entropy, images, before, after)
    assert shared
    assert shift.names == [layer[0] for layer in default_layers(model)]
    assert shift.l2[0] == 0 and (shift.l2[1:] > 1e-3).all()
    assert shift.cosine[0].item() == pytest.approx(1, abs=1e-12)
    agree(shift, naive(model, cross_entropy, images, before, after))


def test_evaluation_mode_is_used_as_it_is(vgg, images, values, moved, naive, shared):
    model = vgg("model=vgg_bn")
    model(images[0])
    model.eval()
    before, after = values(model), moved(values(model))
    shift = internal_covariate_shift(model, cross_entropy, images, before, after)
    assert shared
    agree(shift, naive(model, cross_entropy, images, before, after))


def test_the_gradients_are_those_before_the_update(vgg, images, values, moved, backward):
    model = vgg("model=vgg_bn")
    before = values(model)
    shift = internal_covariate_shift(model, cross_entropy, images, before, moved(before))
    _, expected = backward(model, cross_entropy, images, before)
    assert list(shift.gradients) == shift.names
    for name, gradient in shift.gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("variant", ["plain", "torch BatchNorm", "noisy"])
def test_no_update_no_shift(variant, vgg, images, values):
    """The shared prefix repeats the very operations of a whole pass: the zero is exact."""
    model = vgg(*VARIANTS[variant], dtype=torch.float32)
    before = values(model)
    batch = (images[0].float(), images[1])
    shift = internal_covariate_shift(model, cross_entropy, batch, before, before)
    assert (shift.l2 == 0).all() and (shift.relative == 0).all()
    torch.testing.assert_close(shift.cosine, torch.ones_like(shift.cosine))


def test_cosine_goes_to_1_with_the_learning_rate(smooth, images, values, backward):
    model = smooth
    before = values(model)
    _, gradient = backward(model, cross_entropy, images, before)
    defects = []
    for rate in (1e-4, 1e-5, 1e-6):
        after = {name: value - rate * gradient[name] for name, value in before.items()}
        shift = internal_covariate_shift(model, cross_entropy, images, before, after)
        defects.append((1 - shift.cosine[1:]).max().item())
    assert 0 < defects[0] < 1e-3
    assert defects[1] / defects[0] == pytest.approx(1e-2, rel=0.2)  # second order in the rate
    assert defects[2] / defects[1] == pytest.approx(1e-2, rel=0.2)


def test_two_linear_layers_by_hand():
    """L = ½‖W2 W1 X - Y‖², so G_2 = (W2 W1 X - Y) (W1 X)' and W1 moves alone."""
    stream = torch.Generator().manual_seed(0)
    W1, V1, W2, X, Y = (
        torch.randn(shape, generator=stream, dtype=torch.float64)
        for shape in [(4, 3), (4, 3), (2, 4), (3, 6), (2, 6)]
    )
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    before = {"0.weight": W1, "1.weight": W2}
    after = {"0.weight": V1, "1.weight": torch.full_like(W2, torch.nan)}  # never looked at
    shift = internal_covariate_shift(model, half_square, (X.T, Y.T), before, after)
    G, H = ((W2 @ W @ X - Y) @ (W @ X).T for W in (W1, V1))
    torch.testing.assert_close(shift.gradients["1.weight"], G)
    assert shift.l2.tolist() == pytest.approx([0, (G - H).norm().item()])
    assert shift.cosine[1].item() == pytest.approx(((G * H).sum() / G.norm() / H.norm()).item())
    assert shift.grad_norm_after[1].item() == pytest.approx(H.norm().item())
    first = W2.T @ (W2 @ W1 @ X - Y) @ X.T
    assert shift.grad_norm[0].item() == pytest.approx(first.norm().item())


class Residual(nn.Module):
    """A stem, a block around which the input is carried, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            BatchNorm(4),
        )
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.block(x)).relu().mean((2, 3)))


class Doubled(nn.Sequential):
    """A Sequential by type, not by what it computes."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def nested() -> nn.Module:
    """Layers 2 and 3 stand in one child, and layer 3's norm in the next."""
    inner = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    head = [nn.Flatten(), nn.Linear(4 * 26 * 26, 10)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), inner, nn.BatchNorm2d(4), *head)


def one_activation() -> nn.Module:
    """The same module in two places: ``named_children`` gives it once."""
    act = nn.Tanh()
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 6), act, nn.Linear(6, 6), act, nn.Linear(6, 10), act
    )


def norm_first() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 10)
    )


def tied() -> nn.Module:
    a, b = nn.Linear(6, 6), nn.Linear(6, 6)
    b.weight = a.weight
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 6), nn.Tanh(), a, nn.Tanh(), b, nn.Tanh(), nn.Linear(6, 10)
    )


def recurrent() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 6), layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 10)
    )


NETWORKS = {Residual: 0, Doubled: 0, nested: 1, one_activation: 1, norm_first: 1}
NETWORKS |= {tied: 0, recurrent: 0}


@pytest.mark.parametrize("build, shares", NETWORKS.items(), ids=lambda x: getattr(x, "__name__", x))
def test_other_networks(build, shares, images, values, moved, naive, shared):
    torch.manual_seed(0)
    model = build(*one_activation()) if build is Doubled else build()
    model = model.double()
    before = values(model)
    after = moved(before, 0.1)
    shift = internal_covariate_shift(model, cross_entropy, images, before, after)
    assert len(shared) == shares
    assert shift.l2[0] == 0 and (shift.l2[1:] > 1e-3).all()
    agree(shift, naive(model, cross_entropy, images, before, after))


def test_a_network_that_reads_the_global_generator_draws_the_same_before_and_after(
    images, values, moved, shared
):
    """nn.Dropout: the first pass shows that it draws, and each of the others starts anew."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 20), nn.Dropout(), nn.Linear(20, 20), nn.Dropout()
    ).double()
    model.append(nn.Linear(20, 10).double())
    before = values(model)
    state = torch.get_rng_state()
    still = internal_covariate_shift(model, cross_entropy, images, before, before)
    assert (still.l2 == 0).all() and not shared
    after = moved(before)
    shift = internal_covariate_shift(model, cross_entropy, images, before, after)
    torch.set_rng_state(state)
    mixed = {n: (after if n in ("1.weight", "1.bias") else before)[n] for n in before}
    for name, parameter in model.named_parameters():
        parameter.data.copy_(mixed[name])
    (h,) = torch.autograd.grad(cross_entropy(model(images[0]), images[1]), model[3].weight)
    torch.set_rng_state(state)
    assert shift.grad_norm_after[1].item() == pytest.approx(h.norm().item(), rel=1e-12)


class TestOnly:
    @pytest.mark.parametrize("only", [[1], [3], [2, 5], [9], [5, 2], [4, 4]])
    def test_the_rows_of_those_layers(self, only, vgg, images, values, moved):
        model = vgg("model=vgg_bn")
        before = values(model)
        after = moved(before)
        every = internal_covariate_shift(model, cross_entropy, images, before, after)
        some = internal_covariate_shift(model, cross_entropy, images, before, after, only=only)
        rows = [i - 1 for i in sorted(set(only))]
        assert some.names == [every.names[row] for row in rows]
        agree(some, {name: getattr(every, name)[rows] for name in ("l2", "cosine", "grad_norm")})

    @pytest.mark.parametrize("only", [[], [0], [-1], [10]])
    def test_a_layer_that_is_not_there(self, only, vgg, images, values):
        model = vgg("model=vgg")
        with pytest.raises(ValueError, match="layers 1 to 9"):
            internal_covariate_shift(
                model, cross_entropy, images, values(model), values(model), only=only
            )


def test_layers_of_one_s_own(vgg, images, values, moved, naive, shared):
    """Two layers as one, and the last without its bias: that never takes the update."""
    model = vgg("model=vgg_bn")
    chosen = default_layers(model)
    layers = [chosen[0] + chosen[1], *chosen[2:6], [chosen[6][0]], *chosen[7:]]
    before = values(model)
    after = moved(before)
    shift = internal_covariate_shift(model, cross_entropy, images, before, after, layers)
    assert not shared and len(shift.l2) == 8
    agree(shift, naive(model, cross_entropy, images, before, after, layers))


@pytest.mark.parametrize("layers", [[["conv1.weight", "conv1"]], [["conv1.weight"], []]])
def test_layers_that_are_not_there(layers, vgg, images, values):
    model = vgg("model=vgg")
    with pytest.raises(ValueError, match=r"allowed are lists of some of .*'conv1\.weight'"):
        internal_covariate_shift(model, cross_entropy, images, values(model), values(model), layers)


@pytest.mark.parametrize("kind", ["forward_pre", "forward", "full_backward_pre"])
def test_a_hook_on_the_whole_network_is_part_of_it(kind, images, values, moved, naive):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 9), nn.Tanh(), nn.Linear(9, 10)).double()
    hooks = {
        "forward_pre": lambda _, inputs: (3 * inputs[0],),
        "forward": lambda _, inputs, output: output**3,
        "full_backward_pre": lambda _, gradients: (gradients[0] ** 3,),
    }
    getattr(model, f"register_{kind}_hook")(hooks[kind])
    before = values(model)
    after = moved(before)
    still = internal_covariate_shift(model, cross_entropy, images, before, before)
    assert (still.l2 == 0).all()
    shift = internal_covariate_shift(model, cross_entropy, images, before, after)
    agree(shift, naive(model, cross_entropy, images, before, after))


def test_a_layer_with_no_part_in_the_loss_has_no_direction(images, values, moved):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.Linear(4, 3), nn.Linear(3, 10))
    model = model.double()
    before = values(model)
    before["2.weight"].zero_(), before["3.weight"].zero_()
    shift = internal_covariate_shift(model, cross_entropy, images, before, moved(before))
    assert shift.grad_norm[:2].tolist() == [0, 0]
    assert torch.isnan(shift.cosine[:2]).all() and torch.isnan(shift.relative[:2]).all()


def test_an_update_to_infinity_leaves_the_layers_before_it_valid(vgg, images, values):
    model = vgg("model=vgg")
    before = values(model)
    after = values(model)
    after["conv4.weight"].fill_(torch.inf)
    shift = internal_covariate_shift(model, cross_entropy, images, before, after)
    assert (shift.l2[:4] == 0).all() and not torch.isfinite(shift.l2[4:]).any()
    assert torch.isfinite(shift.grad_norm).all()


def test_float32_is_float64_to_its_precision(vgg, images, values, moved):
    """The model in float32, the parameters in float64: these decide."""
    model = vgg("model=vgg_bn", dtype=torch.float32)
    before = {name: value.double() for name, value in values(model).items()}
    after = moved(before)
    wide = internal_covariate_shift(model, cross_entropy, images, before, after)
    same = internal_covariate_shift(vgg("model=vgg_bn"), cross_entropy, images, before, after)
    agree(same, {"l2": wide.l2, "cosine": wide.cosine}, rtol=1e-12)
    narrow = internal_covariate_shift(
        model,
        cross_entropy,
        images,
        {name: value.float() for name, value in before.items()},
        {name: value.float() for name, value in after.items()},
    )
    assert narrow.l2.dtype == torch.float32 and wide.l2.dtype == torch.float64
    torch.testing.assert_close(narrow.l2.double()[1:], wide.l2[1:], rtol=1e-3, atol=0)
