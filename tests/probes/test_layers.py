import pytest
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from src.probes.layers import default_layers


def test_a_layer_is_a_map_and_what_normalises_it():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)
    )
    assert default_layers(model) == [["0.weight", "1.weight", "1.bias"], ["4.weight", "4.bias"]]


def test_a_map_on_its_own_is_one_layer():
    assert default_layers(nn.Linear(2, 2)) == [["weight", "bias"]]


def test_what_comes_before_the_first_map_belongs_to_no_layer():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    assert default_layers(model) == [["1.weight", "1.bias"]]


def test_every_layer_of_a_network(vgg):
    layers = default_layers(vgg("model=vgg_bn", "model.head=512"))
    assert [layer[0] for layer in layers] == [
        *(f"conv{i}.weight" for i in range(1, 9)),
        *(f"linear{i}.weight" for i in (9, 10, 11)),
    ]
    assert layers[2] == ["conv3.weight", "norm3.weight", "norm3.bias"]


def test_gamma_and_beta_after_the_noise_belong_to_the_layer_before_them(vgg):
    layers = default_layers(vgg("model=vgg_noisy", "noise.placement=before_affine"))
    assert layers[0] == ["conv1.weight", "affine1.weight", "affine1.bias"]


def test_a_weight_in_two_places_makes_one_layer():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2))
    model[2].weight = model[0].weight
    assert default_layers(model) == [["0.weight", "0.bias", "2.bias"], ["3.weight", "3.bias"]]
    assert {name for layer in default_layers(model) for name in layer} == set(
        dict(model.named_parameters())
    )


def test_a_transposed_convolution_is_a_map_and_a_weight_may_be_an_embedding_s():
    model = nn.Sequential(nn.Embedding(5, 3), nn.ConvTranspose1d(3, 3, 2), nn.Linear(3, 5))
    model[2].weight = model[0].weight
    assert default_layers(model) == [["0.weight"], ["1.weight", "1.bias", "2.bias"]]


def test_a_weight_that_is_computed_makes_no_layer_in_silence():
    with pytest.raises(ValueError, match="1: its weight is no parameter"):
        default_layers(nn.Sequential(nn.Linear(3, 3), weight_norm(nn.Linear(3, 2))))
