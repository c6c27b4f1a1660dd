"""A small encoder of photographs: the third study on a CPU, for whole images and small crops alike.

Taught in "CLAWS".
"""

from torch import Tensor, nn

from pullpush.models._inputs import check_images, check_size, widen

SMALLEST_SIDE = 2


class SmallFieldNet(nn.Module):
    """Four convolutions from an image of any size to h, 128 numbers. Ours, in place of `EfficientNetB0`.

    part      layers                3x120x190     3x32x32     parameters
    stage1    Conv 16, BN, ReLU     16x60x95      16x16x16    432 + 32
    stage2    Conv 32, BN, ReLU     32x30x48      32x8x8      4,608 + 64
    stage3    Conv 64, BN, ReLU     64x15x24      64x4x4      18,432 + 128
    stage4    Conv 128, BN, ReLU    128x8x12      128x2x2     73,728 + 256
              mean over the pixels  128           128         97,680

    Every convolution is 3x3 with stride 2, padding 1 and no bias: ceil(s / 2) is left of a side s. An image
    of 120x190 costs 22.8 million multiply-adds, a crop of 32x32 1.0 million.

    channels: of the images, at least 1; each has 144 parameters.
    The weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if channels is below 1.

    >>> import torch
    >>> net = SmallFieldNet()
    >>> net(torch.zeros(5, 3, 120, 190)).shape, net(torch.zeros(5, 3, 32, 32)).shape
    (torch.Size([5, 128]), torch.Size([5, 128]))
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        check_size("channels", channels, 1)
        self.channels = channels
        self.stage1 = _stage(channels, 16)
        self.stage2 = _stage(16, 32)
        self.stage3 = _stage(32, 64)
        self.stage4 = _stage(64, 128)

    def forward(self, images: Tensor) -> Tensor:
        """The representations h of a batch of images: (n, 128), none below 0, in fp32 under autocast too.

        images: (n, channels, height, width), floating point, sides of at least 2 pixels. Up to 16 pixels only
            one is left at the end, where in training mode BN needs n of at least 2.
        Raises ValueError if images have another shape or are not floating point.
        """
        check_images(images, self.channels, SMALLEST_SIDE)
        maps = self.stage4(self.stage3(self.stage2(self.stage1(images))))
        return widen(maps).mean(dim=(2, 3))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    halve = nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(halve, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
