"""Networks: one a file, plain `torch.nn.Module`s that create their weights from torch's global generator."""

from pullpush.models.heads import ClusterHead, InstanceHead
from pullpush.models.practicum import PracticumNet
from pullpush.models.small_sphere import SmallSphereNet
from pullpush.models.sphere_resnet import SphereResNet

__all__ = ["ClusterHead", "InstanceHead", "PracticumNet", "SmallSphereNet", "SphereResNet"]
