import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from src.models import noise as module
from tests.models.noise import SEVERAL_BLOCKS, drawn, noise


class TestShapesAndKinds:
    @hypothesis(max_examples=60)
    @given(
        st.lists(st.integers(1, 9), min_size=2, max_size=2)
        | st.lists(st.integers(1, 9), min_size=4, max_size=4)
    )
    def test_any_size_is_filled(self, shape):
        """Also one that is no multiple of 4 or 16, and smaller than a block."""
        a = torch.zeros(shape)
        s, m = drawn(a)
        assert s.shape == m.shape == a.shape
        assert ((s - 1.125).abs() < 0.125 + 0.1 * 6).all()
        assert (m.abs() < 0.6).all()
        distinct = 1 if a.numel() < 20 else 0.9 * a.numel()
        assert len(m.unique()) >= distinct

    @pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
    def test_layout_of_the_input_is_kept(self, format):
        a = torch.ones(8, 6, 4, 4).to(memory_format=format)
        y = noise()(a)
        assert y.is_contiguous(memory_format=format)
        assert torch.equal(y, noise()(a.clone()))
        for values, own in zip(drawn(a), drawn(a, r_mu=0.0, r_sigma=0.0), strict=True):
            assert (values - own).abs().max() < 0.6  # each unit about its own mean and scale

    def test_inputs_with_gaps_and_repeats_are_disturbed_too(self):
        a = torch.randn(6, 8, 5, 5)
        for strange in (a[:, ::2], a[..., 1:4], a.transpose(2, 3), a[:1].expand(6, -1, -1, -1)):
            s, m = noise().draw(strange)
            torch.testing.assert_close(noise()(strange), s * strange + m)
            assert len(m.unique()) > 0.9 * m.numel()

    @pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4, 4)])
    def test_per_sample_noise_is_the_same_at_every_position(self, shape):
        s, m = noise(per_position=False).draw(torch.zeros(shape))
        assert s.shape == m.shape == (7, 3, *[1] * (len(shape) - 2))
        assert len(s.unique()) == len(m.unique()) == 21
        a = torch.randn(shape)
        torch.testing.assert_close(noise(per_position=False)(a), s * a + m)

    def test_gradient(self):
        layer = noise(step=2)
        a = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, a)
        assert torch.autograd.gradgradcheck(layer, a)
        (gradient,) = torch.autograd.grad(layer(a).sum(), a)
        assert torch.equal(gradient, layer.draw(a)[0])

    def test_backward_after_the_next_draw_is_an_error_not_a_wrong_gradient(self):
        layer, a = noise(), torch.randn(3, 2, requires_grad=True)
        y = layer(a)
        layer.clock.step = 1
        layer(a)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_float64_is_disturbed_in_float64_by_the_draws_of_float32(self):
        a = torch.randn(5, 3, 4, 4, dtype=torch.float64)
        y = noise()(a)
        assert y.dtype == torch.float64
        scale, shift = noise().draw(a.float())
        assert torch.equal(y, torch.addcmul(shift.double(), a, scale.double()))

    @pytest.mark.parametrize("relative", [False, True])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_disturbed_in_float32(self, dtype, relative):
        a = (60 + torch.randn(5, 3, 4, 4)).to(dtype)
        y = noise(relative=relative)(a)
        assert y.dtype == torch.float32
        assert torch.equal(y, noise(relative=relative)(a.float()))

    def test_a_layer_that_saw_another_precision_forgets_it(self):
        layer, a = noise(), torch.randn(4, 3)
        layer(a)
        assert torch.equal(layer(a.double()), noise()(a.double()))
        assert torch.equal(layer(a), noise()(a))

    def test_an_evaluation_under_inference_mode_leaves_training_able(self):
        layer, a = noise(), torch.randn(4, 3)
        with torch.inference_mode():
            evaluated = layer(a).clone()
        assert torch.equal(layer(a.requires_grad_()), evaluated)
        layer.clock.step = 1
        layer(a).sum().backward()

    def test_an_interrupted_draw_is_drawn_again(self, monkeypatch):
        layer, a = noise(), torch.ones(SEVERAL_BLOCKS)
        layer(a)
        layer.clock.step = 1
        real, streams = module.generator, []

        def failing(*key: object, **options: object) -> torch.Generator:
            streams.append(key)
            if len(streams) == 3:
                raise KeyboardInterrupt
            return real(*key, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, "generator", failing)
            with pytest.raises(KeyboardInterrupt):
                layer(a)
        for step in (0, 1):  # the draw before is gone too: its buffers are half overwritten
            layer.clock.step = step
            assert torch.equal(layer(a), noise(step=step)(a))
