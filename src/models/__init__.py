"""The networks; one LightningModule class a variant, by the name used in ``conf/model``."""

from src.models import linear, mlp, vgg
from src.models.network import Network
from src.settings import Settings

_CLASSIFIERS: dict[str, type[vgg.VGG] | type[mlp.MLP]] = {
    "vgg": vgg.VGG,
    "vgg_bn": vgg.VGGBatchNorm,
    "vgg_noisy": vgg.VGGNoisyBatchNorm,
    "vgg_plain_noisy": vgg.VGGPlainNoisy,
    "vgg_l1": vgg.VGGL1,
    "vgg_l2": vgg.VGGL2,
    "vgg_linf": vgg.VGGLInf,
    "vgg_layer": vgg.VGGLayerNorm,
    "vgg_group": vgg.VGGGroupNorm,
    "vgg_instance": vgg.VGGInstanceNorm,
    "mlp": mlp.MLP,
    "mlp_bn": mlp.MLPBatchNorm,
}
_LINEAR = {
    "dln": linear.DeepLinear,
    "dln_bn": linear.DeepLinearBatchNorm,
    "dln_noisy": linear.DeepLinearNoisyBatchNorm,
    "dln_plain_noisy": linear.DeepLinearPlainNoisy,
    "dln_l1": linear.DeepLinearL1,
    "dln_l2": linear.DeepLinearL2,
    "dln_linf": linear.DeepLinearLInf,
}


def build(settings: Settings, classes: int | None) -> Network:
    """Return the model the settings name, at its initial weights.

    Args:
        settings: The run's.
        classes: How many classes its data have; None where they have none.
    """
    name = settings.model.name
    if classes is None:
        return _LINEAR[name](settings)
    return _CLASSIFIERS[name](settings, classes)
