"""Archives of studies that were never run, as the real ones leave them: curves, specifications, probes and masks."""

import base64
import hashlib
import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.read.results import Results, read_results
from records import names
from records.schema import CURRENT

CIFAR = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DEPTHS = {56: 1, 92: 2, 128: 3, 164: 4}


def axis(name: str, header: str, labels: dict[Any, str]) -> dict[str, Any]:
    return {"name": name, "header": header, "values": list(labels), "labels": list(labels.values())}


DEPTH = axis("depth", "network", {depth: f"Attention-{depth}" for depth in DEPTHS})
LEARNING = axis("learning", "learning", {"arl": "ARL", "nal": "NAL"})
TWO = {"resnet164": "ResNet-164", "attention92": "Attention-92"}
NOISE = axis("noise", "label noise", {0.0: "0 %", 0.1: "10 %", 0.3: "30 %", 0.5: "50 %", 0.7: "70 %"})
HUMAN = axis("labels", "labels", {"clean": "clean", "aggre": "aggre", "random1": "random1", "worse": "worse"})
STRUCTURES = {
    "local_conv": "Local convolutions, same units",
    "local_conv_macs": "Local convolutions, same MACs",
    "encoder_decoder": "Encoder and decoder",
}
GATES = {"encoder_decoder": "Encoder and decoder", "se": "SE", "eca": "ECA", "cbam": "CBAM", "none": "none"}
CIFAR_NETWORKS = {
    "resnet164": "ResNet-164", "resnet1001": "ResNet-1001", "wrn16_8": "WRN-16-8", "wrn28_10": "WRN-28-10",
    "attention92": "Attention-92", "attention236": "Attention-236", "attention452": "Attention-452",
}  # fmt: skip
CONTROLS = {
    "attention56": "Attention-56",
    "no_mask": "Attention-56 without masks",
    "trunk": "Its trunk, deeper by 7 units",
}
RESPONSE = {
    "attention164_arl": "Attention-164, ARL",
    "attention164_nal": "Attention-164, NAL",
    "resnet164": "ResNet-164",
}
ACTIVATION = axis("mask_activation", "attention", {"mixed": "Mixed", "channel": "Channel", "spatial": "Spatial"})


def networks(labels: dict[Any, str]) -> dict[str, Any]:
    return axis("network", "network", labels)


# name -> (title, table, axes, the value that the last axis is compared with)
STUDIES: dict[str, tuple[str, str | None, list[dict[str, Any]], str]] = {
    "mask_type": ("Attention types: mixed, channel and spatial", "1", [ACTIVATION], "mixed"),
    "arl_vs_nal": ("Attention residual learning against naive attention learning", "3", [DEPTH, LEARNING], "arl"),
    "mask_structure": (
        "Structure of the soft mask branch",
        "4",
        [axis("mask_structure", "mask", STRUCTURES)],
        "encoder_decoder",
    ),
    "noisy_labels": ("Noisy training labels", "5", [NOISE, networks(TWO)], "resnet164"),
    "cifar": ("CIFAR networks", "6", [networks(CIFAR_NETWORKS)], "resnet164"),
    "controls": ("Attention or compute", None, [networks(CONTROLS)], "attention56"),
    "gates": (
        "The mask against the gates of other papers",
        None,
        [axis("mask_structure", "mask", GATES)],
        "encoder_decoder",
    ),
    "human_noise": ("Labels given by people (CIFAR-10N)", None, [HUMAN, networks(TWO)], "resnet164"),
    "budget": (
        "Attention residual learning against images seen",
        None,
        [axis("steps", "steps", {steps: str(steps) for steps in (156, 625, 2500)}), DEPTH, LEARNING],
        "arl",
    ),
    "depth_response": ("Response of the stages over training", None, [networks(RESPONSE)], "attention164_arl"),
}


def spec(network: str = "attention56", **changes: Any) -> dict[str, Any]:
    """spec.json of a CIFAR network by its name."""
    units, modules, unit = 2, 1, "preact_bottleneck"
    widths = ((64, 16), (128, 32), (256, 64))
    if network.startswith("attention"):
        modules = {"236": 6, "452": 6}.get(network[9:12]) or DEPTHS[int(network[9:].split("_")[0])]
        units, modules = (8, 0) if network.endswith("_trunk") else (units, modules)
    elif network.startswith("resnet"):
        units, modules = (int(network[6:]) - 2) // 9, 0
    elif network.startswith("wrn"):
        depth, factor = map(int, network[3:].split("_"))
        units, modules, unit = (depth - 4) // 6, 0, "preact_basic"
        widths = tuple((c * factor, c * factor) for c in (16, 32, 64))
    stages = [
        {"channels": c, "bottleneck": b, "stride": s, "units": units, "modules": modules, "poolings": d, "unit": None}
        for (c, b), s, d in zip(widths, (1, 2, 2), (3, 2, 1), strict=True)
    ]
    options = {"p": 2, "t": 4, "r": 3} if network == "attention452" else {"p": 1, "t": 2, "r": 1}
    return {
        "stem_channels": 16, "stages": stages, "unit": unit, **options, "learning": "arl", "mask_activation": "mixed",
        "mask_structure": "encoder_decoder", "stem": "conv3", "groups": 1,
    } | changes  # fmt: skip


IMAGENET92: dict[str, Any] = {
    "stem_channels": 64,
    "stages": [
        {"channels": c, "bottleneck": c // 4, "stride": s, "units": u, "modules": m, "poolings": d, "unit": None}
        for c, s, u, m, d in ((256, 1, 1, 1, 3), (512, 2, 1, 2, 2), (1024, 2, 1, 3, 1), (2048, 2, 3, 0, 1))
    ],
    "unit": "preact_bottleneck", "p": 1, "t": 2, "r": 1, "learning": "arl", "mask_activation": "mixed",
    "mask_structure": "encoder_decoder", "stem": "conv7_pool", "groups": 1,
}  # fmt: skip


def config(study: str, cell: dict[str, Any]) -> dict[str, Any]:
    """What a cell trains: network, learning, mask and noise. The same of two studies is one run."""
    network = str(cell.get("network", "attention56"))
    if "depth" in cell:
        network = f"attention{cell['depth']}"
    options = {key: cell[key] for key in ("learning", "mask_activation", "mask_structure") if key in cell}
    if network in ("no_mask", "trunk"):
        network = "attention56_trunk" if network == "trunk" else "attention56"
        options = {"mask_structure": "none"} if network == "attention56" else {}
    if network.endswith(("_arl", "_nal")):
        network, _, options["learning"] = network.partition("_")
    chosen = {"learning": "arl", "mask_activation": "mixed", "mask_structure": "encoder_decoder"} | options
    return {
        "study": study,
        "network": network,
        **chosen,
        "noise": cell.get("noise", 0.0),
        **({"steps": cell["steps"]} if "steps" in cell else {}),
        "labels": cell.get("labels", "clean"),
    }


def error(chosen: dict[str, Any], start: float) -> float:
    """A believable test error in %; `start` that of Attention-56."""
    network, found = chosen["network"], start
    found -= (
        {"attention92": 0.5, "attention128": 1.1, "attention164": 1.2, "attention236": 1.4}.get(network, 0)
        * start
        / 5.5
    )
    found -= {"attention452": 1.6, "resnet1001": 0.9, "wrn16_8": 0.7, "wrn28_10": 1.3}.get(network, 0) * start / 5.5
    if chosen["learning"] == "nal":
        found += (
            {"attention56": 0.4, "attention92": 0.4, "attention128": 1.1, "attention164": 2.9}[network] * start / 5.5
        )
    found += {"channel": 0.7, "spatial": 0.8}.get(chosen["mask_activation"], 0) * start / 5.5
    found += {"se": 0.3, "eca": 0.2, "cbam": 0.25, "none": 0.6, "local_conv": 0.9, "local_conv_macs": 1.1}.get(chosen["mask_structure"], 0) * start / 5.5  # fmt: skip  # noqa: E501
    worse = {"aggre": 0.09, "random1": 0.17, "worse": 0.4}.get(chosen["labels"], 0.0) + chosen["noise"]
    return found + (1 if network == "resnet164" else 0.8) * (100 - found) * worse**2 * 0.6


def run_line(
    chosen: dict[str, Any],
    seed: int,
    *,
    profile: str = "short-1",
    dataset: str = "cifar10",
    overrides: dict[str, Any] | None = None,
    start: float = 42.0,
    steps: int = 625,
    old: bool = False,
    masks: bool = False,
    outcome: str = names.FINISHED,
    schema: int = CURRENT,
) -> dict[str, Any]:
    """One line of an archive; `old` as before there were probes and specifications."""
    steps = chosen.get("steps", steps)
    images = "2000" if chosen["study"] in ("noisy_labels", "human_noise") and profile.startswith("short") else "None"
    key = json.dumps([chosen | {"study": images}, seed, profile, dataset, overrides or {}], sort_keys=True)
    mark = hashlib.sha256(key.encode()).hexdigest()
    rng = np.random.default_rng(int(mark[:8], 16))
    final = error(chosen, start) + rng.normal(0, 0.02 * start)
    noisy = chosen["noise"] > 0 or chosen["labels"] != "clean"
    diverged = outcome == names.DIVERGED
    end = steps if not diverged else steps // 3

    def curve(level: float, points: int, wobble: float) -> list[list[float]]:
        at = [round(steps * (i + 1) / points) for i in range(points)]
        fall = [level + (90 - level) * math.exp(-4 * step / steps) for step in at]
        return [
            [s, float(np.clip(v + rng.normal(0, wobble), 0.01, 100))] for s, v in zip(at, fall, strict=True) if s <= end
        ]

    share = chosen["noise"] or {"aggre": 0.09, "random1": 0.17, "worse": 0.4}.get(chosen["labels"], 0.0)
    curves = {
        names.TRAIN_ERR: curve(final * 0.8 + 60 * share, 52, 2.0),
        (names.TEST_ERR if profile.startswith("paper") else names.VAL_ERR): curve(final, 10, 0.8),
    }
    if noisy:
        curves[names.TRAIN_ERR_CLEAN] = curve(final * 0.8 + 15 * share, 52, 2.0)
    spec_ = spec(chosen["network"], **{k: chosen[k] for k in ("learning", "mask_activation", "mask_structure")})
    fall = 0.1 if chosen["learning"] == "nal" else 0.6
    if not old:
        for stage in (1, 2, 3):
            points = [0, *range(steps // 10, end + 1, steps // 10)]
            goal = fall ** (stage - 1)
            curves[names.RESPONSE.format(stage)] = [
                [s, float((1 + (goal - 1) * s / steps) * rng.uniform(0.95, 1.05))] for s in points
            ]
    metrics: dict[str, float] = {
        names.COST_HOURS: 0.05 + 0.002 * macs(chosen) * rng.uniform(0.95, 1.05),
        names.COST_MACS: macs(chosen) * 1e6,
        names.COST_PARAMS: 1e6,
    }
    if not diverged:
        metrics |= {names.FINAL_TEST_ERR: final, names.FINAL_VAL_ERR: final + rng.normal(0, 0.3)}
    if noisy and not diverged:
        metrics |= {names.FINAL_MEMORISED: (40 if chosen["network"] == "resnet164" else 32) * share + rng.normal(0, 1)}
    line: dict[str, Any] = {
        "fingerprint": mark,
        "tags": {
            names.FINGERPRINT: mark, names.SEED: str(seed), names.PROFILE: profile, names.DATASET: dataset,
            names.OUTCOME: outcome, names.OVERRIDES: json.dumps(overrides or {}, sort_keys=True),
            "mlflow.source.git.commit": "4d42880" + "0" * 33, names.SCHEMA: str(schema),
        },
        "params": {
            "model.name": chosen["network"], "model.learning": chosen["learning"], "data.name": dataset,
            "data.noise": str(chosen["noise"]), "train.steps": str(steps), "train.batch_size": "32",
            "data.train_images": images,
            "data.noise_labels": "None" if chosen["labels"] == "clean" else chosen["labels"],
        },
        "metrics": metrics,
        "curves": curves,
    }  # fmt: skip
    if not old:
        line |= {"kind": "run", "start_time": 1_760_000_000_000 + seed, "spec": spec_}
        if not diverged:
            line["probes"] = probes(spec_, fall, rng)
        if masks and spec_["stages"][0]["modules"] and spec_["mask_structure"] != "none":
            line["masks"] = base64.b64encode(mask_arrays(rng)).decode()
    return line


def macs(chosen: dict[str, Any]) -> float:
    """M, at half width."""
    known = {
        "resnet164": 62, "resnet1001": 373, "wrn16_8": 388, "wrn28_10": 1311, "attention56_trunk": 30,
        "attention56": 31, "attention92": 53, "attention128": 75, "attention164": 98, "attention236": 142,
        "attention452": 246,
    }  # fmt: skip
    extra = {"local_conv": 7, "se": -8, "eca": -9, "cbam": -8, "none": -9}
    return known[chosen["network"]] + extra.get(chosen["mask_structure"], 0)


def probes(spec_: dict[str, Any], fall: float, rng: np.random.Generator) -> dict[str, Any]:
    fields = []
    rows, columns = np.mgrid[:32, :32]
    for i, stage in enumerate(spec_["stages"]):
        if not stage["modules"]:
            continue
        for branch, sigma in (
            ("trunk", 1.5 + 2.5 * i),
            ("mask", 5 + 2 * i if spec_["mask_structure"] == "encoder_decoder" else 2 + 2.5 * i),
        ):
            if branch == "mask" and spec_["mask_structure"] == "none":
                continue
            field = np.exp(-((rows - 16) ** 2 + (columns - 16) ** 2) / (2 * sigma**2)) * rng.uniform(0.5, 1, (32, 32))
            fields.append(
                {
                    "stage": i + 1, "module": f"stages.{i}.attention.0", "branch": branch, "images": 16,
                    "centre": [16, 16], "radius": min(22.0, 2.15 * sigma * rng.uniform(0.95, 1.05)),
                    "gradient": {
                        "shape": [32, 32], "max": 0.01,
                        "uint8": base64.b64encode((255 * field / field.max()).astype(np.uint8).tobytes()).decode(),
                    },
                }
            )  # fmt: skip
    mean = [0.8 * fall**i * rng.uniform(0.9, 1.1) for i in range(len(spec_["stages"]))]
    return {"schema": 1, "response": {"split": "test", "images": 2000, "mean_abs": mean}, "receptive_fields": fields}


def mask_arrays(rng: np.random.Generator, n: int = 5) -> bytes:
    rows, columns = np.mgrid[:32, :32] / 32
    arrays: dict[str, Any] = {
        "labels": rng.permutation(10)[:n], "classes": np.array(CIFAR),
        "modules": np.array(["stages.0.attention.0", "stages.2.attention.0"]),
    }  # fmt: skip
    images, blobs = [], []
    for _ in range(n):
        x, y, size = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.25)
        blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
        colour, ground = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        image = ground[:, None, None] * (1 - blob) + colour[:, None, None] * blob + rng.normal(0, 12, (3, 32, 32))
        images.append(np.clip(image, 0, 255))
        blobs.append(blob)
    arrays["images"] = np.array(images).astype(np.uint8)
    for k, step in enumerate((1, 4)):
        blob = np.array(blobs)[:, ::step, ::step]
        before = blob * 2 - 0.7 + rng.normal(0, 0.4, blob.shape)
        mask = 1 / (1 + np.exp(-(blob * 4 - 2)))
        arrays |= {
            f"before_{k}": before,
            f"mask_{k}": mask,
            f"after_{k}": (1 + mask) * before,
            f"channel_{k}": np.array(7 + k),
        }
    out = io.BytesIO()
    np.savez_compressed(out, **{k: v.astype(np.float16) if v.dtype == np.float64 else v for k, v in arrays.items()})
    return out.getvalue()


def study_lines(
    name: str,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    profile: str = "short-1",
    dataset: str = "cifar10",
    overrides: dict[str, Any] | None = None,
    outcomes: Callable[[dict[str, Any], int], str | None] = lambda cell, seed: names.FINISHED,
    **run: Any,
) -> list[dict[str, Any]]:
    """The lines of one study; `outcomes` says of a cell and seed how it ended, None where it was never run."""
    title, table, axes, baseline = STUDIES[name]
    cells = [
        dict(zip([a["name"] for a in axes], values, strict=True))
        for values in itertools.product(*(a["values"] for a in axes))
    ]
    planned, lines = [], []
    for seed in seeds:
        for cell in cells:
            outcome = outcomes(cell, seed)
            line = run_line(
                config(name, cell), seed, profile=profile, dataset=dataset, overrides=overrides,
                outcome=outcome or names.FINISHED, masks=seed == seeds[0], **run,
            )  # fmt: skip
            planned.append({"fingerprint": line["fingerprint"], "cell": cell, "seed": seed})
            if outcome is not None:
                lines.append(line)
    record = {
        "schema": 1, "study": name, "title": title, "table": table, "profile": profile, "dataset": dataset,
        "overrides": overrides or {}, "selection": "test error at the last step", "axes": axes,
        "compare": {"axis": axes[-1]["name"], "baseline": baseline},
        "planned_seeds": list(seeds), "runs": planned,
        "command": f"python run_ablation.py --study {name} --profile {profile.partition('-')[0]}",
    }  # fmt: skip
    return [{"kind": "study", "study": record}, *lines]


def write_archive(folder: Path, *lines: list[dict[str, Any]], file: str = "cifar10-short-1.jsonl") -> Path:
    """Writes an archive file, each run once."""
    folder.mkdir(parents=True, exist_ok=True)
    unique = {json.dumps(line.get("fingerprint", line)): line for group in lines for line in group}
    text = "".join(json.dumps(line) + "\n" for line in unique.values())
    (folder / file).write_text(text, encoding="utf-8")
    return folder


def results_of(folder: Path, *lines: list[dict[str, Any]]) -> Results:
    """The results of an archive with these lines, and of no store."""
    return read_results(None, write_archive(folder, *lines))
