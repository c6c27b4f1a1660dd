"""Networks: one a file, plain `torch.nn.Module`s that create their weights from torch's global generator."""

from pullpush.models.claws import LabelHead, MaskNetwork, Projector
from pullpush.models.efficientnet import EfficientNetB0
from pullpush.models.heads import ClusterHead, InstanceHead
from pullpush.models.masks import mask
from pullpush.models.practicum import PracticumNet
from pullpush.models.residual_mlp import ResidualMLP
from pullpush.models.small_field import SmallFieldNet
from pullpush.models.small_sphere import SmallSphereNet
from pullpush.models.sphere_resnet import SphereResNet

__all__ = [
    "ClusterHead",
    "EfficientNetB0",
    "InstanceHead",
    "LabelHead",
    "MaskNetwork",
    "PracticumNet",
    "Projector",
    "ResidualMLP",
    "SmallFieldNet",
    "SmallSphereNet",
    "SphereResNet",
    "mask",
]
