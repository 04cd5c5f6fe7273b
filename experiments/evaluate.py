"""Tests a trained network: top-1 and top-5 error, errors by class, confusion matrix, calibration and speed.

    python -m experiments.evaluate RUN
    python -m experiments.evaluate RUN --folder CIFAR-10-C
    python -m experiments.evaluate checkpoints/0123.../step-00400.safetensors

The default is the run's own test set. --folder names other images of the same classes: one folder per class, named
like the class, with images of any size; or arrays in the format of CIFAR-10.1 and CIFAR-10-C, the latter reported by
severity too. The results are logged to the run.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.after_training.options import add_data, add_size, network_parser, resolve_network
from records.command import entry

if TYPE_CHECKING:
    from torch import Tensor

    from experiments.after_training.resolve_run import ResolvedRun
    from ran.data.source import Images
    from ran.engine.metrics import Assessment
    from ran.trained import Trained


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0. Raises UserError."""
    options = _parse(argv)
    from ran.engine.metrics import assess
    from records.errors import DataError, UserError

    found = resolve_network(options)
    trained = found.trained if options.size is None else found.trained.with_test_size(options.size)
    # The run's own size makes no other evaluation, and so no other name.
    size_in_name = None if options.size == found.trained.interface.size else options.size
    results: dict[str, dict[str, Any]] = {}
    not_logged: UserError | None = None
    try:
        for tested in _test_sets(trained, options, size_in_name):
            name, images = tested.name, tested.images
            began = time.monotonic()
            try:
                logits = trained.logits(images.images)
            except DataError as error:  # of an image file
                raise DataError(f"{error} by --exclude") from None
            seconds = time.monotonic() - began
            assessment = assess(logits, images.labels)
            if not math.isfinite(assessment.loss):
                raise UserError(f"{found.name} on {name}: the logits are not finite")
            by_severity = _by_severity(logits, images.labels) if tested.has_severities else None
            record = _record(found, tested, assessment, by_severity, len(images) / seconds)
            results[name] = record
            if not options.no_log and not_logged is None:  # before printing, since the reader of our output may exit
                try:
                    _log(found, name, record)
                except UserError as error:  # raised after the results are printed
                    not_logged = UserError(f"{name} is not logged: {error}")
            if options.format == "text":
                title = f"{found.name} on {name}"
                print(_text(title, trained.interface.classes, assessment, record, whole=options.confusion))
    finally:
        if options.format == "json" and results:  # valid JSON even if an error ends it early
            print(json.dumps(results, indent=1))
    if options.format == "text" and len(results) > 1:
        print(_means({name: record["err"] for name, record in results.items()}))
    if not_logged is not None:
        raise not_logged
    return 0


@dataclass(frozen=True, kw_only=True)
class _TestSet:
    """Labelled images and their origin."""

    name: str
    images: "Images"
    place: str
    """folder or array file, or root of the data set"""
    size: int
    exclude: str | None = None
    digest: str | None = None
    """digest of a registered data set"""
    has_severities: bool = False
    """whether it is one test set at five severities, as the files of CIFAR-10-C are"""


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = network_parser("evaluate", __doc__)
    parser.add_argument("--folder", type=Path, metavar="PATH", help="folder with other test images than the run's")
    parser.add_argument(
        "--exclude", metavar="FILE",
        help="text file with image files to leave out, one per line; default for the run's test set: that of the run",
    )  # fmt: skip
    parser.add_argument("--data", metavar="NAME", help="registered data set with the classes of the run")
    add_data(parser)
    add_size(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument("--confusion", action="store_true", help="print the whole confusion matrix")
    parser.add_argument("--no-log", action="store_true", help="log nothing to the run")
    options = parser.parse_args(argv)
    if options.folder is not None and (options.data is not None or options.root is not None or options.download):
        parser.error("--folder cannot be combined with --data, --data.root or --data.download")
    return options


def _test_sets(trained: "Trained", options: argparse.Namespace, size: int | None) -> Iterator[_TestSet]:
    """The test sets that the options name, each with a unique name in the run's log. Raises UserError.

    `size`: side of the images if their name tells it, None if it is that of every evaluation of the run.
    """
    from ran.data.arrays import array_sets, has_severities, read_arrays
    from ran.data.datasets import load_splits, open_source
    from ran.data.image_folder.class_folders import class_folders
    from records.errors import DataError

    interface = trained.interface
    if options.folder is not None:
        if not os.path.isdir(options.folder):  # unlike Path.is_dir, also accepts a name that no file can have
            raise DataError(f"no folder {options.folder}")
        arrays = array_sets(options.folder)
        if arrays and options.exclude is not None:
            raise DataError(f"--exclude needs folders of images, but {options.folder} holds arrays")
        for name, (pixels, labels) in arrays.items():
            set_name = f"{options.folder.resolve().name}-{name}"
            images = read_arrays(pixels, labels, size=interface.size, num_classes=len(interface.classes))
            yield _TestSet(
                name=set_name, images=images, place=str(pixels.resolve()), size=interface.size,
                has_severities=has_severities(labels, images.labels),
            )  # fmt: skip
        if not arrays:
            images = class_folders(
                options.folder, interface.classes, side=interface.size, share=interface.share, exclude=options.exclude
            )
            name = _qualified("-".join(options.folder.resolve().parts[-2:]), size, options.exclude)
            place = str(options.folder.resolve())
            yield _TestSet(name=name, images=images, place=place, size=interface.size, exclude=options.exclude)
        return
    config = trained.test_data()
    if options.data not in (None, config.name):
        config = dataclasses.replace(type(config)(), name=options.data, root=config.root, download=config.download)
    if options.exclude is not None:
        config = dataclasses.replace(config, exclude=options.exclude)
    if options.size is not None:
        config = dataclasses.replace(config, test_size=options.size)
    source = open_source(config)
    if source.classes != interface.classes:
        raise DataError(
            f"{source.name} does not fit: the network has {len(interface.classes)} classes ({_few(interface.classes)}),"
            f" the data set {len(source.classes)} ({_few(source.classes)})"
        )
    images = load_splits(config, trained.config.seed).test
    if images.images.shape[2:] != (interface.size, interface.size):
        raise DataError(f"{source.name} does not fit: the network takes images of {interface.size}x{interface.size}")
    name = source.name
    if config.name == trained.config.data.name and not trained.matches_data_in(config.root):
        print(f"{config.root} has other images of {name} than the run was trained and tested on", file=sys.stderr)
        name = f"{name}-{source.digest[:8]}"
    name = _qualified(name, size, options.exclude)
    yield _TestSet(
        name=name, images=images, place=str(Path(config.root).resolve()), size=interface.size, exclude=config.exclude,
        digest=source.digest,
    )  # fmt: skip


def _qualified(name: str, size: int | None, exclude: str | None) -> str:
    """The name with the options that differ from the run, so that no evaluation overwrites another in its log."""
    return name + (f"-{size}" if size else "") + (f"-without-{Path(exclude).stem}" if exclude else "")


def _by_severity(logits: "Tensor", labels: "Tensor") -> list[float]:
    """Top-1 errors in % by severity, from weak to strong."""
    from ran.data.arrays import SEVERITIES
    from ran.engine.metrics import assess

    return [assess(*part).err for part in zip(logits.chunk(SEVERITIES), labels.chunk(SEVERITIES), strict=True)]


def _means(errors: Mapping[str, float]) -> str:
    from ran.data.arrays import EXTRA

    text = f"mean top-1 error over the {len(errors)}: {statistics.mean(errors.values()):.2f} %"
    counted = [err for name, err in errors.items() if not name.endswith(EXTRA)]
    if 0 < len(counted) < len(errors):
        text += f"; over {len(counted)}, without {', '.join(EXTRA)}: {statistics.mean(counted):.2f} %"
    return text


def _few(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")


def _record(
    found: "ResolvedRun", tested: _TestSet, assessment: "Assessment", severity_err: list[float] | None,
    images_per_s: float,
) -> dict[str, Any]:  # fmt: skip
    """The content of evaluation/NAME.json."""
    trained = found.trained
    return {
        "network": str(trained), "fingerprint": trained.fingerprint, "step": found.step, "data": tested.name,
        "place": tested.place, "digest": tested.digest, "exclude": tested.exclude, "size": tested.size,
        "images": assessment.images, "err": assessment.err,
        "err_interval": None if tested.has_severities else _interval(assessment),
        "err5": assessment.err5, "loss": assessment.loss, "ece": assessment.ece, "severity_err": severity_err,
        "images_per_s": images_per_s,
        "classes": list(trained.interface.classes), "class_err": assessment.class_err,
        "confusion": assessment.confusion.tolist(), "calibration": assessment.bins.tolist(),
    }  # fmt: skip


def _interval(assessment: "Assessment") -> tuple[float, float]:
    """The 95 % interval of the top-1 error in %, over the choice of the test images alone (Wilson 1927)."""
    from scipy.stats import binomtest

    wrong = round(assessment.err * assessment.images / 100)
    interval = binomtest(wrong, assessment.images).proportion_ci(method="wilson")
    return 100 * interval.low, 100 * interval.high


def _log(found: "ResolvedRun", name: str, record: dict[str, Any]) -> None:
    from experiments.tracking.records import metric_name
    from records import names

    if found.store is None or found.run_id is None:
        print("not logged: the network was read from files, not from a tracking store", file=sys.stderr)
        return
    now, step, key = int(time.time() * 1000), found.step, metric_name(name)
    values = {what: record[what] for what in ("err", "err5", "loss", "ece", "images_per_s") if record[what] is not None}
    points = [(names.EVALUATION.format(key, what), step, value, now) for what, value in values.items()]
    found.store.log_points(found.run_id, points)
    last = step == found.trained.config.train.steps
    artifact = f"{names.EVALUATIONS}/{key}{'' if last else f'-step-{step}'}.json"
    found.store.log_json(found.run_id, record, artifact)
    print(f"logged to {found.name}: {names.EVALUATION.format(key, '...')}, {artifact}", file=sys.stderr)


def _text(title: str, classes: Sequence[str], assessment: "Assessment", record: dict[str, Any], *, whole: bool) -> str:
    """The results for a terminal; `whole`: with the confusion matrix."""
    from records.text import columns

    top5 = "" if assessment.err5 is None else f", top-5 {assessment.err5:.2f} %"
    interval = []
    if record["err_interval"] is not None:  # else an image is there several times
        low, high = record["err_interval"]
        interval = [f"interval   top-1 {low:.2f} to {high:.2f} % (95 %, over the choice of test images)"]
    lines = [
        f"{title}: {assessment.images:,} image{'' if assessment.images == 1 else 's'}",
        f"error      top-1 {assessment.err:.2f} %{top5}",
        *interval,
        f"loss       {assessment.loss:#.4g}",
        f"ECE        {assessment.ece:.2f} % (15 bins)",
        f"speed      {record['images_per_s']:.0f} images/s",
    ]
    if record["severity_err"] is not None:
        lines.append("severity   " + ", ".join(f"{i}: {err:.2f} %" for i, err in enumerate(record["severity_err"], 1)))
    lines.append("")
    rows = []
    for i, (name, err) in enumerate(zip(classes, assessment.class_err, strict=True)):
        if err is None:
            continue
        wrong = assessment.confusion[i].clone()
        wrong[i] = 0
        n, most = int(assessment.confusion[i].sum()), int(wrong.argmax())
        confused = f"{classes[most]} ({100 * int(wrong[most]) / n:.1f} %)" if wrong[most] else ""
        rows.append((name, f"{n:,}", f"{err:.2f}", confused))
    lines.append(columns(("class", "images", "error %", "most often taken for"), rows, right=(1, 2)))
    untested = [name for name, err in zip(classes, assessment.class_err, strict=True) if err is None]
    if untested:  # a folder that is empty or elsewhere is easily overlooked
        lines.append(f"no images of {len(untested)} of {len(classes)} classes: {_few(untested)}")
    if whole:
        heads = ("", *(f"{i}" for i in range(len(classes))))
        cells = [(f"{i} {name}", *map(str, row)) for i, (name, row) in enumerate(
            zip(classes, assessment.confusion.tolist(), strict=True))]  # fmt: skip
        lines += ["", "Predicted as (columns):", columns(heads, cells, right=tuple(range(1, len(heads))))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    entry("evaluate", main)
