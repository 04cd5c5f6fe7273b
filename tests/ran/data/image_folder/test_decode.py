"""One image file as a square: against a literal filter and torchvision, of every kind, damaged, and cropped."""

import errno

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from torchvision.transforms import functional as reference

from ran.data.image_folder import decode
from records.errors import DataError

BILINEAR = reference.InterpolationMode.BILINEAR


def picture(width, height, seed=0, mode="RGB"):
    rng = np.random.default_rng(seed)
    channels = {"RGB": (3,), "L": (), "CMYK": (4,), "RGBA": (4,), "LA": (2,)}[mode]
    return Image.fromarray(rng.integers(0, 256, (height, width, *channels), dtype=np.uint8), mode)


def resampled(pixels, box, side):
    """Rows of the triangle filter's weighted means over `box` (first, last) of the first axis, as wide as the step."""
    step = (box[1] - box[0]) / side
    reach = max(step, 1.0)
    out = []
    for i in range(side):
        middle = box[0] + (i + 0.5) * step
        weights = np.array([max(0.0, 1 - abs(x + 0.5 - middle) / reach) for x in range(len(pixels))])
        out.append(np.tensordot(weights / weights.sum(), pixels, 1))
    return np.stack(out)


# The centre
@pytest.mark.parametrize("share", [1.0, 0.875, 7 / 9])
@pytest.mark.parametrize(("width", "height"), [(32, 32), (37, 53), (91, 40), (12, 20), (9, 9), (200, 33), (1, 5)])
def test_the_centre_is_the_literal_filter(width, height, share, tmp_path):
    picture(width, height).save(tmp_path / "x.png")
    kept = min(width, height) * share
    pixels = np.asarray(picture(width, height)).astype(float)  # (H, W, 3)
    rows, cols = (((side - kept) / 2, (side + kept) / 2) for side in (height, width))
    once = resampled(pixels.transpose(1, 0, 2), cols, 24)
    expected = resampled(once.transpose(1, 0, 2), rows, 24)
    found = decode.centre(str(tmp_path / "x.png"), 24, share)
    assert found.shape == (24, 24, 3)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1.01  # rounded after each direction


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(("size", "scaled", "crop"), [(512, 256, 224), (384, 384, 336), (128, 256, 224)])
def test_a_test_image_is_torchvisions_resize_and_centre_crop(size, scaled, crop, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    picture(size, size).save(path)
    with Image.open(path) as image:
        expected = reference.center_crop(reference.resize(image, scaled, BILINEAR), crop)
    assert np.array_equal(decode.centre(str(path), crop, crop / scaled), np.asarray(expected))


# A crop
@pytest.mark.parametrize("box", [(0, 0, 60, 40), (10, 5, 30, 25), (3, 0, 20, 40)])
def test_a_crop_is_torchvisions(box, tmp_path):
    picture(60, 40).save(tmp_path / "x.png")
    left, top, right, bottom = box
    area = (top, left, bottom - top, right - left)
    whole = reference.crop(picture(60, 40), *area)
    found = decode.crop(str(tmp_path / "x.png"), 16, lambda width, height: box if (width, height) == (60, 40) else None)
    expected = np.asarray(reference.resize(whole, [16, 16], BILINEAR))
    # Pillow sees the pixels beside the box, where torchvision cut it out before.
    assert np.abs(found.astype(int) - expected)[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("box", "factor"), [
    ((0, 0, 800, 600), 4), ((100, 60, 356, 188), 1), ((100, 60, 228, 316), 1),
    ((100, 60, 356, 316), 2), ((0, 0, 127, 127), 1),
])  # fmt: skip
def test_a_large_crop_is_decoded_at_a_fraction_and_is_nearly_the_same(box, factor, mode, tmp_path, monkeypatch):
    x, y = np.meshgrid(np.arange(800), np.arange(600))
    waves = (127 + 100 * np.sin(x / 40) * np.cos(y / 30)).astype(np.uint8)
    path = tmp_path / "x.jpg"
    Image.merge(mode, [Image.fromarray(waves)] * len(Image.new(mode, (1, 1)).getbands())).save(path, quality=95)
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *args: sizes.append(self.size) or resize(self, *args))
    found = decode.crop(str(path), 128, lambda width, height: box)
    assert sizes == [(800 // factor, 600 // factor)]
    monkeypatch.setattr(JpegImageFile, "draft", lambda *args: None)
    exact = decode.crop(str(path), 128, lambda width, height: box)
    assert sizes[1] == (800, 600)
    assert np.abs(found.astype(int) - exact).mean() < 1.5


def test_a_test_image_is_never_decoded_at_a_fraction(tmp_path, monkeypatch):
    picture(400, 400).save(tmp_path / "x.jpg")
    monkeypatch.setattr(JpegImageFile, "draft", None)
    decode.centre(str(tmp_path / "x.jpg"), 16, 0.875)


# Kinds of image
@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "LA", "P", "1"])
def test_every_kind_of_colour_becomes_rgb(mode, tmp_path):
    made = picture(40, 30, mode=mode) if mode not in ("P", "1") else picture(40, 30).convert(mode)
    path = str(tmp_path / ("x.jpg" if mode == "CMYK" else "x.png"))
    made.save(path)
    with Image.open(path) as kept:
        assert kept.mode == mode
        kept.convert("RGB").save(tmp_path / "rgb.png")
    found, rgb = (decode.centre(name, 20, 1.0) for name in (path, str(tmp_path / "rgb.png")))
    assert np.array_equal(found, rgb)
    assert mode != "L" or np.array_equal(found[..., 0], found[..., 2])
    assert decode.crop(path, 20, lambda width, height: (5, 0, 35, 30)).shape == (20, 20, 3)
    assert decode.damage(path) is None


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_become_eight(suffix, tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(levels * 256 + 200).save(path)
    found = decode.centre(str(path), 16, 1.0)
    assert np.array_equal(found, np.repeat(levels[..., None], 3, 2))


# Damage
def damaged(tmp_path, suffix, how):
    path = tmp_path / f"x.{suffix}"
    picture(64, 64).save(path)
    path.write_bytes(how(path.read_bytes()))
    return str(path)


@pytest.mark.parametrize("how", [
    lambda b: b[: len(b) // 2], lambda b: b[: len(b) * 9 // 10], lambda b: b"", lambda b: b"no image", lambda b: b[9:],
], ids=["half", "nine tenths", "empty", "text", "beheaded"])  # fmt: skip
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_a_damaged_image_is_named_in_one_line(suffix, how, tmp_path):
    path = damaged(tmp_path, suffix, how)
    reason = decode.damage(path)
    assert reason
    assert "\n" not in reason
    for read in (lambda: decode.centre(path, 8, 1.0), lambda: decode.crop(path, 8, lambda w, h: (0, 0, w, h))):
        with pytest.raises(DataError, match="not an image that can be read") as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_damaged(tmp_path):
    assert "No such file" in decode.damage(str(tmp_path / "x.png"))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_what_passes_is_no_damage(error, tmp_path, monkeypatch):
    def fails(path, **options):
        raise error

    (tmp_path / "x.png").touch()
    monkeypatch.setattr(decode.Image, "open", fails)
    with pytest.raises(DataError, match=r"x\.png: cannot be read now"):
        decode.damage(str(tmp_path / "x.png"))


def test_sixteen_bits_with_a_transparent_value_are_no_white_picture(tmp_path):
    levels = np.full((4, 4), 128 << 8, np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png", transparency=1)
    for as_shown in (False, True):
        assert (decode.centre(str(tmp_path / "grey.png"), 4, 1.0, as_shown=as_shown) == 128).all()


def test_a_photograph_stands_upright_where_asked(tmp_path):
    """EXIF 6: to be turned a quarter to the right. Data sets are read as they are."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0] = 255  # the upper row is the right column of the upright image
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    assert decode.centre(str(tmp_path / "photo.png"), 4, 1.0)[:, :, 0].tolist() == pixels[:, :, 0].tolist()
    turned = decode.centre(str(tmp_path / "photo.png"), 4, 1.0, as_shown=True)
    assert turned[:, :, 0].tolist() == np.rot90(pixels, -1)[:, :, 0].tolist()


def test_pixels_of_an_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(DataError, match="floating-point pixels"):
        decode.centre(str(tmp_path / "float.tiff"), 4, 1.0)
    assert "floating-point pixels" in decode.damage(str(tmp_path / "float.tiff"))


def test_a_png_with_megabytes_of_text_is_sound(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    text.add_itxt("prompt", "y" * 2_000_000, zip=True)
    picture(20, 20).save(tmp_path / "x.png", pnginfo=text)
    assert decode.damage(str(tmp_path / "x.png")) is None
    assert decode.centre(str(tmp_path / "x.png"), 16, 1.0).shape == (16, 16, 3)
