"""The small network of the practicum on pairwise and triplet loss (Goethe University Frankfurt, 2021)."""

from torch import Tensor, nn

SMALLEST_SIDE = 2


class PracticumNet(nn.Module):
    """Five convolutions from an image to an embedding in (0, 1)^32. Taught in "Pair against triplet".

    stage    layers                          1x28x28    3x32x32    parameters
    stage1   Conv 32, LeakyReLU 0.2          32x15x15   32x17x17   128 or 384
    stage2   Conv 64, BN, LeakyReLU 0.2      64x8x8     64x9x9     8,192 + 128
    stage3   Conv 128, BN, LeakyReLU 0.2     128x5x5    128x5x5    32,768 + 256
    stage4   Conv 256, BN, LeakyReLU 0.2     256x3x3    256x3x3    131,072 + 512
    stage5   Conv 8, Sigmoid                 8x2x2      8x2x2      8,192
                                                                   181,248 or 181,504

    Every convolution has a kernel of 2 and no bias; the first four have stride 2 and padding 1, the last
    stride 1 and no padding: the only values that give the shapes and counts the report prints
    (github.com/lunoon/PAMI_Contrastive_Learning).

    The sigmoid makes every cosine of two embeddings positive and no distance longer than sqrt(32) = 5.66.

    channels: of the images, at least 1. The practicum has 1 (MNIST) and 3 (CIFAR-10).
    The weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if channels is below 1.

    >>> import torch
    >>> PracticumNet(channels=1)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 32])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels {channels} must be at least 1: 1 for grey images, 3 for colour.")
        self.channels = channels
        self.stage1 = nn.Sequential(_halve(channels, 32), nn.LeakyReLU(0.2))
        self.stage2 = nn.Sequential(_halve(32, 64), nn.BatchNorm2d(64), nn.LeakyReLU(0.2))
        self.stage3 = nn.Sequential(_halve(64, 128), nn.BatchNorm2d(128), nn.LeakyReLU(0.2))
        self.stage4 = nn.Sequential(_halve(128, 256), nn.BatchNorm2d(256), nn.LeakyReLU(0.2))
        self.stage5 = nn.Sequential(nn.Conv2d(256, 8, kernel_size=2, bias=False), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings z of a batch of images, in (0, 1): (n, 32) for images of 28 or 32 pixels.

        images: (n, channels, h, w), floating point, the practicum's in [-1, 1]; h and w at least 2. Each of
        the first four stages makes floor(s / 2) + 1 of a side s, the last takes 1 off, and 8 channels of what
        remains are laid out in a row: 8 numbers for images of 8 pixels, 32 numbers for 18 up to 33.
        Raises ValueError if images have another shape or are not floating point.
        """
        return self.activations(images)[-1].flatten(start_dim=1)

    def activations(self, images: Tensor) -> list[Tensor]:
        """What each of the five stages puts out, after its non-linearity: (n, c, h, w) each."""
        self._check(images)
        outputs = []
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4, self.stage5):
            images = stage(images)
            outputs.append(images)
        return outputs

    def _check(self, images: Tensor) -> None:
        shape = tuple(images.shape)
        if len(shape) != 4:
            raise ValueError(f"images have shape {shape}; they must be a batch (n, channels, h, w).")
        if shape[1] != self.channels:
            raise ValueError(
                f"images have {shape[1]} channels, this network was built for {self.channels}. "
                f"Build it with PracticumNet(channels={shape[1]})."
            )
        if min(shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"images have {shape[2]}x{shape[3]} pixels; a side must be at least {SMALLEST_SIDE}."
            )
        if not images.is_floating_point():
            raise ValueError(f"images are {images.dtype}; they must be floating point, see views.normalize.")


def _halve(channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution that makes floor(s / 2) + 1 of a side s."""
    return nn.Conv2d(channels, out_channels, kernel_size=2, stride=2, padding=1, bias=False)
