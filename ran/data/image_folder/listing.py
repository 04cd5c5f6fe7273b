"""Listing of the images in a folder: in class folders, as <folder>/<class>/.../<image>, or at any depth."""

import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from records.errors import DataError
from records.reading import UnreadableError, read_bytes

logger = logging.getLogger(__name__)

OTHERS = (".heic", ".heif", ".avif", ".gif", ".jfif", ".jp2", ".jxl", ".svg")
"""formats of pictures that are left out of data sets, as by torchvision"""
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of one folder, sorted by class and name."""

    folder: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]  # <class>/<image>, or deeper, as in torchvision
    sizes: tuple[int, ...]  # in bytes
    labels: tuple[int, ...]

    def matched(self, classes: Sequence[str]) -> "Listing":
        """Returns a copy with labels that index into `classes`. Raises DataError for a class that is not among them."""
        position = {name: i for i, name in enumerate(classes)}
        if unknown := [name for name in self.classes if name not in position]:
            shown = f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}"
            raise DataError(
                f"{self.folder}: {len(unknown)} of its {len(self.classes)} classes are none of the network's "
                f"{len(classes)} ({shown}); leave their folders out, or take a network that has them"
            )
        own = [position[name] for name in self.classes]
        return replace(self, classes=tuple(classes), labels=tuple(own[label] for label in self.labels))


def image_files(folder: Path) -> list[str]:
    """Returns the sorted relative paths of all images below `folder`, without hidden ones."""
    seen, found = set(), []
    for place, inside, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        # A link to a parent folder would loop for ever.
        inside[:] = [i for i in inside if i[0] != "." and os.path.realpath(os.path.join(place, i)) not in seen]
        found += [os.path.relpath(os.path.join(place, file), folder) for file in files if _is_image(file)]
    return sorted(found)


def left_out(names: Iterable[str]) -> str:
    """Returns "3 pictures of other formats (2 .heic, 1 .gif)" for those that are left out; "" for none."""
    found = Counter(suffix for name in names if (suffix := os.path.splitext(name)[1].lower()) in OTHERS)
    shown = ", ".join(f"{count} {suffix}" for suffix, count in sorted(found.items()))
    return f"{found.total()} picture{'s' * (found.total() != 1)} of other formats ({shown})" if found else ""


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and name[0] != "."


def list_images(folder: Path, *, some_empty: bool = False) -> Listing:
    """Returns the listing of a folder.

    Cached in the process while the class folders do not change; an overwritten file is not noticed. Raises DataError
    for a folder without class folders or images, and for an empty class folder unless `some_empty`.
    """
    return _list(folder, _changes(folder), some_empty)


def _changes(folder: Path) -> tuple[tuple[str, int], ...]:
    """Returns the sorted names of a folder's class folders, with their modification times."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, e.stat().st_mtime_ns) for e in entries if e.is_dir() and e.name[0] != ".")
    except OSError as error:
        raise DataError(
            f"no folder {folder} ({error.strerror}); put the images there, as {folder}/<class>/<image>"
        ) from error
    if not found:
        raise DataError(f"{folder} holds no folders, one for each class; sort the images into them")
    return tuple(found)


# Cached, as `without` and `digest` are: every run of a study needs them, and ImageNet takes seconds. Listings are
# compared by object identity.
@functools.lru_cache(maxsize=8)
def _list(folder: Path, changed: tuple[tuple[str, int], ...], some_empty: bool) -> Listing:
    classes = tuple(name for name, _ in changed)
    skipped: list[str] = []
    images = [_images(folder / name, skipped) for name in classes]
    if text := left_out(skipped):
        logger.warning("%s: %s are not used; convert them, for example to .png", folder, text)
    lacking = [folder / name for name, found in zip(classes, images, strict=True) if not found]
    if len(lacking) == len(classes) or (lacking and not some_empty):
        raise DataError(
            f"{lacking[0]} holds no images; a class needs at least one, with a suffix of {' '.join(SUFFIXES)}"
        )
    found = [(f"{classes[i]}/{image}", size, i) for i, files in enumerate(images) for image, size in files]
    names, sizes, labels = zip(*found, strict=True)
    return Listing(folder=folder, classes=classes, names=names, sizes=sizes, labels=labels)


def _images(folder: Path, skipped: list[str]) -> list[tuple[str, int]]:
    """Returns the sorted relative names of a folder's images at any depth, with their sizes in bytes.

    Adds the names of other files to `skipped`.
    """
    found: list[tuple[str, int]] = []
    # A link to a folder that contains it would loop for ever.
    waiting, seen = [""], {os.path.realpath(folder)}
    try:
        while waiting:
            within = waiting.pop()
            with os.scandir(os.path.join(folder, within)) as entries:
                for entry in entries:
                    name = f"{within}{entry.name}"
                    if entry.is_dir():
                        place = os.path.realpath(entry.path)
                        if entry.name[0] != "." and place not in seen:
                            seen.add(place)
                            waiting.append(f"{name}/")
                    elif _is_image(entry.name):
                        found.append((name, entry.stat().st_size))
                    else:
                        skipped.append(name)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); repair the image folder"
        ) from error
    return sorted(found)


@functools.lru_cache(maxsize=8)
def without(listing: Listing, names: frozenset[str]) -> Listing:
    """Returns a listing without some images, with all its classes. Raises DataError if no image is left."""
    if not names:
        return listing
    kept = [i for i, name in enumerate(listing.names) if name not in names]
    if not kept:
        raise DataError(f"{listing.folder}: all of its images are left out, as damaged or excluded")
    return replace(
        listing,
        names=tuple(listing.names[i] for i in kept),
        sizes=tuple(listing.sizes[i] for i in kept),
        labels=tuple(listing.labels[i] for i in kept),
    )


@functools.lru_cache(maxsize=8)
def digest(version: int, *listings: Listing) -> str:
    """Returns 32 hex digits of the paths and sizes of all images and the version of their preprocessing."""
    hashed = hashlib.sha256(f"{version}\n".encode())
    for listing in listings:
        lines = zip(listing.names, listing.sizes, strict=True)
        text = "".join(f"{listing.folder.name}/{name} {size}\n" for name, size in lines)
        hashed.update(text.encode(errors="surrogateescape"))
    return hashed.hexdigest()[:32]


def read_lines(path: str | Path, option: str) -> list[str]:
    """Returns the lines of the text file of an option. Raises DataError if it cannot be read."""
    try:
        return read_bytes(path).decode("utf-8-sig").splitlines()  # Windows writes a byte order mark
    except (OSError, UnicodeDecodeError, UnreadableError) as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise DataError(f"{option}: {path} cannot be read ({reason})") from None


def read_exclusions(path: str, listing: Listing, option: str = "data.exclude") -> frozenset[str]:
    """Returns the names of the images listed in an option's text file, one per line; '#' begins a comment.

    A line is <class>/<image>, a file name, or a number n for ILSVRC2012_val_{n:08}. Raises DataError for a file that
    cannot be read, and for a line that matches no image or several.
    """
    lines = read_lines(path, option)
    files = [name.rpartition("/")[2] for name in listing.names]
    times = Counter(files)
    # All notations of all images at once, because ImageNet's blacklist has 1,762 lines.
    known = {name: name for name in listing.names}
    for name, file in zip(listing.names, files, strict=True):
        known[file] = name
        stem = os.path.splitext(file)[0]
        if stem.startswith("ILSVRC2012_val_") and stem[15:].isdigit():
            known[str(int(stem[15:]))] = name
    found = set()
    for number, line in enumerate(lines, 1):
        if not (entry := line.partition("#")[0].strip()):
            continue
        entry = str(int(entry)) if entry.isdecimal() else entry
        if entry not in known:
            raise DataError(f"{option}: line {number} of {path}, {entry[:100]!r}, matches no image of {listing.folder}")
        if times[entry] > 1:
            raise DataError(
                f"{option}: line {number} of {path}, {entry[:100]!r}, matches {times[entry]} images of "
                f"{listing.folder}; write <class>/{entry[:100]}"
            )
        found.add(known[entry])
    return frozenset(found)
