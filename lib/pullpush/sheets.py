"""Many small pictures as one WebP in an array: what a record keeps of images, for hovers and galleries.

    arrays["thumbs"] = sheets.pack(images, 40_000)      # bytes, to be kept in arrays.npz
    images = sheets.unpack(arrays["thumbs"], 1000)      # (1000, 3, h, w)

Raw pixels of 1,000 pictures of 16 x 16 weigh 768 kB, more than twice what a record may hold.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from pullpush.stills import pictures_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

QUALITIES = (85, 75, 65, 55, 45, 35, 25, 15)
SMALLER = 0.8  # what the sides are cut to, again and again, where the lowest quality is still too large
SMALLEST = 4  # pixels of the shorter side: below it, no picture shows anything


def pack(images: ArrayLike, budget: int) -> NDArray[np.uint8]:
    """(b,) bytes of one WebP that holds all images: the best quality with at most `budget` bytes.

    Where the lowest quality takes more, the images are made smaller: a run is not lost for its pictures.

    images: (n, c, h, w), c 1 or 3, uint8 or floats in [0, 1]. Raises ValueError for images of another shape,
    none at all, or a budget that not even images of `SMALLEST` pixels keep.
    """
    from PIL import Image

    pictures = pictures_of(images)
    if len(pictures) == 0:
        raise ValueError("There are no images to pack: give at least one.")
    while True:
        n, height, width = pictures.shape[:3]
        picture = Image.fromarray(_sheet(pictures))
        for quality in QUALITIES:
            stream = io.BytesIO()
            picture.save(stream, "webp", quality=quality, method=6)
            if len(stream.getvalue()) <= budget:
                return np.frombuffer(stream.getvalue(), np.uint8)
        size = (math.floor(width * SMALLER), math.floor(height * SMALLER))
        if min(size) < SMALLEST:
            break
        smaller = [Image.fromarray(one).resize(size, Image.Resampling.BOX) for one in pictures]
        pictures = np.stack([np.asarray(one) for one in smaller])
    raise ValueError(
        f"{n} images of {height} x {width} take {len(stream.getvalue()):,} bytes at the lowest quality, over "
        f"the budget of {budget:,}. Give fewer of them."
    )


def unpack(packed: ArrayLike, count: int) -> NDArray[np.uint8]:
    """The first `count` images of `pack(images, ...)` if it was given as many: (count, 3, h, w) uint8.

    h and w are those of the images, or less where `pack` had to make them smaller.
    Raises ValueError where the picture cannot be cut into as many places.
    """
    from PIL import Image

    sheet = np.asarray(Image.open(io.BytesIO(np.asarray(packed, np.uint8).tobytes())).convert("RGB"))
    rows, columns = _places(count)
    if count < 1 or sheet.shape[0] % rows or sheet.shape[1] % columns:
        raise ValueError(
            f"A sheet of {sheet.shape[0]} x {sheet.shape[1]} pixels does not hold {count} images."
        )
    height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
    parts = sheet.reshape(rows, height, columns, width, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(parts.reshape(rows * columns, 3, height, width)[:count])


def _sheet(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, h, w, 3) -> all of them in rows, one sheet (rows h, columns w, 3); free places are black."""
    n, height, width = pictures.shape[:3]
    rows, columns = _places(n)
    sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
    sheet[:n] = pictures
    sheet = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return sheet.reshape(rows * height, columns * width, 3)


def _places(n: int) -> tuple[int, int]:
    """Rows and columns of a sheet of n images."""
    columns = max(1, math.ceil(math.sqrt(n)))
    return max(1, -(-n // columns)), columns
