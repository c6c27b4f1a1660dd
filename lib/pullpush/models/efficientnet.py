"""The backbone of CLAWS (2021), "a standard EfficientNet": torchvision's B0, for images and small crops.

Taught in "CLAWS".
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.models._inputs import check_images, check_size, widen

SMALLEST_SIDE = 8


class EfficientNetB0(nn.Module):
    """torchvision's efficientnet_b0 without its classifier: from an image to h, 1280 numbers.

    part        layers                       3x120x190    3x32x32     small_input   parameters
    features.0  Conv 3x3, BN, SiLU           32x60x95     32x16x16    32x32x32      864 + 64
    features.1  1 block                      16x60x95     16x16x16    16x32x32      1,448
    features.2  2 blocks, stride 2           24x30x48     24x8x8      24x16x16      16,714
    features.3  2 blocks, stride 2           40x15x24     40x4x4      40x8x8        46,640
    features.4  3 blocks, stride 2           80x8x12      80x2x2      80x4x4        242,930
    features.5  3 blocks                     112x8x12     112x2x2     112x4x4       543,148
    features.6  4 blocks, stride 2           192x4x6      192x1x1     192x2x2       2,026,348
    features.7  1 block                      320x4x6      320x1x1     320x2x2       717,232
    features.8  Conv 1x1, BN, SiLU           1280x4x6     1280x1x1    1280x2x2      412,160
                mean over the pixels         1280         1280        1280          4,007,548

    Tan & Le 2019 (arXiv:1905.11946). The stem has stride 2, or with small_input 1: otherwise a single pixel
    is left of the 32x32 crops that CLAWS gives its second network, and nothing is averaged.

    channels: of the images, at least 1; a stem for other than 3 has 288 parameters a channel.
    small_input: for images of about 32 pixels and less.
    pretrained: start from torchvision's weights of ImageNet (IMAGENET1K_V1, 20 MB), downloaded once into
        torch's own folder and checked there; for images of 3 channels.
    Otherwise weights are torchvision's random ones, drawn from torch's global generator: call
    `torch.manual_seed(seed)` before. The state dict of `features` is that of torchvision's network. In
    training mode blocks are left out at random (stochastic depth, up to 0.2), by the global generator.
    Raises ValueError if channels is below 1, or not 3 with pretrained, and OSError where weights can be
    neither found nor downloaded.
    """

    def __init__(self, channels: int = 3, small_input: bool = False, pretrained: bool = False) -> None:
        super().__init__()
        check_size("channels", channels, 1)
        if pretrained and channels != 3:
            raise ValueError(f"channels={channels}: pretrained weights are for images of 3 channels.")
        self.channels = channels
        self.features = _layers(pretrained)
        if channels != 3:
            self.features[0][0] = nn.Conv2d(channels, 32, kernel_size=3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(self.features[0][0].weight, mode="fan_out")
        if small_input:
            self.features[0][0].stride = (1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """The representations h of a batch of images: (n, 1280), in at least fp32, under autocast too.

        images: (n, channels, height, width), floating point, sides of at least 8 pixels. Where one pixel is
            left at the end, BN in training mode needs n of at least 2.
        Raises ValueError if images have another shape or are not floating point.
        """
        check_images(images, self.channels, SMALLEST_SIDE)
        return widen(self.features(images)).mean(dim=(2, 3))


def _layers(pretrained: bool) -> Any:
    # Here, because the import takes seconds.
    from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

    if not pretrained:
        return efficientnet_b0(num_classes=1).features
    weights = EfficientNet_B0_Weights.IMAGENET1K_V1
    try:
        return efficientnet_b0(weights=weights).features
    except OSError as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"The weights of ImageNet could not be downloaded ({error}). Put {weights.url} into {folder}."
        ) from error
