"""Draws ten colour pictures, one for each class of CIFAR-10, that no data set contains.

    python docs/examples/drawings.py FOLDER

writes FOLDER/airplane.png to FOLDER/truck.png, 128 x 128 pixels, the same each time. They were drawn by eye, without
looking at any prediction: what a network says about them is an honest test outside the data it learned from.

Coordinates are pixels of the finished picture, x to the right and y down; it is drawn four times as large. A shape is a
text or an array: "x,y x,y ..." is a smooth closed curve, "x,y,width ..." a curved limb, and an array an exact outline.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageEnhance, ImageFilter

SIDE, SCALE = 128, 4
FULL = SIDE * SCALE
TO_LIGHT = (-0.55, -0.95)  # the sun stands at the upper left

Shape = str | np.ndarray


def points(text: str) -> np.ndarray:
    return np.array([knot.split(",") for knot in text.split()], float)


def outline(shape: Shape) -> np.ndarray:
    """The points around a shape; curves are Catmull-Rom splines."""
    if isinstance(shape, np.ndarray):
        return shape
    knots = points(shape)
    is_limb = knots.shape[1] == 3
    around = np.vstack([knots[:1], knots, knots[-1:]] if is_limb else [knots[-1:], knots, knots[:2]])
    a, b, c, d = (around[i : len(around) - 3 + i, None] for i in range(4))
    t = np.arange(0, 1, 0.125)[:, None]
    smooth = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2)
    line = np.vstack([smooth.reshape(-1, knots.shape[1]), knots[-1:] if is_limb else knots[:1]])
    if not is_limb:
        return line
    along = np.gradient(line[:, :2], axis=0)
    across = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True) * line[:, 2:] / 2
    return np.vstack([line[:, :2] + across, (line[:, :2] - across)[::-1]])


def oval(x: float, y: float, width: float, height: float, degrees: float = 0) -> np.ndarray:
    """The outline of an ellipse with these diameters, turned clockwise."""
    turn, angle = np.radians(degrees), np.linspace(0, 2 * np.pi, 48)
    u, v = np.cos(angle) * width / 2, np.sin(angle) * height / 2
    return np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def pairs(*shapes: Shape) -> list[np.ndarray]:
    """Shapes and their mirror images about the middle of the picture."""
    return [outline(shape) * sign + shift for shape in shapes for sign, shift in (((1, 1), 0), ((-1, 1), (SIDE, 0)))]


class Picture:
    """A canvas, and the random numbers of its texture."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.image = Image.new("RGB", (FULL, FULL))
        self.fine = self.noise(48, 48, 3)

    def noise(self, across: int, down: int, octaves: int = 4) -> np.ndarray:
        """Smooth noise of about -0.5 to 0.5 whose coarsest blobs number `across` by `down`."""
        total = np.zeros((FULL, FULL), np.float32)
        for scale in 2 ** np.arange(octaves):
            cells = self.rng.random((down * scale, across * scale), np.float32) - 0.5
            total += np.asarray(Image.fromarray(cells).resize((FULL, FULL), Image.Resampling.BICUBIC)) / scale
        return total

    def mask(self, *shapes: Shape) -> Image.Image:
        mask = Image.new("L", (FULL, FULL))
        for shape in shapes:
            ImageDraw.Draw(mask).polygon((outline(shape) * SCALE).ravel().tolist(), fill=255)
        return mask

    def paint(self, colour: str, *shapes: Shape, bulge=0.0, soft=0.0, grain=0.0, drop=0.0, inside: Shape = "") -> None:
        """Fill shapes as one body with `colour`, whose alpha, if any, lets the ground through.

        Its edges curve over `bulge` pixels (below 0: hollow) and take light and shadow, or fade over `soft` pixels.
        `drop` is how far its shadow falls, `grain` the strength of its texture, and `inside` bounds what is painted.
        """
        if drop:
            self.paint("#0006", *(np.add(outline(shape), (drop / 3, drop)) for shape in shapes), soft=drop * 0.8)
        mask = self.mask(*shapes).filter(ImageFilter.GaussianBlur(soft * SCALE))
        mask = ImageChops.multiply(mask, self.mask(inside)) if len(inside) else mask
        bounds = mask.getbbox() or (0, 0, 1, 1)
        light = 1 + grain * self.fine[bounds[1] : bounds[3], bounds[0] : bounds[2]]
        if bulge:
            height = mask.filter(ImageFilter.GaussianBlur(abs(bulge) * SCALE)).crop(bounds)
            down, across = np.gradient(np.asarray(height, np.float32) / 255)
            light -= bulge * SCALE * (across * TO_LIGHT[0] + down * TO_LIGHT[1])
        *rgb, alpha = ImageColor.getcolor(colour, "RGBA")
        filled = Image.fromarray((light[..., None] * rgb).clip(0, 255).astype(np.uint8))
        self.image.paste(filled, bounds[:2], mask.crop(bounds).point(lambda value: value * alpha // 255))

    def hair(self, *shapes: Shape, count: int, length: float, away: tuple[float, float], contrast=0.09) -> None:
        """Hairs or blades: strokes in the colour below their roots, lighter or darker, that point away from a point."""
        mask, pixels, draw = self.mask(*shapes), np.asarray(self.image), ImageDraw.Draw(self.image)
        bounds = mask.getbbox() or (0, 0, 1, 1)
        roots = self.rng.integers(bounds[:2], bounds[2:], (count, 2))
        roots = roots[np.asarray(mask)[roots[:, 1], roots[:, 0]] > 0]
        angles = np.arctan2(*(roots - np.multiply(away, SCALE)).T[::-1]) + self.rng.normal(0, 0.3, len(roots))
        tips = roots + length * SCALE * np.stack([np.cos(angles), np.sin(angles)], 1)
        colours = pixels[roots[:, 1], roots[:, 0]] * self.rng.normal(1, contrast, (len(roots), 1))
        for root, tip, colour in zip(roots, tips, colours.clip(0, 255).astype(int).tolist(), strict=True):
            draw.line([*root, *tip], fill=tuple(colour), width=2)

    def blur(self, radius: float) -> None:
        self.image = self.image.filter(ImageFilter.GaussianBlur(radius * SCALE))

    def backdrop(self, top: str, bottom: str, horizon: float = SIDE, clouds: str = "") -> None:
        """A vertical gradient down to the horizon, with clouds of a colour."""
        share = np.clip(np.arange(FULL) / SCALE / horizon, 0, 1)[:, None, None]
        rows = (1 - share) * ImageColor.getrgb(top) + share * ImageColor.getrgb(bottom)
        self.image = Image.fromarray(np.repeat(rows, FULL, 1).astype(np.uint8))
        if clouds:
            amount = np.clip(self.noise(3, 6, 5) * 2.2, 0, 0.9) * 255
            self.image.paste(clouds, (0, 0, FULL, FULL), Image.fromarray(amount.astype(np.uint8)))

    def ground(self, top: float, colour: str, strength: float, across: int, down: int) -> None:
        """Everything below `top`, mottled by noise."""
        self.paint(colour, box(0, top, SIDE, SIDE), soft=0.6)
        light = 1 + strength * self.noise(across, down)[..., None]
        mottled = Image.fromarray((self.image * light).clip(0, 255).astype(np.uint8))
        self.image.paste(mottled, mask=self.mask(box(0, top, SIDE, SIDE)))

    def grass(self, top: float, colour: str) -> None:
        self.ground(top, colour, 0.5, 6, 14)
        self.hair(box(0, top, SIDE, SIDE), count=6000, length=4, away=(64, 600), contrast=0.16)

    def meadow(self, top: float) -> None:
        """Clouds, distant trees, and grass below `top`."""
        self.backdrop("#8eb2d0", "#d6dedc", 64, clouds="#f4f4f2")
        self.paint("#687c60", "-10,66 20,54 50,60 90,52 140,60 140,100 -10,100", grain=0.8)
        self.blur(1.8)
        self.grass(top, "#708a48")

    def foliage(self, colour: str, count: int, bottom: float) -> None:
        """Soft leaves above `bottom`."""
        for x, y, size in self.rng.uniform((0, -6, 14), (SIDE, bottom, 40), (count, 3)):
            self.paint(colour, oval(x, y, size, size * 0.8), soft=3.5, grain=0.8)

    def road(self, top: float) -> None:
        self.ground(top, "#666668", 0.25, 20, 60)
        self.paint("#cecabecc", box(0, 120, SIDE, 122), soft=0.4)

    def wheels(self, y: float, *centres: float) -> None:
        self.paint("#161415", *(oval(x, y - 1, 22.5, 22.5) for x in centres))
        self.paint("#1e1e20", *(oval(x, y, 19, 19) for x in centres), bulge=1.5)
        self.paint("#96989b", *(oval(x, y, 12, 12) for x in centres), bulge=2)
        self.paint("#46484c", *(oval(x, y, 9.5, 1.2, turn) for x in centres for turn in range(0, 180, 36)))

    def eyes(self, y: float, *centres: float, size: float, iris: str, pupil: float) -> None:
        """Round eyes; `pupil` is the pupil's share of the width."""
        self.paint("#1c1614", *(oval(x, y, size * 1.2, size * 1.1) for x in centres))
        self.paint(iris, *(oval(x, y, size, size * 0.95) for x in centres), bulge=-1.5)
        self.paint("#0c0b0c", *(oval(x, y, size * pupil, size * 0.8) for x in centres))
        self.paint("#f5f5f0", *(oval(x - size * 0.15, y - size * 0.22, size * 0.2, size * 0.2) for x in centres))

    def finished(self) -> Image.Image:
        """The picture in its final size, in the muted colours and with the grain of a photograph."""
        small = self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        grainy = ImageEnhance.Color(small).enhance(0.86) + self.rng.normal(0, 2.5, (SIDE, SIDE, 3))
        return Image.fromarray(grainy.clip(0, 255).astype(np.uint8))


def airplane(pic: Picture) -> None:
    """An airliner from the side, in a blue sky."""
    pic.backdrop("#5484b8", "#bad0e0", clouds="#f0f3f6")
    pic.blur(1)
    pic.paint("#969ca6", points("50,58 65,57 88,36 82,35"), points("101,54 111,53 121,45 116,45"), bulge=1)
    pic.paint("#24427a", points("94,55 111,27 120,26 117,53"), bulge=1.5)
    hull = "5,66 10,61 22,57 60,55 95,53 121,50 122,52 104,61 80,68 30,71 12,70"
    pic.paint("#e2e5e8", hull, bulge=4)
    pic.paint("#0005", "8,71,5 60,70,5 110,60,5", soft=2, inside=hull)
    pic.paint("#24427a", "6,65.8,0.6 60,63.2,1.4 112,57.5,0.8", inside=hull)
    pic.paint("#343c4a", "10,63 13,61 15,62 12,64", *(oval(x, 62.7 - x / 20, 1.7, 2) for x in np.arange(21, 100, 3.3)))
    pic.paint("#787e8a", "50,76 52,73 66,73 69,76 66,79.5 52,79.5", bulge=2)
    pic.paint("#2c2e34", oval(51.5, 76.2, 3, 6))
    pic.paint("#bcc1c9", points("44,67.5 66,66 103,95 96,96.5 60,72"), points("101,57 112,55 125,63 119,64"), bulge=1.3)


def automobile(pic: Picture) -> None:
    """A red saloon car from the side, in a street."""
    pic.backdrop("#b2c4d4", "#d6dcde", 60)
    for left, right, top, colour in (0, 34, 12, "#968070"), (34, 64, 22, "#aca496"), (94, 128, 6, "#8a786e"):
        pic.paint(colour, box(left, top, right, 86), grain=0.15)
        rooms = [(x, y) for x in range(left + 4, right - 5, 9) for y in range(top + 5, 66, 14)]
        pic.paint("#4e545c", *(box(x, y, x + 5, y + 8) for x, y in rooms))
    pic.paint("#4c623c", oval(75, 38, 36, 36), oval(90, 48, 24, 24), oval(62, 50, 22, 22), bulge=6, soft=1, grain=0.8)
    pic.blur(1.6)
    pic.road(84)
    pic.paint("#000c", oval(63, 101, 118, 9), soft=2)
    body = "4,87 5,79 14,75 37,70 51,58 61,53.5 77,53 90,57 102,68.5 117,70.5 123,76 124,85 121,93 112,96 18,96 7,93.5"
    glass = "41,70.5 53,60 61,56.5 77,56 87,59 97,68.5 96,70.5"
    pic.paint("#9c2424", body, bulge=4)
    pic.paint("#0007", box(0, 88, SIDE, 99), soft=3, inside=body)
    pic.paint("#d66e68c0", "8,78,0.5 50,75,1.5 118,74.5,0.5", soft=0.6)
    pic.paint("#36424e", glass, bulge=-1.5)
    pic.paint("#96aaba80", points("46,72 58,54 66,54 54,72"), inside=glass)
    pic.paint("#8c2020", "71,55,2 72,71,2", "43,69 48,67 50,71 44,72", "117,74 122.5,76 122.5,82 117,80", bulge=0.5)
    pic.paint("#421416", "44,71,0.6 46,88,0.6", "72,71,0.6 72,95,0.6", "97,70,0.6 95,82,0.6", box(4, 90, 16, 93))
    pic.paint("#eeeada", "6,80 15,77.5 17,80 7,83", "63,77.5,1 68,77.5,1", "88,77.5,1 93,77.5,1", bulge=1)
    pic.wheels(94, 29, 98)


def bird(pic: Picture) -> None:
    """A robin from the side, on a branch."""
    pic.backdrop("#96ac96", "#607c54")
    pic.foliage("#80966059", 22, SIDE)
    pic.blur(3)
    pic.paint("#624e3c", "-4,106,9 40,101,8 90,104,7 132,96,6", "88,104,5 108,112,3 120,122,2", bulge=2.5, grain=0.6)
    pic.paint("#5c4e40", "88,78,15 104,94,11 116,108,9", bulge=2, grain=0.2)
    body = "26,34 36,22 50,20 61,30 72,46 92,68 98,82 86,92 62,96 42,88 29,70 27,52"
    pic.paint("#706250", body, bulge=7)
    pic.paint("#e2dcce", oval(60, 88, 50, 24, 8), soft=4, inside=body)
    pic.paint("#c4622e", oval(34, 56, 34, 54, -14), soft=3, inside=body)
    pic.paint("#0006", "44,97,6 70,99,8 96,88,5", soft=4, inside=body)
    pic.hair(body, count=5000, length=3, away=(10, 20))
    pic.paint("#645444", "52,50 66,48 84,62 102,86 104,92 86,88 64,78 54,66", bulge=4, grain=0.2, drop=2)
    feathers = [f"{62 + 2 * n},{58 + 4 * n},0.7 82,{70 + 3 * n},0.7 {102 - 4 * n},{90 - 2 * n},0.7" for n in range(5)]
    pic.paint("#96846e", *feathers, drop=0.8)
    pic.paint("#3a3430", "28,33 27,39 15,38.5 14,37", bulge=1.2)
    pic.eyes(34, 38, size=5.5, iris="#281a14", pupil=0.7)
    pic.paint("#684834", *(f"{x},92,1.6 {x - 2},101,1.6 {x + end},103,2" for x in (56, 68) for end in (-7, -2, 3)))


def cat(pic: Picture) -> None:
    """A grey tabby from the front, in a room."""
    pic.backdrop("#b09e8a", "#a08c78")
    pic.paint("#cec8bc", box(84, 0, 118, 58))
    pic.paint("#7e5840", box(-5, 30, 20, 84), box(0, 84, SIDE, SIDE), grain=0.3)
    pic.blur(2.5)
    grey, stripe, pale = "#8e8274", "#4a4038", "#e0d8cc"
    chest = "40,76 88,76 104,100 112,132 64,136 16,132 24,100"
    pic.paint(grey, chest, bulge=9, drop=5)
    pic.paint(stripe, *pairs("107,98,4 94,101,3 85,98,1", "110,108,4 97,111,3 88,108,1", "113,118,4 99,121,2"), soft=1)
    pic.paint(pale, oval(64, 110, 36, 56), soft=4)
    pic.hair(chest, count=5000, length=5, away=(64, 40))
    pic.paint("#0008", oval(64, 88, 62, 18), soft=4, inside=chest)
    face = "64,20 84,24 100,40 106,58 98,76 80,88 64,91 48,88 30,76 22,58 28,40 44,24"
    head, inner_ears = [face, *pairs(points("77,30 94,5 98,7 104,46"))], pairs(points("84,27 94,11 100,38"))
    pic.paint(grey, *head, bulge=6)
    pic.paint("#be9488", *inner_ears, soft=1.2)
    pic.hair(*inner_ears, count=900, length=4, away=(64, 90))
    pic.paint(stripe, *pairs("67,38,1.5 68,21,3.4", "73,36,1.5 75,22,3.4", "79,34,1.5 83,25,3.4"), soft=0.8)
    pic.paint(stripe, *pairs(*(f"92,{y},1 100,{y + 2},3 106,{y},2" for y in (54, 63, 72))), soft=0.8, inside=face)
    pic.paint(pale, *pairs(oval(72, 76, 21, 17)), oval(64, 84, 18, 11), soft=2)
    pic.paint(grey, "64,36,10 64,56,11 64,66,9", soft=2.5)
    pic.hair(*head, count=7000, length=3.4, away=(64, 62))
    pic.eyes(54, 46.5, 81.5, size=13, iris="#a0a45a", pupil=0.34)
    pic.paint("#bc766e", "58,67 70,67 65.5,73 62.5,73", bulge=1.5)
    pic.paint("#463430", "64,73,1 64,77,1", *pairs("64,77,1 69,80.5,1 74,79,0.8"))
    pic.paint("#f0eee8", *pairs(*(f"76,{y},0.5 98,{2 * y - 78},0.5 120,{3.5 * y - 193},0.3" for y in (74, 77, 80))))


def deer(pic: Picture) -> None:
    """A stag from the side, in a forest."""
    pic.backdrop("#b0bca8", "#969e80", 90)
    for x, width in pic.rng.uniform((0, 2), (SIDE, 8), (16, 2)):
        pic.paint("#70675a", f"{x},-4,{width * 0.8} {x + 1},50,{width} {x},98,{width * 1.3}", bulge=1.5, grain=0.8)
    pic.foliage("#546a42b0", 16, 20)
    pic.blur(1.8)
    pic.grass(94, "#747246")
    pic.paint("#0009", oval(70, 117, 70, 8), soft=3)
    pic.paint("#684a32", "53,70,10 55,92,4.5 54,117,3.6", "82,66,16 84,86,6 82,96,4.5 83,116,3.6", bulge=2)
    beams = ["36,31,4 45,22,4 47,12,3.4 40,4,1.5", "34,31,4 25,23,4 21,13,3.4 25,4,1.5"]
    tines = ["41,27,3.4 34,18,1.5", "47,16,3.4 56,9,1.5", "28,27,3.4 18,25,1.5", "22,17,3.4 12,11,1.5"]
    pic.paint("#b8a27c", *beams, *tines, bulge=1)
    body = "38,66 42,54 52,49 70,51 88,48 98,54 100,66 94,74 78,76 60,79 46,80"
    neck, head = "50,66,28 42,50,18 37,35,11", "38,33,9 32,35,11.5 24,40,7.5 17,43,5.5"
    legs = ["46,72,13 46,92,5.5 45,119,4", "91,62,22 96,82,8 94,92,5.5 96,119,4"]
    pic.paint("#96683f", body, neck, head, *legs, "38,32 44,26 54,25 49,32 41,35", bulge=5)
    pic.paint("#d4c0a0", "46,81,5 66,79,5 84,75,4", oval(99, 60, 8, 13, -10), "33,44,3 40,54,4", soft=1.7, inside=body)
    pic.hair(body, neck, count=4000, length=3, away=(20, 20))
    pic.paint("#7a5438", "98,52 103,57 103,66 99,62", "42,32 46,28 52,26.5 48,31", bulge=0.8)
    pic.paint("#201a18", oval(16, 42.5, 4, 4.6), oval(31, 34.5, 2.8, 2.6), "45,115,4 44,120,5", "96,115,4 95,120,5")
    pic.hair(box(0, 117, SIDE, 121), count=500, length=7, away=(64, 600), contrast=0.2)


def dog(pic: Picture) -> None:
    """A brown and white hound from the front, in a garden."""
    pic.backdrop("#8c9e80", "#68884a")
    pic.foliage("#52704680", 16, 50)
    pic.blur(2.5)
    tan, brown, white = "#a86f40", "#6e4428", "#e4ded2"
    chest = "40,74 86,70 108,92 118,132 64,136 22,132 30,100"
    pic.paint(tan, chest, bulge=9)
    pic.paint(white, "46,80 72,84 84,104 84,134 36,134 36,104", soft=4)
    pic.hair(chest, count=4500, length=5, away=(64, 30))
    pic.paint("#9e2a2a", "36,84,6 60,95,6.5 92,82,6", bulge=2)
    pic.paint("#0007", oval(60, 88, 56, 16), soft=5, inside=chest)
    head = "38,22 54,12 74,13 90,24 96,44 90,64 76,76 54,80 38,70 30,48"
    pic.paint(tan, head, bulge=7)
    pic.paint(white, "52,12 60,12 60,40 70,58 68,74 40,74 38,58 50,40", soft=2, inside=head)
    pic.hair(head, count=5000, length=3, away=(56, 50))
    pic.paint("#c45c60", "47,84 60,83 61,95 55,100 48,96", bulge=2.5)
    muzzle = "38,58 46,51 62,51 71,58 74,72 66,85 52,89 39,84 33,71"
    pic.paint(white, muzzle, bulge=5, drop=2)
    pic.hair(muzzle, count=1800, length=2.5, away=(53, 62), contrast=0.06)
    pic.paint("#221c1c", "43,58 52,55 62,57 61,65 53,69 45,66", bulge=3)
    pic.paint("#3c2c2a", "53,69,1 53,77,1", "37,78,0.8 45,82.5,1 53,77,1", "53,77,1 62,82.5,1 70,76,0.8")
    pic.paint(brown + "99", oval(43, 42, 13, 11), oval(72, 42, 13, 11), soft=2)
    pic.eyes(42, 43, 72, size=7.6, iris="#5c381e", pupil=0.6)
    for ear in "40,20 30,22 18,40 13,66 20,80 30,76 34,56 40,38", "84,18 98,22 110,42 115,68 108,84 97,80 92,58 86,40":
        pic.paint(brown, ear, bulge=5, drop=3)
        pic.hair(ear, count=1600, length=4, away=(64, 0))


def frog(pic: Picture) -> None:
    """A green frog at three quarters, on a leaf in a pond."""
    pic.ground(-2, "#384e46", 0.7, 3, 12)
    pic.paint("#527442", oval(14, 22, 44, 15), oval(112, 14, 52, 18), oval(70, 8, 30, 10), bulge=2, grain=0.3)
    pic.blur(2)
    leaf = oval(64, 101, 134, 44)
    pic.paint("#74924c", leaf, bulge=3, grain=0.3, drop=5)
    pic.paint("#8ea862", *(f"64,100,1 {x},{y},0.4" for y in (80, 122) for x in range(0, 136, 18)), inside=leaf)
    pic.paint("#000a", oval(68, 103, 100, 16), soft=3)
    body = "20,64 26,53 42,43 60,39 80,45 98,58 111,78 110,94 86,101 48,99 29,87 20,74"
    pic.paint("#5f7d3a", body, bulge=8, grain=0.35)
    pic.paint("#d0d09e", "22,73 42,76 66,74 78,84 74,100 48,100 28,90", soft=3, inside=body)
    hind_leg = [oval(98, 87, 38, 27, -24), "104,101,9 94,104,5 84,106,4"]
    left_leg, right_leg = "41,77,4 38,83,14 29,94,9 33,105,6", "67,77,4 69,83,15 72,95,10 64,106,6"
    for x, y, *leg in (84, 104, *hind_leg), (33, 104, left_leg), (64, 105, right_leg):
        toes = [f"{x},{y},4 {x + right},{y + down},2.6" for right, down in ((-11, 3), (-5, 7), (3, 8))]
        pic.paint("#66863f", *leg, *toes, bulge=3, grain=0.2, drop=2.5)
    pic.paint("#2e4420", "21,67,0.8 34,71.5,1.3 50,72,1.3 64,69,1.3 74,63,0.6", oval(27, 61, 2, 1), oval(36, 60, 2, 1))
    pic.paint("#638339", oval(35, 46, 17, 17), oval(62, 45, 19, 19), bulge=3)
    pic.eyes(46, 34, 61, size=10, iris="#b8924a", pupil=0.55)
    pic.paint("#dee8be90", oval(82, 51, 14, 3, 28), oval(98, 78, 12, 3, -20), soft=1.5)


def horse(pic: Picture) -> None:
    """A bay horse from the side, on a meadow."""
    pic.meadow(68)
    pic.paint("#0009", oval(62, 117, 84, 9), soft=3)
    pic.paint("#54341f", "76,74,13 78,92,7.5 76,104,5.5 76,118,5.5", "36,70,20 39,86,9 36,96,7 40,118,5.5", bulge=2.5)
    tail, mane = "24,50,5 13,58,9 10,78,11 14,98,4", "98,14,3 87,26,7 78,38,8 72,46,3"
    body = "22,56 27,46 40,42 56,45 73,42 88,49 94,63 87,77 68,80 50,78 32,78 23,68"
    neck, head = "76,62,36 90,42,23 100,26,14", "97,22,12 104,28,17 113,40,11.5 119,48,9.5 121,51,4"
    legs = ["83,68,19 87,90,8.5 86,104,6 88,120,6.5", "32,60,28 29,78,15 22.5,91,8.5 27,104,6 28,120,6.5"]
    pic.paint("#804c2c", body, neck, head, *legs, points("96,20 97,8 102,19"), points("101,20 104,9 106,21"), bulge=6)
    pic.paint("#0007", "34,81,6 56,81,8 80,79,6", soft=3, inside=body)
    pic.paint("#2a201e", "86,99,6.6 86,107,6 88,120,6.5", "25,97,7 27,106,6 28,120,6.5", bulge=2, soft=0.8)
    pic.hair(body, neck, count=3500, length=2.5, away=(110, 30), contrast=0.06)
    pic.paint("#2a201e", tail, mane, bulge=2.5)
    pic.hair(tail, mane, count=9000, length=8, away=(66, -10), contrast=0.35)
    pic.paint("#e2dace", "108,25,2.2 117,38,2", soft=0.6, inside=head)
    pic.paint("#241a18", oval(105, 28, 3.4, 3), oval(119, 49, 9, 8, 50), soft=0.5, inside=head)
    pic.hair(box(0, 117, SIDE, 121), count=500, length=7, away=(64, 600), contrast=0.2)


def ship(pic: Picture) -> None:
    """A steamer from the side, at sea."""
    pic.backdrop("#84a4c0", "#d8dcda", 76, clouds="#f2f0ec")
    pic.ground(77, "#4c6e82", 0.5, 5, 60)
    pic.blur(0.8)
    pic.paint("#0008", "12,92 120,92 112,108 24,106", soft=3)
    pic.paint("#544e46", "24,34,0.9 24,72,0.9", "24,36,0.5 8,67,0.5", "24,36,0.5 44,58,0.5", "104,42,0.9 104,72,0.9")
    for x in 62, 78:
        pic.paint("#b0422e", box(x, 30, x + 9, 55), bulge=3)
        pic.paint("#282628", box(x, 30, x + 9, 35), bulge=2)
    pic.paint("#6e6e7066", "67,29,4 80,20,8 100,14,12 130,10,16", soft=4)
    for left, top, right in (36, 46, 50), (34, 53, 96), (30, 60, 102), (26, 67, 108):
        pic.paint("#e2e2dc", box(left, top, right, top + 7), bulge=1)
        pic.paint("#404e5c", *(box(x, top + 2, x + 2, top + 4.4) for x in np.arange(left + 2, right - 2, 3.6)))
    hull = points("4,67 22,70 42,72 64,73 85,72.5 104,71 121,69 116,94 16,94")
    pic.paint("#2c3648", hull, bulge=4)
    pic.paint("#8e342a", box(0, 88, SIDE, 96), inside=hull)
    pic.paint("#e2e2dc", "4,67.5,1 22,70.5,1 64,73.5,1 121,69.5,1", *(oval(x, 79, 2, 2) for x in range(18, 112, 5)))
    pic.paint("#dee6e6d8", "2,95 12,90 24,93 60,92.5 110,92 126,94 100,97 40,97", soft=1.2, grain=0.6)
    crests = pic.rng.uniform((0, 98, 8), (SIDE, 127, 26), (46, 3))
    pic.paint("#809ea899", *(oval(x, y, width, 1.2) for x, y, width in crests), soft=0.4)


def truck(pic: Picture) -> None:
    """A lorry with a box body, on a country road."""
    pic.meadow(76)
    pic.road(88)
    pic.paint("#000c", oval(64, 109, 120, 10), soft=2)
    pic.paint("#323236", box(14, 92, 120, 100))
    cargo, cab = box(41, 22, 122, 93), "7,96 6,74 8,64 14,44 18,39 38,38 39,50 39,96"
    pic.paint("#dedcd4", cargo, bulge=1.5)
    pic.paint("#0004", box(38, 72, 124, 98), soft=8, inside=cargo)
    pic.paint("#b2b0aa", *(box(x, 24, x + 0.6, 92) for x in range(51, 120, 10)), box(41, 22, 122, 23.5))
    pic.paint("#3c6082", box(41, 62, 122, 70))
    pic.paint("#a83228", cab, bulge=3)
    pic.paint("#0005", box(0, 84, 42, 100), soft=3, inside=cab)
    pic.paint("#3a4854", points("20,46 33,46 33,64 14.5,64"), points("9.5,63 15,45 17,45 12,63"), bulge=-1)
    pic.paint("#96aab880", points("20,63 26,47 30,47 24,63"))
    pic.paint("#2e2022", "17,42,0.6 12,66,0.6 13,88,0.6", box(35, 42, 35.5, 90), box(8, 52, 10, 61), box(5, 89, 15, 97))
    pic.paint("#f0ead2", oval(9, 84, 4, 6), "29,70,1 33,70,1", bulge=1)
    pic.wheels(101, 26, 88, 108)


PICTURES = {f.__name__: f for f in (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one picture for each class of CIFAR-10.")
    parser.add_argument("folder", type=Path, help="where to write CLASS.png; made if missing")
    folder = parser.parse_args().folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot write into {folder}: {error.strerror}")
    for seed, (name, draw) in enumerate(PICTURES.items()):
        picture = Picture(seed)
        draw(picture)
        picture.finished().save(folder / f"{name}.png")
    print(f"wrote {len(PICTURES)} pictures into {folder}")


if __name__ == "__main__":
    main()
