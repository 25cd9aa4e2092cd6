"""The fully connected network of Ioffe & Szegedy (2015), Sec. 4.1, with and without BatchNorm."""

import math
from collections import OrderedDict

from torch import nn

from src.catalogue import IMAGE_SETS
from src.models.between import Normalised
from src.models.network import ACTIVATIONS, Classifier
from src.settings import MLPSettings, Settings


class MLP(Classifier):
    """Hidden layers of one width over the pixels of an image, [N, C, H, W], and the logits."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__(settings, classes)
        model = settings.model
        assert isinstance(model, MLPSettings)
        activation, normed = ACTIVATIONS[model.activation], settings.variant.norm is not None
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        inputs = math.prod(IMAGE_SETS[settings.data.name].shape)
        for layer in range(1, model.hidden_layers + 1):
            modules[f"linear{layer}"] = nn.Linear(inputs, model.units, bias=not normed)
            modules |= self.between(layer, model.units, spatial=False)
            modules[f"activation{layer}"] = activation()
            inputs = model.units
        modules[f"linear{model.hidden_layers + 1}"] = nn.Linear(inputs, classes)
        self.assemble(modules)


class MLPBatchNorm(Normalised, MLP):
    """BatchNorm on every hidden layer, in place of the bias."""
