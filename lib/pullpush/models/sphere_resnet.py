"""The backbone of Robust Contrastive Clustering (Vanderbilt University, 2022): ResNet18 onto a sphere.

Taught in "CC against RCC".
"""

from torch import Tensor, nn

from pullpush.models._inputs import check_images, check_size, unit_rows, widen

SMALLEST_SIDE = 8


class SphereResNet(nn.Module):
    """ResNet18 from an image to a point h on the unit sphere; with dimensions=3 a point that can be drawn.

    part      layers                          1x64x64     parameters     with head="linear"
    conv1     Conv 7x7, stride 2, BN, ReLU    64x32x32    3,136 + 128
    maxpool   MaxPool 3x3, stride 2           64x16x16
    layer1    2 blocks                        64x16x16    147,968
    layer2    2 blocks, the first stride 2    128x8x8     525,568
    layer3    2 blocks, the first stride 2    256x4x4     2,099,712
    layer4    2 blocks, the first stride 2    3x2x2       7,953          512x2x2, 8,393,728
              mean over the pixels            3                          512
    fc                                                                   Linear 512 to 3, 1,539
              unit length                     3           2,784,465      11,171,779

    A block is Conv 3x3, BN, ReLU, Conv 3x3, BN, plus its input (through Conv 1x1, BN where shapes differ),
    ReLU. Weights have torchvision's names: with channels=3 and head="linear", a state dict of its
    `resnet18(num_classes=d)` fits.

    channels: of the images, at least 1. The paper has 1 (MNIST).
    dimensions: d, length of a row of h, at least 2.
    head: "coded", as in the authors' code (github.com/rana-shahroz/Contrastive-Clustering): layer4 has width
        d, and its two blocks lack the last ReLU. "linear", as the report can be read, which only says that a
        ResNet18 gives 3 dimensions: layer4 has width 512, and a linear layer follows.
    Neither has a ReLU at the end: behind one, h would be confined to where no coordinate is negative, for
    d = 3 one eighth of the sphere.

    The weights are drawn from torch's global generator (call `torch.manual_seed(seed)` before) as torchvision
    and the authors do it: convolutions normal with variance 2 / (kernel area x outputs), which is Kaiming's
    "fan_out"; BN starts at 1 and 0; the linear layer has torch's default.
    Raises ValueError if channels is below 1, dimensions below 2, or head is unknown.

    >>> import torch
    >>> SphereResNet(channels=1)(torch.zeros(5, 1, 64, 64)).shape
    torch.Size([5, 3])
    """

    def __init__(self, channels: int = 1, dimensions: int = 3, head: str = "coded") -> None:
        super().__init__()
        check_size("channels", channels, 1)
        check_size("dimensions", dimensions, 2)
        if head not in ("coded", "linear"):
            raise ValueError(f"Unknown head '{head}'. Allowed: coded, linear.")
        self.channels = channels
        self.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = nn.Sequential(_Block(64, 64), _Block(64, 64))
        self.layer2 = nn.Sequential(_Block(64, 128, stride=2), _Block(128, 128))
        self.layer3 = nn.Sequential(_Block(128, 256, stride=2), _Block(256, 256))
        last, end = (dimensions, nn.Identity) if head == "coded" else (512, nn.ReLU)
        self.layer4 = nn.Sequential(_Block(256, last, 2, end), _Block(last, last, 1, end))
        self.fc = nn.Identity() if head == "coded" else nn.Linear(512, dimensions)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings h of a batch of images: (n, d), rows of unit length, in fp32 under autocast too.

        images: (n, channels, height, width), floating point, sides of at least 8 pixels; the paper has 64. Up
            to 32 pixels only one is left at the end, where in training mode BN needs n of at least 2.
        Raises ValueError if images have another shape or are not floating point.
        """
        check_images(images, self.channels, SMALLEST_SIDE)
        maps = self.maxpool(self.bn1(self.conv1(images)).relu_())
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return unit_rows(self.fc(widen(maps).mean(dim=(2, 3))))


class _Block(nn.Module):
    """Two convolutions and a way around them: (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, end: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            resize = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(resize, nn.BatchNorm2d(outputs))
        self.end = end()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(maps)).relu_()
        return self.end(self.bn2(self.conv2(inner)) + self.downsample(maps))
