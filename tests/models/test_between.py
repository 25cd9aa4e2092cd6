import pytest

from src import models
from src.catalogue import VARIANTS
from src.models import between
from src.models.linear import DeepLinear
from src.models.mlp import MLP
from src.models.vgg import VGG

CLASSES = {**models._CLASSIFIERS, **models._LINEAR}
TREATMENTS = {
    (False, False): set(),
    (True, False): {between.Normalised},
    (False, True): {between.Noisy},
    (True, True): {between.Normalised, between.Noisy, between.NormalisedNoisy},
}


def test_every_variant_has_a_class_of_its_own():
    assert CLASSES.keys() == VARIANTS.keys()
    assert len(set(CLASSES.values())) == len(CLASSES)


@pytest.mark.parametrize("name, variant", VARIANTS.items())
def test_it_is_of_its_family_and_adds_what_the_table_says(name, variant):
    kind = CLASSES[name]
    assert issubclass(kind, {"vgg": VGG, "dln": DeepLinear, "mlp": MLP}[variant.family])
    added = {t for t in TREATMENTS[True, True] if issubclass(kind, t)}
    assert added == TREATMENTS[variant.norm is not None, variant.noise]
    assert kind.__doc__
