"""Decodes an image file to an RGB square. Greyscale, palette, CMYK and 16-bit images are converted to RGB.

Uses Pillow, which reads all formats, on threads, because it releases the GIL while decoding; benchmarks/decode.py
compares it with other decoders.
"""

import errno
import functools
import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from ran.data.image_folder.random_crops import Box
from records.errors import DataError
from records.reading import check_regular

# A sound PNG may have megabytes of text, as image editors write; Pillow takes one by default.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "PPM", "TIFF", "GIF", "AVIF", "JPEG2000")
"""formats that are read, whatever the suffix; EPS is not among them, for which Pillow starts Ghostscript"""
MOST_PIXELS = 100_000_000
"""of an image, and of all images that are decoded at the same time: up to 15 bytes each. ImageNet's largest has 61
million. A file of 700 kB can claim any number."""
TRANSIENT = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
"""errors of the operating system that say nothing about a file's content"""


def centre(path: str, side: int, share: float, *, as_shown: bool = False) -> np.ndarray:
    """Returns the central square of an image, `share` of its shorter side long, as uint8 (side, side, 3).

    Scaled bilinearly with antialiasing. `as_shown`: as a browser shows it, rotated according to EXIF and transparency
    on white; data sets are read without this, as in torchvision. Raises DataError for a damaged file.
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
    """Returns the crop that `choose` returns for the image's width and height, as uint8 (side, side, 3).

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is large enough, which saves a third of the time at
    1500x1125. Test images are not, so that their pixels are the usual ones. Raises DataError for a damaged file.
    """
    with _opened(path) as image:
        width, height = image.size
        left, top, right, bottom = choose(width, height)
        # The crop must have at least as many pixels as the square.
        least = (math.ceil(width * side / (right - left)), math.ceil(height * side / (bottom - top)))
        image.draft(None, least)
        x, y = image.size[0] / width, image.size[1] / height
        return _scaled(image, (left * x, top * y, right * x, bottom * y), side, flip)


def damage(path: str) -> str | None:
    """Returns why an image file cannot be used, in one line; None if it can.

    Raises DataError if this cannot be decided, because of a disk error or lack of memory.
    """
    try:
        with _admitted(path) as image:
            image.draft(None, (1, 1))
            _rgb(image)
    except Exception as error:  # a damaged image can provoke nearly any exception
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in TRANSIENT:
            raise DataError(f"{path}: cannot be read now ({_reason(error)})") from error
        return _reason(error)
    return None


class _InFlight:
    """Counts the pixels of the images that threads decode at the same time."""

    def __init__(self) -> None:
        self._pixels = 0
        self._changed = threading.Condition()

    @contextmanager
    def room_for(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for so many pixels, at most MOST_PIXELS, and takes it during the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._pixels + pixels <= MOST_PIXELS)
            self._pixels += pixels
        try:
            yield
        finally:
            with self._changed:
                self._pixels -= pixels
                self._changed.notify_all()


_in_flight = _InFlight()


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit here is another one


@contextmanager
def _admitted(path: str) -> Iterator[Image.Image]:
    """Opens an image if it is a file of a known format and not too large, when there is memory for its pixels."""
    check_regular(path)
    with Image.open(path, formats=_formats()) as image:
        pixels = image.size[0] * image.size[1]
        if pixels > MOST_PIXELS:
            raise ValueError(f"{pixels:,} pixels, more than the {MOST_PIXELS:,} that are read")
        with _in_flight.room_for(pixels):
            yield image


@functools.cache
def _formats() -> list[str]:
    """Returns the FORMATS that this Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def is_image(content: bytes) -> bool:
    """Returns whether this is an image file of a known format, by its beginning."""
    try:
        with Image.open(io.BytesIO(content), formats=_formats()):
            return True
    except Exception:  # as in `damage`
        return False


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with _admitted(path) as image:
            yield image
    except Exception as error:  # as in `damage`
        raise DataError(
            f"{path}: not an image that can be read ({_reason(error)}); replace it, or leave it out"
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
