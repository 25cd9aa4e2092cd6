"""Nothing is left behind, whatever the probe and however it ends."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from src.probes.activations import activations
from src.probes.curvature import along_gradient, largest_eigenvalue
from src.probes.landscape import landscape
from src.probes.shift import internal_covariate_shift
from src.probes.theory import at_layer

cross_entropy = nn.functional.cross_entropy


def shift(model, loss_fn, batch, params, layers=None):
    """With an update that overflows on its way."""
    after = {name: value * 1.1 for name, value in params.items()}
    after["conv3.weight"] = after["conv3.weight"] * 1e38
    found = internal_covariate_shift(model, loss_fn, batch, params, after, layers)
    return [found.l2, found.cosine, found.grad_norm, found.grad_norm_after]


def fallback(model, loss_fn, batch, params):
    """The same, pass by pass."""
    return shift(model, loss_fn, batch, params, [["conv3.weight"], ["conv4.weight"]])


def loss_landscape(model, loss_fn, batch, params):
    """One point beyond what float32 holds."""
    found = landscape(model, loss_fn, batch, params, [0.1, 1e38, 0.2], metric="relative")
    return list(vars(found).values())


def gradient_curvature(model, loss_fn, batch, params):
    return list(vars(along_gradient(model, loss_fn, batch, params)).values())


def eigenvalue(model, loss_fn, batch, params):
    stream = torch.Generator().manual_seed(0)
    return list(vars(largest_eigenvalue(model, loss_fn, [batch], params, stream, 3)).values())


def theory(model, loss_fn, batch, params):
    first, second = at_layer(model, loss_fn, batch, params, "norm2", [0])
    return [*vars(first).values(), *vars(second).values()]


def listen(model, loss_fn, batch, params):
    heard: list[Tensor] = []
    activations(model, batch, params, ["norm2", "conv8"], lambda _, x: heard.append(x.clone()))
    return heard


PROBES = [shift, fallback, loss_landscape, gradient_curvature, eigenvalue, theory, listen]
every_probe = pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.__name__)


class Snapshot:
    """All of a model, of a batch and of torch that a probe could disturb."""

    def __init__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
        self.model, self.batch = model, batch
        self.objects = self._objects()
        self.kept = deepcopy([None if x is None else x.detach() for x in self.objects])
        self.flags, self.state = self._flags(), torch.get_rng_state()

    def _objects(self) -> list[Tensor | None]:
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        return [x for _, p in named for x in (p, p.grad)] + list(self.batch)

    def _flags(self) -> list[object]:
        return [
            [(name, p.requires_grad) for name, p in self.model.named_parameters()],
            [x.requires_grad for x in self.batch],
            [module.training for module in self.model.modules()],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in self.model.modules()],
            [list(m._parameters) + list(m._buffers) for m in self.model.modules()],
            (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")),
        ]

    def check(self) -> None:
        for mine, now, then in zip(self.objects, self._objects(), self.kept, strict=True):
            assert mine is now
            assert (now is None) == (then is None)
            if now is not None:
                assert torch.equal(now, then) and now.dtype == then.dtype
        assert self._flags() == self.flags
        assert torch.equal(torch.get_rng_state(), self.state)


@pytest.fixture(params=["torch", "scratch"])
def trained(request, vgg, images) -> Callable[[], tuple[nn.Sequential, tuple[Tensor, Tensor]]]:
    """A noisy float32 network a step into its training, one weight frozen, one norm at rest."""
    kind = f"model.batch_norm={request.param}"
    model = vgg("model=vgg_noisy", "model.head=512", "model.dropout=0.5", kind, dtype=torch.float32)
    batch = (images[0].float(), images[1])
    model.conv5.weight.requires_grad_(False)
    model.norm4.eval()
    cross_entropy(model(batch[0]), batch[1]).backward()
    return model, batch


@every_probe
def test_afterwards(probe, trained, values):
    model, batch = trained
    twin = deepcopy(model)
    snapshot = Snapshot(model, batch)
    probe(model, cross_entropy, batch, dict(model.named_parameters()))
    snapshot.check()
    probe(model, cross_entropy, batch, values(model))
    snapshot.check()
    for step in (0, 1):
        for network in (model, twin):
            network.noise1.clock.step = step
        assert torch.equal(model(batch[0]), twin(batch[0]))


@every_probe
@pytest.mark.parametrize("call", [1, 2, 3])
def test_also_when_it_raises(probe, call, trained, values):
    """In the loss or, where that is not asked, in the network; at the first call or a later one."""
    model, batch = trained
    calls = []

    def raising(*args):
        calls.append(1)
        if len(calls) == call:
            torch.rand(1)
            raise KeyboardInterrupt

    def loss_fn(output, target):
        raising()
        return cross_entropy(output, target)

    model.linear9.register_forward_hook(raising)
    snapshot = Snapshot(model, batch)
    try:
        probe(model, loss_fn, batch, values(model))
    except KeyboardInterrupt:
        pass
    else:
        assert len(calls) < call
    snapshot.check()


@every_probe
def test_also_at_parameters_that_overflow(probe, trained, values):
    model, batch = trained
    snapshot = Snapshot(model, batch)
    params = {name: torch.full_like(value, 1e38) for name, value in values(model).items()}
    found = probe(model, cross_entropy, batch, params)
    snapshot.check()
    assert not all(torch.isfinite(value).all() for value in found)


def same(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num()) and a.dtype == b.dtype


@every_probe
class TestWhatSurroundsIt:
    def test_no_grad(self, probe, trained, values):
        model, batch = trained
        expected = probe(model, cross_entropy, batch, values(model))
        with torch.no_grad():
            snapshot = Snapshot(model, batch)
            same(probe(model, cross_entropy, batch, values(model)), expected)
            snapshot.check()

    @pytest.mark.filterwarnings("error")
    def test_autocast(self, probe, trained, values):
        model, batch = trained
        expected = probe(model, cross_entropy, batch, values(model))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            snapshot = Snapshot(model, batch)
            same(probe(model, cross_entropy, batch, values(model)), expected)
            snapshot.check()
            assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16

    def test_float64_parameters_on_a_float32_model(self, probe, trained, values):
        """Inputs, buffers and noise follow the parameters."""
        model, batch = trained
        params = {name: value.double() for name, value in values(model).items()}
        snapshot = Snapshot(model, batch)
        found = probe(model, cross_entropy, batch, params)
        snapshot.check()
        wide = deepcopy(model).double()
        same(found, probe(wide, cross_entropy, (batch[0].double(), batch[1]), params))
        assert all(value.dtype in (torch.float64, torch.bool) for value in found)


@pytest.mark.parametrize("kind", ["module", "parameter"])
def test_a_parameter_in_two_places_stays_one(kind, images):
    """functional_call's own tying leaves such a module with the probe's tensors."""
    torch.manual_seed(0)
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    pair = [first, nn.Tanh(), first if kind == "module" else second]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6), *pair, nn.BatchNorm1d(6))
    model = model.append(nn.Linear(6, 10)).double()
    params = {name: p.detach().clone() for name, p in model.named_parameters()}
    snapshot, expected = Snapshot(model, images), model[2].weight
    found = landscape(model, cross_entropy, images, params, [0.1])
    snapshot.check()
    assert model[2].weight is expected and model[4].weight is expected
    assert found.loss_at_zero == cross_entropy(deepcopy(model)(images[0]), images[1])
