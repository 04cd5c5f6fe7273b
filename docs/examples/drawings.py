"""Draws ten colour pictures, one for each class of CIFAR-10, as images that no data set contains.

    python docs/examples/drawings.py FOLDER

writes FOLDER/airplane.png to FOLDER/truck.png, 128 x 128 pixels each, the same on every call. The pictures were drawn
by eye, without looking at any prediction: whatever a network says about them is an honest test outside its data.

All coordinates are pixels of the finished picture, x to the right and y down. Everything is drawn four times as large.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE, SCALE = 128, 4
FULL = SIDE * SCALE
TO_LIGHT = (-0.5, -0.85)  # the sun stands at the upper left

Points = np.ndarray | Sequence[Sequence[float]]
Colour = tuple[int, int, int]


def noise(rng: np.random.Generator, across: int, down: int, octaves: int = 3) -> np.ndarray:
    """Smooth noise of about -0.5 to 0.5 whose coarsest blobs number `across` by `down`."""
    total = np.zeros((FULL, FULL), np.float32)
    for octave in range(octaves):
        cells = rng.random((down * 2**octave, across * 2**octave), np.float32) - 0.5
        total += np.asarray(Image.fromarray(cells).resize((FULL, FULL), Image.Resampling.BICUBIC)) / 2**octave
    return total


def curve(points: Points, closed: bool = True) -> np.ndarray:
    """A smooth Catmull-Rom curve through `points`, of any number of coordinates."""
    knots = np.asarray(points, float)
    knots = np.vstack([knots[-1:], knots, knots[:2]] if closed else [knots[:1], knots, knots[-1:]])
    a, b, c, d = (knots[i : len(knots) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, 9)[:, None]
    steps = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2)
    return steps.reshape(-1, knots.shape[1])


def limb(*knots: Sequence[float]) -> np.ndarray:
    """The outline of a curved, tapering limb through knots (x, y, width)."""
    line = curve(knots, closed=False)
    line = line[np.r_[True, np.abs(np.diff(line[:, :2], axis=0)).sum(1) > 1e-6]]
    along = np.gradient(line[:, :2], axis=0)
    across = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True) * line[:, 2:] / 2
    return np.vstack([line[:, :2] + across, (line[:, :2] - across)[::-1]])


def oval(x: float, y: float, width: float, height: float, degrees: float = 0) -> np.ndarray:
    """The outline of an ellipse with the given diameters, turned clockwise."""
    turn, angle = np.radians(degrees), np.linspace(0, 2 * np.pi, 48, endpoint=False)
    u, v = np.cos(angle) * width / 2, np.sin(angle) * height / 2
    return np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1)


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


class Picture:
    """A canvas, and the random numbers of its texture."""

    def __init__(self, seed: int, *stops: tuple[float, Colour]) -> None:
        """A vertical gradient through (y, colour)."""
        self.rng = np.random.default_rng(seed)
        heights, colours = zip(*stops, strict=True)
        rows = np.arange(FULL) / SCALE
        column = np.stack([np.interp(rows, heights, channel) for channel in zip(*colours, strict=True)], 1)
        self.image = Image.fromarray(np.repeat(column[:, None], FULL, 1).astype(np.uint8))
        self.fine = noise(self.rng, 48, 48)

    def mask(self, *outlines: Points) -> Image.Image:
        mask = Image.new("L", (FULL, FULL))
        for outline in outlines:
            ImageDraw.Draw(mask).polygon([(x * SCALE, y * SCALE) for x, y in outline], fill=255)
        return mask

    def paint(
        self,
        colour: Colour,
        *outlines: Points,
        bulge: float = 0,
        depth: float = 1,
        soft: float = 0,
        grain: float = 0,
        opacity: float = 1,
        inside: Sequence[Points] = (),
    ) -> None:
        """Fill outlines as one body. Its edges are round over `bulge` pixels: light towards the sun, dark away."""
        mask = self.mask(*outlines).filter(ImageFilter.GaussianBlur(soft * SCALE))
        if inside:
            mask = ImageChops.multiply(mask, self.mask(*inside))
        bounds = mask.getbbox()
        if bounds is None:
            return
        left, top, right, bottom = bounds
        light = 1 + grain * self.fine[top:bottom, left:right]
        if bulge:
            height = mask.filter(ImageFilter.GaussianBlur(bulge * SCALE)).crop(bounds)
            down, across = np.gradient(np.asarray(height, np.float32) / 255)
            light = light - depth * bulge * SCALE * (across * TO_LIGHT[0] + down * TO_LIGHT[1])
        filled = Image.fromarray((light[..., None] * colour).clip(0, 255).astype(np.uint8))
        self.image.paste(filled, bounds[:2], mask.crop(bounds).point(lambda value: int(value * opacity)))

    def shade(self, strength: float, *outlines: Points, soft: float = 3, inside: Sequence[Points] = ()) -> None:
        """A soft shadow."""
        self.paint((18, 20, 26), *outlines, soft=soft, opacity=strength, inside=inside)

    def lines(self, colour: Colour, width: float, *paths: Points) -> None:
        for path in paths:
            points = [(x * SCALE, y * SCALE) for x, y in path]
            ImageDraw.Draw(self.image).line(points, fill=colour, width=round(width * SCALE), joint="curve")

    def mottle(self, strength: float, across: int, down: int, *outlines: Points) -> None:
        """Lighten and darken what lies within outlines, or everything, by noise."""
        light = 1 + strength * noise(self.rng, across, down, 4)
        changed = Image.fromarray((np.asarray(self.image) * light[..., None]).clip(0, 255).astype(np.uint8))
        self.image.paste(changed, (0, 0), self.mask(*(outlines or [box(0, 0, SIDE, SIDE)])))

    def clouds(self, colour: Colour, top: float, bottom: float, cover: float = 0.5) -> None:
        """Soft clouds between two heights, where noise exceeds a level."""
        rows = np.linspace(0, SIDE, FULL)[:, None]
        fade = np.clip((rows - top) / 12, 0, 1) * np.clip((bottom - rows) / 12, 0, 1)
        amount = np.clip((noise(self.rng, 3, 6, 5) + cover - 0.5) * 2.2, 0, 0.9) * fade
        self.image.paste(colour, (0, 0), Image.fromarray((amount * 255).astype(np.uint8)))

    def hair(self, *outlines: Points, count: int, length: float, away: tuple[float, float], contrast: float) -> None:
        """Hairs, feathers or blades: strokes in the colour below their root, lighter or darker, that point `away`."""
        mask, pixels, draw = self.mask(*outlines), np.asarray(self.image), ImageDraw.Draw(self.image)
        left, top, right, bottom = mask.getbbox() or (0, 0, 1, 1)
        roots = self.rng.integers((left, top), (right, bottom), (count, 2))
        roots = roots[np.asarray(mask)[roots[:, 1], roots[:, 0]] > 0]
        turns, tones = self.rng.normal(0, 0.3, len(roots)), 1 + contrast * self.rng.normal(size=len(roots))
        for (x, y), turn, tone in zip(roots.tolist(), turns, tones, strict=True):
            angle = np.arctan2(y - away[1] * SCALE, x - away[0] * SCALE) + turn
            tip = (x + length * SCALE * np.cos(angle), y + length * SCALE * np.sin(angle))
            draw.line([(x, y), tip], fill=tuple((pixels[y, x] * tone).clip(0, 255).astype(int).tolist()), width=2)

    def blur(self, radius: float) -> None:
        self.image = self.image.filter(ImageFilter.GaussianBlur(radius * SCALE))

    def finished(self) -> Image.Image:
        """The picture in its final size, with the grain of a film."""
        small = np.asarray(self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32)
        return Image.fromarray((small + self.rng.normal(0, 2.5, small.shape)).clip(0, 255).astype(np.uint8))


def wheel(picture: Picture, x: float, y: float, size: float) -> None:
    picture.paint((30, 30, 32), oval(x, y, size, size), bulge=1.5, depth=0.8)
    picture.paint((150, 152, 155), oval(x, y, size * 0.62, size * 0.62), bulge=2)
    for degrees in range(0, 180, 36):
        picture.paint((70, 72, 76), oval(x, y, size * 0.5, size * 0.06, degrees))
    picture.paint((120, 122, 126), oval(x, y, size * 0.2, size * 0.2), bulge=1)


def eye(picture: Picture, x: float, y: float, size: float, iris: Colour, pupil: float) -> None:
    """A round eye; `pupil` is the width of the pupil as a share of the eye."""
    picture.paint((28, 22, 20), oval(x, y, size * 1.25, size * 1.15))
    picture.paint(iris, oval(x, y, size, size * 0.95), bulge=1.5, depth=-0.8)
    picture.paint((12, 11, 12), oval(x, y, size * pupil, size * 0.8))
    picture.paint((245, 245, 240), oval(x - size * 0.15, y - size * 0.22, size * 0.22, size * 0.22))


def airplane() -> Picture:
    """An airliner from the side, in a blue sky."""
    picture = Picture(1, (0, (84, 132, 184)), (128, (186, 208, 224)))
    picture.clouds((240, 243, 246), -12, 140, 0.5)
    picture.blur(1)
    white = (226, 229, 232)
    picture.paint((150, 156, 166), [(50, 58), (65, 57), (88, 36), (82, 35)], bulge=1)
    picture.paint((168, 172, 180), [(101, 54), (111, 53), (121, 45), (116, 45)], bulge=1)
    picture.paint((36, 66, 122), [(94, 55), (111, 27), (120, 26), (117, 53)], bulge=1.5, depth=0.6)
    hull = curve([(5, 66), (10, 61), (22, 57), (60, 55), (95, 53), (121, 50), (122, 52), (104, 61), (80, 68), (30, 71),
                  (12, 70)])  # fmt: skip
    picture.paint(white, hull, bulge=4, depth=0.9)
    picture.shade(0.35, [(8, 69), (60, 67), (110, 58), (100, 72), (10, 76)], soft=2, inside=[hull])
    picture.paint((36, 66, 122), limb((6, 65.8, 0.6), (60, 63.2, 1.4), (112, 55.5, 0.8)), inside=[hull])
    for x in np.arange(21, 100, 3.3):
        picture.paint((52, 60, 74), oval(x, 61.6 - (x - 21) * 0.05, 1.7, 2.1))
    picture.paint((40, 48, 60), [(9.5, 62.4), (14, 60.2), (15.5, 62.2), (10, 64)])
    picture.paint((120, 126, 138), curve([(50, 76), (52, 73), (66, 73), (69, 76), (66, 79.5), (52, 79.5)]), bulge=2)
    picture.paint((44, 46, 52), oval(51.5, 76.2, 3, 6))
    picture.paint((188, 193, 201), [(44, 67.5), (66, 66), (103, 95), (96, 96.5), (60, 72)], bulge=1.5, depth=0.9)
    picture.lines((140, 146, 156), 0.5, [(60, 67), (99, 95.5)])
    picture.paint((190, 194, 202), [(101, 57), (112, 55), (125, 63), (119, 64)], bulge=1)
    return picture


def street(picture: Picture, road: float) -> None:
    """Houses and trees out of focus, and a road below `road`."""
    for x, width, top, colour in [(0, 34, 12, (150, 128, 112)), (34, 30, 22, (172, 164, 150)), (96, 34, 8, (138, 120, 110))]:
        picture.paint(colour, box(x, top, x + width, road), grain=0.15)
        for left in np.arange(x + 4, x + width - 6, 9):
            for row in np.arange(top + 5, road - 18, 14):
                picture.paint((78, 84, 92), box(left, row, left + 5, row + 8))
    for x, y, size in [(74, 32, 34), (88, 40, 26), (62, 44, 22)]:
        picture.paint((76, 98, 60), oval(x, y, size, size), bulge=6, grain=0.8, soft=1)
    picture.paint((80, 66, 52), box(74, 44, 77, road))
    picture.paint((168, 164, 156), box(0, road - 6, SIDE, road))
    picture.blur(1.6)
    picture.paint((104, 104, 106), box(0, road, SIDE, SIDE))
    picture.mottle(0.25, 30, 60, box(0, road, SIDE, SIDE))
    picture.paint((206, 202, 190), box(0, 119, SIDE, 121), soft=0.4, opacity=0.8)


def automobile() -> Picture:
    """A red saloon car from the side, parked in a street."""
    picture = Picture(2, (0, (178, 196, 212)), (60, (214, 220, 222)))
    street(picture, 80)
    red = (164, 34, 34)
    picture.shade(0.8, oval(64, 99, 112, 10), soft=2)
    body = curve([(6, 78), (8, 71), (20, 66), (36, 63), (48, 50), (56, 46), (76, 45), (90, 49), (103, 62), (118, 65),
                  (122, 74), (121, 90), (112, 95), (20, 95), (8, 92)])  # fmt: skip
    picture.paint(red, body, bulge=4, depth=1.1)
    picture.shade(0.4, box(0, 84, 128, 100), soft=3, inside=[body])
    picture.paint((214, 110, 104), limb((10, 72, 0.5), (50, 67.5, 1.5), (118, 69, 0.5)), soft=0.6, opacity=0.8)
    glass = curve([(41, 64), (51, 52), (58, 49), (76, 48.5), (87, 52), (96, 62.5), (96, 64)])
    picture.paint((54, 66, 78), glass, bulge=2, depth=-0.5)
    picture.paint((150, 170, 186), [(46, 66), (58, 46), (65, 46), (53, 66)], inside=[glass], opacity=0.5)
    picture.lines(red, 1.8, [(69, 47.5), (70.5, 65)])
    picture.lines((96, 18, 20), 0.6, [(44, 66), (45, 84), (50, 91)], [(70.5, 66), (71, 91)], [(96, 66), (94, 76)])
    picture.lines((220, 180, 176), 1.1, [(62, 71), (67, 71)], [(88, 71.5), (93, 71.5)])
    for x in (29, 99):
        picture.paint((22, 18, 20), oval(x, 91, 25, 26), inside=[body])
        wheel(picture, x, 92, 21)
    picture.paint((238, 234, 214), curve([(8, 73), (17, 70), (18, 74), (9, 77)]), bulge=1)
    picture.paint((110, 16, 16), curve([(115, 68), (121, 70), (121, 76), (116, 75)]), bulge=1)
    picture.paint((40, 38, 40), limb((6, 88, 3), (17, 90, 3)))
    picture.paint((126, 26, 28), curve([(43, 62), (48, 61), (49, 65), (44, 66)]), bulge=1)
    return picture


def bird() -> Picture:
    """A robin from the side, on a branch."""
    picture = Picture(3, (0, (150, 172, 150)), (128, (96, 124, 84)))
    for x, y, size in picture.rng.uniform((0, 0, 14), (128, 128, 40), (22, 3)):
        picture.paint((128, 150, 96), oval(x, y, size, size), soft=4, opacity=0.35)
    picture.mottle(0.35, 4, 4)
    picture.blur(3)
    branch = limb((-4, 106, 9), (40, 101, 8), (90, 104, 7), (132, 96, 6))
    picture.paint((98, 78, 60), branch, limb((88, 104, 5), (108, 112, 3), (120, 122, 2)), bulge=2.5, grain=0.6)
    tail, back = limb((88, 78, 15), (104, 94, 11), (116, 108, 9)), (112, 98, 80)
    picture.paint((92, 78, 64), tail, bulge=2, grain=0.2)
    body = curve([(26, 34), (36, 22), (50, 20), (61, 30), (72, 46), (92, 68), (98, 82), (86, 92), (62, 96), (42, 88),
                  (29, 70), (27, 52)])  # fmt: skip
    picture.paint(back, body, bulge=7, depth=1.1)
    picture.paint((226, 220, 206), oval(60, 88, 50, 24, 8), soft=4, inside=[body])
    picture.paint((196, 98, 46), oval(34, 56, 34, 54, -14), soft=3, inside=[body])
    picture.shade(0.35, limb((44, 97, 6), (70, 99, 8), (96, 88, 5)), soft=4, inside=[body])
    picture.hair(body, count=5000, length=3, away=(10, 20), contrast=0.09)
    wing = curve([(52, 50), (66, 48), (84, 62), (102, 86), (104, 92), (86, 88), (64, 78), (54, 66)])
    picture.shade(0.35, wing + (-1, 2.5), soft=2, inside=[body])
    picture.paint((100, 84, 68), wing, bulge=4, grain=0.2)
    for end in range(5):
        feather = curve([(62 + 2 * end, 58 + 4 * end), (82, 70 + 3 * end), (102 - 4 * end, 90 - 2 * end)], closed=False)
        picture.lines((66, 54, 44), 0.7, feather)
        picture.lines((150, 132, 110), 0.5, feather + (0.6, -0.9))
    picture.paint((58, 52, 48), curve([(28, 33), (27, 39), (13, 38.5), (12, 37)]), bulge=1.2)
    eye(picture, 38, 34, 5.5, (40, 26, 20), 0.7)
    for x in (56, 68):
        picture.lines((104, 72, 52), 1.6, [(x, 92), (x - 2, 101)], [(x - 7, 102), (x - 2, 100.5), (x + 3, 102.5)])
    return picture


def cat() -> Picture:
    """A grey tabby from the front, head and chest, in a room."""
    picture = Picture(4, (0, (176, 158, 138)), (80, (160, 140, 120)), (84, (128, 96, 80)), (128, (112, 82, 68)))
    picture.paint((206, 200, 188), box(84, 0, 118, 58))
    picture.paint((126, 88, 64), box(-5, 30, 20, 84))
    picture.mottle(0.2, 40, 40)
    picture.blur(2.5)
    fur, dark, pale = (142, 130, 116), (74, 64, 56), (224, 216, 204)
    chest = curve([(40, 76), (88, 76), (104, 100), (112, 132), (16, 132), (24, 100)])
    picture.shade(0.5, chest + (5, 3), soft=5)
    picture.paint(fur, chest, bulge=9, depth=1.2)
    for side in (-1, 1):
        for y in (98, 108, 118):
            picture.paint(dark, limb((64 + side * 44, y, 4), (64 + side * 32, y + 3, 3), (64 + side * 23, y, 1)), soft=1)
    picture.paint(pale, oval(64, 108, 36, 56), soft=4)
    picture.hair(chest, count=5000, length=5, away=(64, 40), contrast=0.1)
    picture.shade(0.5, oval(64, 88, 62, 18), soft=4, inside=[chest])
    ears = [[(64 + s * x, y) for x, y in ((13, 30), (30, 3), (34, 5), (40, 46))] for s in (-1, 1)]
    head = curve([(64, 20), (84, 24), (100, 40), (106, 58), (98, 76), (80, 88), (64, 91), (48, 88), (30, 76), (22, 58),
                  (28, 40), (44, 24)])  # fmt: skip
    picture.paint(fur, head, *ears, bulge=6, depth=0.9)
    for s in (-1, 1):
        inner = [(64 + s * 20, 27), (64 + s * 30.5, 9), (64 + s * 36, 38)]
        picture.paint((190, 148, 136), inner, soft=1.2)
        picture.hair(inner, count=500, length=5, away=(64 + s * 50, 60), contrast=0.12)
        picture.paint(pale, oval(64 + s * 20, 42, 16, 9, -s * 12), oval(64 + s * 21, 64, 20, 9, s * 20), soft=2.5, opacity=0.6)
        for x0, y0, x1, y1 in ((3, 38, 4, 21), (9, 36, 11, 22), (15, 34, 19, 25)):
            picture.paint(dark, limb((64 + s * x0, y0, 1.5), (64 + s * x1, y1, 3.4)), soft=0.8)
        for y in (58, 67, 76):
            picture.paint(dark, limb((64 + s * 28, y - 4, 1), (64 + s * 36, y - 2, 3), (64 + s * 44, y - 4, 2)), soft=0.8, inside=[head])
    picture.paint(pale, oval(56, 76, 21, 17), oval(72, 76, 21, 17), oval(64, 84, 18, 11), soft=2)
    picture.paint(fur, limb((64, 36, 10), (64, 56, 11), (64, 66, 9)), soft=2.5)
    picture.hair(head, *ears, count=7000, length=3.4, away=(64, 62), contrast=0.1)
    for x in (46, 82):
        eye(picture, x, 54, 15, (168, 172, 84), 0.3)
    picture.paint((188, 118, 110), curve([(58, 67), (70, 67), (65.5, 73), (62.5, 73)]), bulge=1.5)
    picture.lines((70, 52, 48), 1, [(64, 73), (64, 77)], curve([(54, 79), (59, 81), (64, 77), (69, 81), (74, 79)], False))
    for s in (-1, 1):
        for y, end in ((74, 66), (77, 76), (80, 87)):
            picture.lines((240, 238, 232), 0.5, curve([(64 + s * 12, y), (64 + s * 34, (y + end) / 2 - 1), (64 + s * 56, end)], False))
    return picture


def forest(picture: Picture) -> None:
    for x, width, tone in sorted(picture.rng.uniform((0, 2, 0.6), (128, 8, 1.15), (16, 3)).tolist(), key=lambda row: -row[2]):
        colour = tuple(int(channel * tone) for channel in (108, 100, 84))
        picture.paint(colour, limb((x, -4, width * 0.8), (x + 1, 50, width), (x, 98, width * 1.3)), bulge=1.5, grain=0.8)
    for x, y, size in picture.rng.uniform((0, -6, 16), (128, 22, 34), (16, 3)):
        picture.paint((84, 106, 66), oval(x, y, size, size * 0.7), soft=3, grain=1, opacity=0.8)
    picture.blur(1.8)


def grass(picture: Picture, top: float, colour: Colour, count: int = 5000) -> None:
    ground = box(0, top, SIDE, SIDE + 4)
    picture.paint(colour, ground, soft=1)
    picture.mottle(0.5, 6, 14, ground)
    picture.hair(ground, count=count, length=4, away=(64, 600), contrast=0.16)


def deer() -> Picture:
    """A stag from the side, in a forest."""
    picture = Picture(5, (0, (176, 188, 168)), (90, (150, 158, 128)))
    forest(picture)
    grass(picture, 94, (116, 114, 70))
    coat = (150, 104, 66)
    picture.shade(0.6, oval(70, 117, 70, 8), soft=3)
    picture.paint((104, 74, 50), limb((53, 70, 10), (55, 92, 4.5), (54, 117, 3.6)),
                  limb((82, 66, 16), (84, 86, 6), (82, 96, 4.5), (83, 116, 3.6)), bulge=2)  # fmt: skip
    for lift, tone in ((2.5, (112, 94, 74)), (0, (150, 128, 98))):
        beam = limb((35 + lift, 28, 3), (44 + 2 * lift, 18, 2.8), (45 + 2 * lift, 8, 2.2), (38 + 2 * lift, 1, 1))
        fore = limb((34 - lift, 28, 3), (25 - lift, 19, 2.8), (22 - lift, 9, 2.2), (27 - lift, 1, 1))
        tines = [limb((40 + lift, 23, 2.4), (33 + lift, 15, 1)), limb((45 + 2 * lift, 13, 2.4), (54 + lift, 6, 1)),
                 limb((29 - lift, 23, 2.2), (21 - lift, 22, 1)), limb((22 - lift, 13, 2.2), (13 - lift, 7, 1))]  # fmt: skip
        picture.paint(tone, beam, fore, *tines, bulge=0.8)
    body = curve([(38, 66), (42, 54), (52, 49), (70, 51), (88, 48), (98, 54), (100, 66), (94, 74), (78, 76), (60, 79),
                  (46, 80)])  # fmt: skip
    neck, head = limb((49, 66, 28), (41, 48, 17), (36, 32, 11)), limb((38, 31, 9), (32, 33, 11.5), (24, 38, 7.5), (17, 41, 5))
    legs = [limb((46, 72, 13), (46, 92, 5.5), (45, 119, 4)), limb((91, 62, 22), (96, 82, 8), (94, 92, 5.5), (96, 119, 4))]
    whole = [body, neck, head, *legs]
    picture.paint(coat, *whole, bulge=5, depth=1.1)
    picture.paint((206, 182, 150), limb((46, 81, 5), (66, 79, 5), (84, 75, 4)), soft=2, inside=whole)
    picture.paint((222, 206, 180), oval(99, 60, 8, 13, -10), limb((31, 40, 3), (38, 52, 4)), soft=1.5, inside=whole)
    picture.hair(body, neck, count=4000, length=3, away=(20, 20), contrast=0.09)
    picture.paint((168, 124, 84), curve([(98, 52), (103, 57), (103, 66), (99, 62)]), bulge=1.5)
    picture.paint((140, 98, 64), curve([(38, 29), (44, 23), (53, 22), (49, 29), (41, 33)]), bulge=2)
    picture.paint((204, 172, 140), curve([(41, 29), (46, 25), (50, 24), (47, 28)]), soft=0.6)
    picture.paint((32, 26, 24), oval(16, 40.5, 4, 4.4), oval(30, 32.5, 2.8, 2.6))
    picture.paint((44, 36, 30), limb((45, 115, 4), (44, 120, 5)), limb((96, 115, 4), (95, 120, 5)))
    picture.hair(box(0, 117, 128, 121), count=500, length=7, away=(64, 600), contrast=0.2)
    return picture


def dog() -> Picture:
    """A brown and white hound, head and chest, in a garden."""
    picture = Picture(6, (0, (140, 158, 128)), (60, (122, 146, 98)), (128, (104, 136, 74)))
    for x, y, size in picture.rng.uniform((0, 0, 14), (128, 50, 40), (16, 3)):
        picture.paint((82, 112, 70), oval(x, y, size, size), soft=4, opacity=0.5)
    picture.mottle(0.35, 6, 10)
    picture.blur(2.5)
    tan, white, dark = (172, 116, 66), (228, 222, 210), (110, 68, 40)
    chest = curve([(40, 74), (86, 70), (108, 92), (118, 132), (22, 132), (30, 100)])
    picture.paint(tan, chest, bulge=9, depth=1.2)
    picture.paint(white, curve([(46, 80), (72, 84), (84, 104), (84, 134), (36, 134), (36, 104)]), soft=4)
    picture.hair(chest, count=4500, length=5, away=(64, 30), contrast=0.08)
    picture.paint((158, 42, 42), limb((36, 84, 6), (60, 95, 6.5), (92, 82, 6)), bulge=2)
    picture.shade(0.45, oval(60, 88, 56, 16), soft=5, inside=[chest])
    head = curve([(38, 22), (54, 12), (74, 13), (90, 24), (96, 44), (90, 64), (76, 76), (54, 80), (38, 70), (30, 48)])
    picture.paint(tan, head, bulge=7)
    picture.paint(white, curve([(52, 12), (60, 12), (60, 40), (70, 58), (68, 74), (40, 74), (38, 58), (50, 40)]), soft=2, inside=[head])
    picture.hair(head, count=5000, length=3, away=(56, 50), contrast=0.08)
    muzzle = curve([(38, 58), (46, 51), (62, 51), (71, 58), (74, 72), (66, 85), (52, 89), (39, 84), (33, 71)])
    picture.shade(0.3, muzzle + (2, 2), soft=3, inside=[head])
    picture.paint((196, 92, 96), curve([(47, 84), (60, 83), (61, 97), (55, 103), (48, 98)]), bulge=2.5)
    picture.paint(white, muzzle, bulge=5, depth=0.9)
    picture.hair(muzzle, count=1800, length=2.5, away=(53, 62), contrast=0.06)
    picture.paint((34, 28, 28), curve([(43, 58), (52, 55), (62, 57), (61, 65), (53, 69), (45, 66)]), bulge=2.5, depth=1.6)
    picture.lines((60, 44, 42), 1.1, [(53, 69), (53, 77)], curve([(37, 79), (45, 83), (53, 77), (62, 83), (70, 77)], False))
    for x, y in ((43, 42), (72, 42)):
        picture.paint(dark, oval(x, y, 13, 11), soft=2, opacity=0.6)
        eye(picture, x, y, 7.6, (92, 56, 30), 0.6)
    left = curve([(40, 20), (30, 22), (18, 40), (13, 66), (20, 80), (30, 76), (34, 56), (40, 38)])
    right = curve([(84, 18), (98, 22), (110, 42), (115, 68), (108, 84), (97, 80), (92, 58), (86, 40)])
    for ear in (left, right):
        picture.shade(0.4, ear + (0, 3), soft=3)
        picture.paint(dark, ear, bulge=5, depth=1.2)
        picture.hair(ear, count=1600, length=4, away=(64, 0), contrast=0.1)
    return picture


def frog() -> Picture:
    """A green frog at three quarters, on a leaf in a pond."""
    picture = Picture(7, (0, (66, 84, 70)), (128, (52, 74, 70)))
    picture.mottle(0.7, 3, 12)
    for x, y, size in ((14, 22, 44), (112, 14, 52), (70, 8, 30)):
        picture.paint((82, 116, 66), oval(x, y, size, size * 0.35), bulge=2, grain=0.3)
    picture.blur(2)
    picture.shade(0.6, oval(66, 105, 132, 40), soft=4)
    picture.paint((116, 146, 72), oval(64, 99, 132, 42), bulge=3, grain=0.3)
    for x in np.linspace(-40, 170, 12):
        picture.lines((142, 168, 98), 0.6, [(64, 96), (x, 128 if 0 < x < 128 else 100)])
    skin, dark, belly = (96, 136, 52), (56, 84, 36), (208, 208, 158)
    picture.shade(0.7, oval(68, 103, 100, 16), soft=3)
    picture.paint(skin, limb((88, 74, 22), (112, 66, 22), (113, 86, 18), (98, 98, 12)), bulge=5, depth=1.2)
    picture.paint(skin, limb((112, 96, 7), (100, 102, 6), (88, 103, 4)), *[limb((94, 102, 3), (x, y, 2)) for x, y in ((82, 108), (90, 110), (98, 109))], bulge=1.5)
    body = curve([(22, 64), (27, 52), (42, 42), (60, 38), (80, 44), (98, 58), (106, 78), (98, 94), (76, 100), (48, 98), (30, 86), (22, 74)])
    picture.paint(skin, body, bulge=8, depth=1.2, grain=0.2)
    picture.paint(belly, curve([(24, 74), (42, 77), (66, 74), (78, 84), (74, 100), (48, 100), (30, 90)]), soft=3, inside=[body])
    for x, y, size in picture.rng.uniform((54, 46, 3), (100, 80, 8), (14, 3)):
        picture.paint(dark, oval(x, y, size, size * 0.7), soft=0.8, inside=[body], opacity=0.7)
    for knots in (((40, 84, 13), (30, 94, 9), (33, 105, 6)), ((72, 82, 15), (74, 95, 10), (66, 106, 6))):
        x, y, _ = knots[-1]
        toes = [limb((x, y - 1, 3.6), (x + dx, y + dy, 2.4)) for dx, dy in ((-10, 2), (-5, 6), (2, 7), (8, 4))]
        picture.shade(0.5, *(toe + (1, 2) for toe in toes), soft=1.5)
        picture.paint(skin, limb(*knots), *toes, bulge=2.5, depth=1.2)
    picture.lines(dark, 1.4, curve([(22, 70), (32, 75), (46, 76), (62, 72), (72, 62)], False))
    picture.paint(dark, oval(28, 61, 2, 1.4), oval(37, 60, 2, 1.4))
    for x, y, size in ((34, 45, 18), (62, 43, 21)):
        picture.paint(skin, oval(x, y, size, size), bulge=3, depth=1.3)
        eye(picture, x - 1, y, size * 0.62, (204, 160, 58), 0.5)
    picture.paint((222, 232, 190), oval(82, 52, 14, 3, 30), oval(104, 62, 9, 3, 10), soft=1.5, opacity=0.6)
    return picture


def horse() -> Picture:
    """A bay horse from the side, on a meadow."""
    picture = Picture(8, (0, (142, 178, 208)), (64, (214, 222, 220)))
    picture.clouds((244, 244, 242), -12, 60, 0.5)
    picture.paint((104, 124, 96), curve([(-10, 66), (20, 54), (50, 60), (90, 52), (140, 60), (140, 90), (-10, 90)]), grain=0.8)
    picture.blur(1.8)
    grass(picture, 68, (112, 138, 66), 7000)
    coat, black = (128, 76, 44), (42, 32, 30)
    picture.shade(0.6, oval(62, 117, 84, 9), soft=3)
    far = [limb((76, 74, 13), (82, 94, 6), (80, 117, 5)), limb((36, 70, 18), (40, 88, 8), (36, 98, 6), (38, 116, 5))]
    picture.paint((84, 52, 34), *far, bulge=2.5)
    tail = limb((24, 50, 5), (13, 58, 9), (10, 78, 11), (14, 98, 4))
    picture.paint(black, tail, bulge=3)
    picture.hair(tail, count=1500, length=9, away=(16, 10), contrast=0.35)
    body = curve([(22, 56), (27, 46), (40, 43), (56, 48), (74, 44), (88, 50), (93, 64), (86, 78), (68, 82), (50, 80),
                  (32, 80), (23, 70)])  # fmt: skip
    neck = limb((76, 62, 34), (90, 42, 21), (100, 26, 13))
    head = limb((97, 23, 12), (104, 28, 15), (112, 38, 10.5), (118, 46, 8.5))
    legs = [limb((82, 70, 18), (86, 92, 7.5), (85, 100, 6), (86, 120, 5.5)),
            limb((31, 62, 26), (27, 82, 11), (24, 94, 7), (26, 120, 5.5))]  # fmt: skip
    ears = [[(96, 20), (97, 9), (102, 19)], [(101, 20), (104, 10), (106, 21)]]
    picture.paint(coat, body, neck, head, *legs, *ears, bulge=6, depth=1.3)
    picture.shade(0.4, limb((34, 82, 6), (56, 82, 8), (80, 80, 6)), soft=3, inside=[body])
    picture.paint(black, box(75, 96, 95, 128), box(15, 92, 35, 128), soft=2, inside=legs)
    picture.hair(body, neck, count=3500, length=2.5, away=(110, 30), contrast=0.06)
    mane = limb((99, 17, 5), (88, 28, 9), (79, 40, 9), (74, 47, 4))
    picture.paint(black, mane, bulge=2)
    picture.hair(mane, count=900, length=7, away=(110, 10), contrast=0.35)
    picture.paint((226, 218, 206), limb((107, 25, 2.2), (115, 36, 2)), soft=0.6, inside=[head])
    picture.paint((52, 38, 34), oval(117, 46, 10, 9, 50), soft=1.5, inside=[head])
    picture.paint((18, 14, 14), oval(105, 28, 3.2, 2.8), oval(119, 44, 1.8, 2.2))
    picture.hair(box(0, 117, 128, 121), count=500, length=7, away=(64, 600), contrast=0.2)
    return picture


def ship() -> Picture:
    """A steamer from the side, at sea."""
    picture = Picture(9, (0, (132, 164, 192)), (76, (216, 220, 218)), (77, (92, 122, 138)), (128, (44, 76, 98)))
    picture.clouds((242, 240, 236), -12, 76, 0.5)
    picture.mottle(0.5, 5, 60, box(0, 77, 128, 128))
    picture.blur(0.8)
    white = (226, 226, 220)
    hull = curve([(4, 67), (20, 70.5), (64, 73), (104, 72), (121, 69)], closed=False).tolist() + [(116, 94), (16, 94)]
    picture.shade(0.5, curve([(12, 92), (120, 92), (112, 108), (24, 106)]), soft=3)
    picture.lines((84, 78, 70), 0.8, [(24, 34), (24, 72)], [(24, 36), (8, 67)], [(24, 36), (44, 58)], [(104, 42), (104, 72)], [(104, 43), (120, 69)])
    for x in (62, 78):
        funnel = [(x, 30), (x + 9, 30), (x + 8, 54), (x - 1, 54)]
        picture.paint((176, 66, 46), funnel, bulge=3, depth=1.1)
        picture.paint((40, 38, 40), box(x - 1, 29, x + 11, 35), inside=[funnel])
    picture.paint((110, 110, 112), limb((67, 29, 4), (80, 20, 8), (100, 14, 12), (130, 10, 16)), soft=4, opacity=0.4)
    for left, top, right, bottom in ((36, 46, 50, 54), (34, 53, 96, 60), (30, 60, 102, 67), (26, 66, 108, 74)):
        picture.paint(white, box(left, top, right, bottom), bulge=1.5, depth=0.5)
        picture.shade(0.35, box(left, bottom - 1.2, right, bottom), soft=0.4)
        for x in np.arange(left + 2, right - 2, 3.6):
            picture.paint((64, 78, 92), box(x, top + 2, x + 2, top + 4.4))
    picture.paint((44, 54, 72), hull, bulge=4, depth=1)
    picture.paint((142, 52, 42), box(0, 88, 128, 96), inside=[hull])
    picture.lines(white, 1, curve([(4, 67.5), (20, 71), (64, 73.5), (104, 72.5), (121, 69.5)], closed=False))
    for x in np.arange(18, 112, 5):
        picture.paint((176, 180, 178), oval(x, 78.5, 1.6, 1.6))
    picture.shade(0.35, box(0, 86, 128, 98), soft=4, inside=[hull])
    foam = curve([(2, 95), (12, 90), (24, 93), (60, 92.5), (110, 92), (126, 94), (100, 97), (40, 97)])
    picture.paint((222, 230, 230), foam, soft=1.2, grain=0.6, opacity=0.85)
    for x, y, width in picture.rng.uniform((-10, 98, 8), (128, 127, 26), (46, 3)):
        picture.paint((128, 158, 168), limb((x, y, 0.2), (x + width / 2, y - 1, 1.1), (x + width, y, 0.2)), soft=0.4, opacity=0.6)
    return picture


def truck() -> Picture:
    """A lorry with a box body, on a country road."""
    picture = Picture(10, (0, (150, 182, 208)), (70, (218, 222, 220)))
    picture.clouds((244, 244, 242), -12, 60, 0.5)
    picture.paint((92, 112, 84), curve([(-10, 70), (24, 58), (70, 64), (110, 54), (140, 62), (140, 90), (-10, 90)]), grain=0.9)
    picture.blur(1.6)
    grass(picture, 76, (122, 134, 74), 3000)
    picture.paint((102, 102, 104), box(0, 88, 128, 128), soft=0.6)
    picture.mottle(0.25, 20, 60, box(0, 88, 128, 128))
    picture.paint((208, 204, 192), box(0, 121, 128, 123), soft=0.4, opacity=0.8)
    picture.shade(0.8, oval(64, 109, 120, 10), soft=2)
    picture.paint((50, 50, 54), box(14, 92, 120, 100))
    trailer = box(41, 22, 122, 93)
    picture.paint((222, 220, 212), trailer, bulge=2, depth=0.5)
    picture.shade(0.25, box(38, 72, 124, 98), soft=8, inside=[trailer])
    for x in np.arange(51, 120, 10):
        picture.lines((190, 188, 182), 0.6, [(x, 24), (x, 92)])
    picture.paint((60, 96, 130), box(41, 62, 122, 70))
    picture.lines((150, 148, 144), 1, [(41, 23), (122, 23)], [(41, 92), (122, 92)])
    blue = (176, 52, 40)
    cab = curve([(7, 96), (6, 74), (8, 64), (14, 44), (18, 39), (38, 38), (39, 50), (39, 96)])
    picture.paint(blue, cab, bulge=3, depth=1.1)
    picture.shade(0.35, box(0, 84, 42, 100), soft=3, inside=[cab])
    glass = [(20, 46), (33, 46), (33, 64), (14.5, 64)]
    picture.paint((58, 72, 84), glass, bulge=1.5, depth=-0.5)
    picture.paint((150, 170, 184), [(20, 64), (27, 46), (31, 46), (24, 64)], inside=[glass], opacity=0.5)
    picture.paint((58, 72, 84), [(9.5, 63), (15, 45), (17, 45), (12, 63)])
    picture.lines((112, 30, 26), 0.6, [(17, 42), (12, 66), (13, 88)], [(35.5, 42), (35.5, 90)], [(13, 66), (35, 66)])
    picture.lines((220, 200, 190), 1.1, [(29, 70), (33, 70)])
    picture.paint((34, 34, 36), box(8, 52, 10.5, 61), limb((5, 93, 7), (16, 93, 7)))
    picture.paint((240, 234, 210), oval(9, 84, 4, 6), bulge=1)
    for x in (26, 88, 108):
        picture.paint((24, 24, 26), oval(x, 98, 23, 22))
        wheel(picture, x, 101, 19)
    picture.paint((196, 60, 40), box(119, 88, 122, 92))
    return picture


PICTURES: dict[str, Callable[[], Picture]] = {
    draw.__name__: draw for draw in (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck)
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one picture for each class of CIFAR-10.")
    parser.add_argument("folder", type=Path, help="where to write CLASS.png; made if missing")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        draw().finished().save(folder / f"{name}.png")
    print(f"wrote {len(PICTURES)} pictures into {folder}")


if __name__ == "__main__":
    main()
