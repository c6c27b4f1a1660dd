"""A small encoder that ends on a sphere: the second study on a CPU, with images of 8 to 32 pixels.

Taught in "CC against RCC".
"""

from torch import Tensor, nn
from torch.nn import functional as F

from pullpush.models._inputs import check_images, check_size, unit_rows, widen

SMALLEST_SIDE = 2


class SmallSphereNet(nn.Module):
    """Four convolutions from an image to a point h on the unit sphere. Ours, in place of `SphereResNet`.

    part      layers                1x8x8      1x28x28    3x32x32    parameters
    stage1    Conv 16, BN, ReLU     16x4x4     16x14x14   16x16x16   144 + 32 or 432 + 32
    stage2    Conv 32, BN, ReLU     32x2x2     32x7x7     32x8x8     4,608 + 64
    stage3    Conv 64, BN, ReLU     64x2x2     64x4x4     64x4x4     18,432 + 128
    stage4    Conv 64, BN, ReLU     64x2x2     64x2x2     64x2x2     36,864 + 128
              mean over the pixels  64         64         64
    linear    Linear, BN            3          3          3          192 + 6
              unit length           3          3          3          60,598 or 60,886

    Every convolution is 3x3 with padding 1 and no bias, and halves a side that is longer than 2 pixels. So an
    image of 28 pixels costs 0.70 million multiply-adds, one of 8 pixels 0.24 million.

    No ReLU follows the linear layer: behind one, h would be confined to where no coordinate is negative, for
    d = 3 one eighth of the sphere. The last BN is there because `SphereResNet` ends in one too: both start
    with their images around the whole sphere, not in a cap of it.

    channels: of the images, at least 1.
    dimensions: d, length of a row of h, at least 2.
    The weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if channels is below 1 or dimensions below 2.

    >>> import torch
    >>> SmallSphereNet(channels=1)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 3])
    """

    def __init__(self, channels: int = 1, dimensions: int = 3) -> None:
        super().__init__()
        check_size("channels", channels, 1)
        check_size("dimensions", dimensions, 2)
        self.channels = channels
        self.stage1 = _stage(channels, 16)
        self.stage2 = _stage(16, 32)
        self.stage3 = _stage(32, 64)
        self.stage4 = _stage(64, 64)
        self.linear = nn.Linear(64, dimensions, bias=False)
        self.norm = nn.BatchNorm1d(dimensions)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings h of a batch of images: (n, d), rows of unit length, in fp32 under autocast too.

        images: (n, channels, height, width), floating point, sides of at least 2 pixels.
        Raises ValueError if images have another shape or are not floating point.
        """
        check_images(images, self.channels, SMALLEST_SIDE)
        maps = self.stage4(self.stage3(self.stage2(self.stage1(images))))
        return unit_rows(self.norm(widen(self.linear(widen(maps).mean(dim=(2, 3))))))


class _Halve(nn.Conv2d):
    """A 3x3 convolution that makes ceil(s / 2) of a side s above 2, and leaves shorter sides as they are."""

    def forward(self, maps: Tensor) -> Tensor:
        stride = [2 if side > SMALLEST_SIDE else 1 for side in maps.shape[2:]]
        return F.conv2d(maps, self.weight, stride=stride, padding=1)


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    halve = _Halve(inputs, outputs, kernel_size=3, bias=False)
    return nn.Sequential(halve, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
