"""The networks; one LightningModule class a variant, by the name used in ``conf/model``."""

from src.models.classifier import Classifier
from src.models.vgg import VGG, VGGBatchNorm, VGGNoisyBatchNorm, VGGPlainNoisy
from src.settings import Settings

_CLASSES: dict[str, type[VGG]] = {
    "vgg": VGG,
    "vgg_bn": VGGBatchNorm,
    "vgg_noisy": VGGNoisyBatchNorm,
    "vgg_plain_noisy": VGGPlainNoisy,
}


def build(settings: Settings, classes: int) -> Classifier:
    """Return the model the settings name, at its initial weights."""
    return _CLASSES[settings.model.name](settings, classes)
