"""One image file as a square of RGB. Greyscale, palette, CMYK and 16-bit images become RGB.

By Pillow, for one library then reads every format, and on threads, for it leaves the interpreter to others while it
decodes; benchmarks/decode.py has what else there is.
"""

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

from ran.data.image_folder.random_crops import Box
from records.errors import DataError

TRANSIENT = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
"""what an operating system says of its own state, not of a file's content"""


def centre(path: str, side: int, share: float, *, as_shown: bool = False) -> np.ndarray:
    """Returns the central square of an image, `share` of its shorter side long, as uint8 (side, side, 3).

    Scaled bilinearly with antialiasing. `as_shown`: as a browser shows it, turned as a camera noted (EXIF) and what is
    transparent in white; data sets are read without, here as in torchvision. Raises DataError for a damaged file.
    """
    # Deviation: section 4.2 does not say how a test image is cropped; the central 7/8 of its shorter side.
    with _opened(path) as image:
        if as_shown:
            image = _on_white(ImageOps.exif_transpose(image))
        width, height = image.size
        kept = min(width, height) * share
        left, top = (width - kept) / 2, (height - kept) / 2
        return _scaled(image, (left, top, left + kept, top + kept), side)


def crop(path: str, side: int, choose: Callable[[int, int], Box], flip: bool = False) -> np.ndarray:
    """Returns the part of an image that `choose` names, given its width and height, as uint8 (side, side, 3).

    A JPEG of which a half, a quarter or an eighth of the pixels a side suffices is decoded at that size: a third less
    time at 1500x1125 (unlike a test image, whose pixels shall be everyone's). Raises DataError for a damaged file.
    """
    with _opened(path) as image:
        width, height = image.size
        left, top, right, bottom = choose(width, height)
        # Never fewer pixels in the box than in the square.
        least = (math.ceil(width * side / (right - left)), math.ceil(height * side / (bottom - top)))
        image.draft(None, least)
        x, y = image.size[0] / width, image.size[1] / height
        return _scaled(image, (left * x, top * y, right * x, bottom * y), side, flip)


def damage(path: str) -> str | None:
    """Returns why a file is no image that can be used, one line; None where it is one.

    Raises DataError where that cannot be known, for the disk gives no answer or there is no memory.
    """
    try:
        with Image.open(path) as image:
            image.draft(None, (1, 1))
            _rgb(image)
    except Exception as error:  # a damaged image can provoke nearly any exception
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in TRANSIENT:
            raise DataError(f"{path}: cannot be read now ({_reason(error)})") from error
        return _reason(error)
    return None


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # as in `damage`
        raise DataError(
            f"{path}: not an image that can be read ({_reason(error)}); fetch it anew, or have it left out"
        ) from error


def _on_white(image: Image.Image) -> Image.Image:
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image


def _rgb(image: Image.Image) -> Image.Image:
    image = _eight_bits(image)
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(image: Image.Image, box: Box, side: int, flip: bool = False) -> np.ndarray:
    image = _rgb(image).resize((side, side), Image.Resampling.BILINEAR, box)
    return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image)
