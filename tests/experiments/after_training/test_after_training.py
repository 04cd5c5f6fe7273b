"""The commands on a trained network: evaluate, predict, export, on runs of a store, checkpoints and files."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import BOTH, ROOT, Lab, Said, make_cifar10, make_image_folder
from PIL import Image
from server import free_port

import ran
from experiments import evaluate, export, predict, response, runs
from experiments.after_training import mask_overlays
from experiments.after_training.prediction_formats import FORMATS, Prediction
from experiments.after_training.resolve_run import find
from experiments.tracking.errors import StoreUnavailable
from experiments.tracking.records import StoredRun
from experiments.tracking.store import Store
from ran.data import cluttershapes
from ran.engine.metrics import assess
from ran.models import pretrained
from ran.probe import soft_masks
from records import names
from records.command import entry
from records.errors import UserError
from records.text import columns

COMMANDS = {
    "evaluate": evaluate.main, "predict": predict.main, "export": export.main, "response": response.main,
    "runs": runs.main,
}  # fmt: skip


def call(command: str, *arguments: str, stdin: bytes = b"") -> Said:
    """One of the commands, in this process."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            entry(command, lambda: COMMANDS[command](arguments))
    finally:
        sys.stdin = before
    return Said(int(str(ended.value.code)), out.getvalue(), err.getvalue())


def of_store(lab: Lab, command: str, run: str, *arguments: str, stdin: bytes = b"") -> Said:
    return call(command, run, "--tracking-uri", lab.uri, *arguments, stdin=stdin)


@pytest.fixture(scope="module")
def trained_lab(tmp_path_factory, migrated_store) -> Lab:
    """A lab with the two runs of the study smoke, to which evaluations are logged."""
    torch.set_num_threads(1)
    lab = Lab(tmp_path_factory.mktemp("trained"))
    shutil.copy(migrated_store, lab.store)
    assert lab.launch().status == 0
    return lab


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Three test images of the built-in data, in folders of their classes."""
    folder = tmp_path_factory.mktemp("images")
    pixels, labels = cluttershapes.draw("test", range(3), cluttershapes.DIFFICULTY, cluttershapes.SIDE)
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / "set" / cluttershapes.CLASSES[label] / f"{i}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return folder / "set"


def test_evaluation_gives_the_runs_own_error_and_is_logged_to_it(trained_lab):
    run = trained_lab.children()["arl s0"]
    said = of_store(trained_lab, "evaluate", run.info.run_id)
    assert said.status == 0, said.err
    error = run.data.metrics[names.FINAL_TEST_ERR]
    assert f"top-1 {error:.2f} %, top-5 {run.data.metrics[names.FINAL_TEST_ERR5]:.2f} %" in said.out
    logged = trained_lab.children()["arl s0"]
    assert logged.data.metrics["evaluation_cluttershapes_err"] == error
    assert logged.info.status == "FINISHED"
    record = json.loads(trained_lab.artifact(logged, "evaluation/cluttershapes.json").read_text())
    assert record["fingerprint"] == run.data.tags[names.FINGERPRINT]
    assert sum(map(sum, record["confusion"])) == record["images"] == 64


def test_the_interval_of_an_error_is_over_its_images():
    """Wilson's, by his formula."""
    images, wrong, z = 40, 3, 1.959963984540054
    logits = torch.nn.functional.one_hot(torch.zeros(images, dtype=torch.long), 10).float()
    labels = torch.tensor([1] * wrong + [0] * (images - wrong))
    share = wrong / images
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * (share * (1 - share) / images + z * z / (4 * images**2)) ** 0.5
    assert evaluate._interval(assess(logits, labels)) == pytest.approx((100 * (middle - half), 100 * (middle + half)))


@pytest.mark.parametrize("name", ["arl s0", "nal s0"])
def test_a_fingerprint_may_be_shortened(name, trained_lab):
    print_ = trained_lab.children()[name].data.tags[names.FINGERPRINT]
    for digits in (print_, print_[:6]):
        assert find(digits, trained_lab.uri).name == name


def test_runs_are_listed_with_digits_that_name_them(trained_lab):
    said = call("runs", "--tracking-uri", trained_lab.uri)
    rows = [line.split() for line in said.out.splitlines()[2:]]
    assert {row[1] for row in rows} == {"arl", "nal"}  # "arl s0"
    for row in rows:
        run = find(row[0], trained_lab.uri)
        assert run.name == f"{row[1]} {row[2]}"
        assert row[3:7] == ["smoke", "smoke-1", "cluttershapes", "finished"]
        assert row[7] == f"{trained_lab.children()[run.name].data.metrics[names.FINAL_TEST_ERR]:.2f}"
    assert call("runs", "--tracking-uri", trained_lab.uri, "--profile", "smoke").out == said.out
    none = call("runs", "--tracking-uri", trained_lab.uri, "--study", "arl_vs_nal")
    assert (none.status, none.out) == (0, "")
    assert "that match; it has studies smoke; profiles smoke-1; data sets cluttershapes" in none.err
    assert call("runs", "--tracking-uri", "sqlite:///none.db").status == 2
    assert not Path("none.db").exists()


def test_a_folder_and_an_exported_file_need_no_store(trained_lab, tmp_path):
    run = trained_lab.children()["arl s0"]
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for name in (names.CONFIG_JSON, names.MODEL_JSON, names.WEIGHTS):
        shutil.copy(trained_lab.artifact(run, name), folder)
    made = of_store(trained_lab, "export", run.info.run_id, "--format", "safetensors", "--out", "one.safetensors")
    assert made.status == 0, made.err
    assert "64 test images: log-probabilities differ by at most 0.0e+00" in made.out
    first = json.loads(of_store(trained_lab, "evaluate", run.info.run_id, "--format", "json", "--no-log").out)
    for files in (str(folder), "one.safetensors"):
        said = call("evaluate", files, "--format", "json", "--data.root", trained_lab.data)
        assert "not logged" in said.err
        found = json.loads(said.out)["cluttershapes"]
        assert found["confusion"] == first["cluttershapes"]["confusion"]


def test_an_exported_file_names_the_folder_of_data_that_it_was_given(trained_lab, tmp_path):
    run = trained_lab.children()["arl s0"]
    for root in (None, "elsewhere"):
        out = str(tmp_path / f"{root}.safetensors")
        options = [] if root is None else ["--data.root", root]
        made = of_store(trained_lab, "export", run.info.run_id, "--format", "safetensors", "--out", out, *options)
        assert made.status == 0, made.err
        assert ran.load(out).config.data.root == (root or trained_lab.data)


def test_weights_of_the_package_are_named(trained_lab, images, tmp_path, monkeypatch):
    run = trained_lab.children()["arl s0"].info.run_id
    weights = tmp_path / "attention56-shapes.safetensors"
    made = of_store(trained_lab, "export", run, "--format", "safetensors", "--out", str(weights))
    assert made.status == 0, made.err
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    said = call(
        "predict", "attention56-shapes", str(images), "--format", "json", "--top", "2", "--tracking-uri", "none://"
    )
    assert said.status == 0, said.err
    assert [len(one["classes"]) for one in json.loads(said.out)] == [2, 2, 2]
    refused = call("predict", "attention56-shape", str(images))
    assert (refused.status, "nor weights of the package (attention56-shapes)" in refused.err) == (2, True)


def test_runs_with_settings_of_the_user_are_told_apart():
    plain = StoredRun(run_id="a", fingerprint="b" * 64, outcome=None, name="arl s0")
    changed = replace(plain, overrides={"optim.lr": 0.1, "train.steps": 10})
    header, _, *rows = runs._table([changed, plain]).splitlines()
    assert header.endswith("test error %  settings")
    assert [row.split()[-2:] for row in rows] == [["optim.lr=0.1,", "train.steps=10"], ["s0", "unfinished"]]
    assert "settings" not in runs._table([plain])


@pytest.mark.slow
def test_a_checkpoint_of_a_run_that_goes_on(lab):
    """Its configuration is in the store, and its weights are the checkpoint's."""
    assert lab.launch(*BOTH, "--cells", "learning=arl", "--keep", "last", "--checkpoint-seconds", "0").status == 0
    last, before = sorted(lab.checkpoints.glob("*/step-*.safetensors"), reverse=True)
    final, earlier = (find(str(path), lab.uri).trained.network.state_dict() for path in (last, before))
    weights = lab.weights("arl s0")
    assert all(torch.equal(final[key], weights[key]) for key in weights)
    assert not torch.equal(earlier["head.weight"], weights["head.weight"])
    run = lab.children()["arl s0"].info.run_id
    step = int(before.stem.removeprefix("step-"))
    said = call("evaluate", str(before), "--tracking-uri", lab.uri)
    assert said.out.startswith(f"arl s0 at step {step}/20 on cluttershapes: ")
    assert of_store(lab, "evaluate", run).status == 0
    points = lab.points(lab.children()["arl s0"])["evaluation_cluttershapes_loss"]
    assert [at for at, _ in points] == [step, 20]
    assert json.loads(lab.artifact(lab.children()["arl s0"], "evaluation/cluttershapes.json").read_text())["step"] == 20
    assert lab.artifact(lab.children()["arl s0"], f"evaluation/cluttershapes-step-{step}.json").exists()


@pytest.mark.slow
def test_a_reader_that_leaves_early_takes_no_log_with_it(trained_lab):
    run = trained_lab.children()["nal s0"].info.run_id
    command = [sys.executable, "-m", "experiments.evaluate", run, "--tracking-uri", trained_lab.uri, "--confusion"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**environment, "PYTHONPATH": str(ROOT)}
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert "evaluation_cluttershapes_err" in trained_lab.children()["nal s0"].data.metrics


def test_what_was_computed_is_told_even_if_it_cannot_be_logged(trained_lab, images, monkeypatch):
    run = trained_lab.children()["arl s0"].info.run_id

    def away(*arguments):
        raise StoreUnavailable("the tracking store does not answer")

    monkeypatch.setattr(Store, "log_json", away)
    said = of_store(trained_lab, "evaluate", run, "--folder", str(images))
    assert said.status == 2
    assert "3 images\nerror      top-1" in said.out
    assert said.err.splitlines()[-1].endswith("set is not logged: the tracking store does not answer")


def test_test_sets_before_a_damaged_one_are_told(trained_lab, tmp_path):
    run = trained_lab.children()["arl s0"].info.run_id
    for name, content in (
        ("fog", np.zeros((10, 16, 16, 3), np.uint8)),
        ("labels", np.zeros(10, np.int64)),
        ("zoom", None),
    ):
        (tmp_path / f"{name}.npy").write_bytes(b"junk")
        if content is not None:
            np.save(tmp_path / f"{name}.npy", content)
    said = of_store(trained_lab, "evaluate", run, "--folder", str(tmp_path), "--format", "json", "--no-log")
    assert said.status == 2
    assert "zoom.npy" in said.err
    assert list(json.loads(said.out)) == [f"{tmp_path.name}-fog"]


@pytest.mark.slow
def test_no_evaluation_overwrites_another(tmp_path, migrated_store):
    """Another size, without some, other images: each has a name of its own in the run's log."""
    lab = Lab(tmp_path / "lab")
    lab.folder.mkdir()
    shutil.copy(migrated_store, lab.store)
    make_image_folder(Path(lab.data), classes=2, train_images=8, test_images=3, side=40)
    small = ("--data.image_size", "32", "--cells", "network=attention56_imagenet", "--seeds", "0")
    few = ("--train.steps", "1", "--data.train_images", "16", "--data.val_images", "0", "--data.test_images", "5")
    assert lab.launch("--profile", "smoke", *small, *few, study="imagenet").status == 0
    experiment = lab.client.get_experiment_by_name("ran/imagenet")
    filter_ = f"tags.`{names.FINGERPRINT}` != ''"
    (run,) = lab.client.search_runs([experiment.experiment_id], filter_)
    (tmp_path / "first.txt").write_text("n00/n00_0.JPEG\n")
    other = tmp_path / "other"
    make_image_folder(other, classes=2, train_images=8, test_images=4, side=40)
    own, exclude = f"{lab.data}/imagenet/val", ("--exclude", str(tmp_path / "first.txt"))
    for arguments in (
        (), ("--size", "32"), ("--size", "48"), exclude, ("--data.root", str(other)),
        ("--folder", own), ("--folder", own, "--size", "48"), ("--folder", own, *exclude),
    ):  # fmt: skip
        said = of_store(lab, "evaluate", run.info.run_id, *arguments)
        assert said.status == 0, said.err
        assert ("has other images of imagenet than the run" in said.err) is (str(other) in arguments)
    logged = lab.client.get_run(run.info.run_id)
    named = {key.split("_")[1] for key in logged.data.metrics if key.startswith("evaluation_")}
    (of_other,) = (name for name in named if re.fullmatch("imagenet-[0-9a-f]{8}", name))
    assert named == {
        "imagenet", "imagenet-48", "imagenet-without-first", of_other,
        "imagenet-val", "imagenet-val-48", "imagenet-val-without-first",
    }  # fmt: skip
    record = json.loads(lab.artifact(logged, "evaluation/imagenet-without-first.json").read_text())
    assert (record["images"], Path(record["exclude"]).name) == (5, "first.txt")


def test_an_output_that_cannot_be_written_is_one_line():
    command = [
        sys.executable,
        "-c",
        "from records.command import entry; entry('evaluate', lambda: print('ninety') or 0)",
    ]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    assert (done.returncode, done.stderr) == (2, "evaluate: the output cannot be written (No space left on device)\n")


def test_json_is_whole_even_if_it_is_cut_off_while_a_line_is_printed():
    lines = FORMATS["json"](iter([Prediction("a.png", [("circle", 1.0)]), Prediction("b.png", [])]), (1, 1), 1)
    said = [next(lines), lines.throw(KeyboardInterrupt())]
    assert [one["image"] for one in json.loads("".join(said))] == ["a.png"]
    with pytest.raises(KeyboardInterrupt):
        next(lines)


@pytest.mark.slow
def test_an_export_that_fails_leaves_nothing(trained_lab, monkeypatch):
    run = trained_lab.children()["arl s0"].info.run_id
    with monkeypatch.context() as patch:
        patch.setattr("ran.export.TOLERANCE", -1.0)
        said = of_store(trained_lab, "export", run, "--format", "pt2", "--out", "there/net.pt2")
    assert said.status == 2
    assert "computes something else" in said.err
    assert list(Path("there").iterdir()) == []
    Path("file").write_text("")
    said = of_store(trained_lab, "export", run, "--format", "safetensors", "--out", "file/net.safetensors")
    assert (said.status, said.err.count("\n")) == (2, 1)


def test_other_images_by_folder(trained_lab, images):
    run = trained_lab.children()["arl s0"].info.run_id
    said = of_store(trained_lab, "evaluate", run, "--folder", str(images))
    assert said.status == 0, said.err
    assert said.out.startswith(f"arl s0 on {images.parent.name}-set: 3 images\n")
    untested = [name for name in cluttershapes.CLASSES if not (images / name).exists()]
    assert f"\nno images of 7 of 10 classes: {', '.join(untested[:3])}, ...\n" in said.out
    arrays = images.parent / "arrays"
    arrays.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    labels = np.repeat([[3, 1]], 5, 0).flatten()
    for name, content in (("fog", pixels), ("snow", pixels[::-1]), ("spatter", pixels), ("labels", labels)):
        np.save(arrays / f"{name}.npy", content)
    said = of_store(trained_lab, "evaluate", run, "--folder", str(arrays), "--format", "json")
    assert said.status == 0, said.err
    found = {name: record["err"] for name, record in json.loads(said.out).items()}
    logits = find(run, trained_lab.uri).trained.logits(torch.tensor(pixels).permute(0, 3, 1, 2))
    wrong = (logits.argmax(1) != torch.tensor(labels)).view(5, 2).double().mean(1)
    assert json.loads(said.out)["arrays-fog"]["severity_err"] == (100 * wrong).tolist()
    assert json.loads(said.out)["arrays-fog"]["err_interval"] is None, "each image is there five times"
    said = of_store(trained_lab, "evaluate", run, "--folder", str(arrays), "--confusion")
    assert said.status == 0, said.err
    assert f"severity   1: {100 * wrong[0]:.2f} %, 2: " in said.out
    all_three, two = (sum(found[f"arrays-{name}"] for name in names) / len(names) for names in (
        ("fog", "snow", "spatter"), ("fog", "snow")))  # fmt: skip
    assert f"mean top-1 error over the 3: {all_three:.2f} %; over 2, without gaussian_blur" in said.out
    assert said.out.endswith(f": {two:.2f} %\n")
    np.save(arrays / "fog_labels.npy", labels)  # its own: that they repeat is chance, as in cluttershapes
    said = of_store(trained_lab, "evaluate", run, "--folder", str(arrays), "--format", "json", "--no-log")
    assert [json.loads(said.out)[f"arrays-{name}"]["severity_err"] is None for name in ("fog", "snow")] == [True, False]
    assert {"evaluation_arrays-fog_err", "evaluation_arrays-snow_ece"} <= trained_lab.children()[
        "arl s0"
    ].data.metrics.keys()


def test_predictions_agree_in_every_form(trained_lab, images):
    run = trained_lab.children()["arl s0"].info.run_id
    table = of_store(trained_lab, "predict", run, str(images), "--top", "2")
    rows = list(csv.DictReader(io.StringIO(of_store(trained_lab, "predict", run, str(images), "--format", "csv").out)))
    found = json.loads(of_store(trained_lab, "predict", run, str(images), "--format", "json", "--top", "10").out)
    assert [one["image"] for one in found] == sorted(map(str, images.rglob("*.png")))
    lines = [line.split()[:3] for line in table.out.splitlines()]
    for one in found:
        assert sum(c["probability"] for c in one["classes"]) == pytest.approx(1, abs=1e-5)
        ours = [row for row in rows if row["image"] == one["image"]]
        assert [row["class"] for row in ours] == [c["class"] for c in one["classes"][:5]]
        best = one["classes"][0]
        assert [one["image"], best["class"], f"{100 * best['probability']:.1f}"] in lines
    trained = find(run, trained_lab.uri).trained
    pixels = torch.stack([trained.interface.read(one["image"]) for one in found])
    predicted = trained.logits(pixels).argmax(1).tolist()
    assert [one["classes"][0]["class"] for one in found] == [trained.interface.classes[k] for k in predicted]


def test_stdin_is_an_image_or_paths(trained_lab, images):
    run = trained_lab.children()["arl s0"].info.run_id
    paths = sorted(images.rglob("*.png"))

    def classes(*arguments: str, stdin: bytes = b"") -> list:
        said = of_store(trained_lab, "predict", run, *arguments, "--format", "json", stdin=stdin)
        assert said.status == 0, said.err
        return json.loads(said.out)

    by_file = classes(*map(str, paths))
    assert classes("-", stdin="\n".join(map(str, paths)).encode()) == by_file
    for neither in (b"-\n", b"<html>" * 100):
        assert of_store(trained_lab, "predict", run, "-", stdin=neither).status == 2
    (piped,) = classes("-", stdin=paths[1].read_bytes())
    assert piped["image"] == "-"
    # Alone in its batch, so rounded otherwise.
    assert [found["class"] for found in piped["classes"]] == [found["class"] for found in by_file[1]["classes"]]
    assert [found["probability"] for found in piped["classes"]] == pytest.approx(
        [found["probability"] for found in by_file[1]["classes"]], abs=1e-5
    )


def test_pictures_of_masks(trained_lab, images):
    run = trained_lab.children()["arl s0"].info.run_id
    said = of_store(trained_lab, "predict", run, str(images), "--masks", "pictures")
    assert said.status == 0, said.err
    assert "wrote 3 pictures into pictures" in said.err
    written = sorted(Path("pictures").iterdir())
    sources = sorted(images.rglob("*.png"))
    assert [path.name for path in written] == [f"{i:04}-{p.parent.name}-{p.name}" for i, p in enumerate(sources)]
    for path in written:
        with Image.open(path) as picture:
            assert picture.width > picture.height > 300
            assert len(picture.convert("RGB").getcolors(2**24)) > 500
    odd = f"{'long' * 60}\n"
    shutil.copy(sources[0], f"{odd}.png")
    said = of_store(trained_lab, "predict", run, f"{odd}.png", "--masks", "odd")
    assert (said.status, [path.suffix for path in Path("odd").iterdir()]) == (0, [".png"])
    assert next(Path("odd").iterdir()).name.isprintable()
    said = of_store(trained_lab, "predict", run, "-", "--masks", "piped", stdin=sources[0].read_bytes())
    assert (said.status, [path.name for path in Path("piped").iterdir()]) == (0, ["0000-stdin.png"])


@pytest.mark.parametrize(("modules", "blocks"), [(3, 1), (6, 2)])
def test_a_picture_shows_masks_on_one_scale_and_their_true_product(modules, blocks):
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks = {
        f"m{i}": mask_overlays.ShownMask(
            channel=i, varied=torch.linspace(0.01 * i, 0.9, 64).reshape(8, 8),
            mean=torch.linspace(0.4 + 0.01 * i, 0.6, 64).reshape(8, 8),
        )
        for i in range(modules)
    }  # fmt: skip
    figure = mask_overlays.picture("circle/$0.png", image, masks, {name: name for name in masks}, [("circle", 0.5)])
    rows = [[panel for panel in figure.axes if panel.get_ylabel() == label] for label in mask_overlays.ROWS]
    assert [len(row) for row in rows] == [blocks] * 3
    by_title = {panel.get_title(): panel.images[0] for panel in figure.axes if panel.get_title().startswith("m")}
    assert by_title.keys() == {f"m{i}, channel {i}" for i in range(modules)}
    for shown, mask in zip(by_title.values(), masks.values(), strict=True):
        assert shown.get_clim() == (0, 1)
        assert np.array_equal(shown.get_array(), mask.varied)
    expected = (image * masks["m0"].varied).round().byte().permute(1, 2, 0)
    assert np.array_equal(rows[1][0].images[0].get_array(), expected)
    assert rows[2][0].get_title() == "0.40 to 0.60"
    assert rows[2][0].images[0].get_clim() == pytest.approx((0.4, 0.6))
    figure.canvas.draw()  # names with a $ too


def test_masks_of_one_value_are_shown_alike():
    """Those of SE and ECA are the same at every position."""
    flat = {value: torch.full((4, 4), value) for value in (0.5, 0.7)}
    masks = {str(value): mask_overlays.ShownMask(channel=0, varied=mask, mean=mask) for value, mask in flat.items()}
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    figure = mask_overlays.picture("0.png", image, masks, {name: name for name in masks}, [])
    own = [panel.images[0] for panel in figure.axes if panel.get_title().endswith(("0.50", "0.70"))]
    assert [shown.get_clim() for shown in own] == [pytest.approx((value, value)) for value in (0.5, 0.7)]
    figure.canvas.draw()


def test_the_channel_that_varies_most_is_shown(trained_lab, images):
    trained = find(trained_lab.children()["arl s0"].info.run_id, trained_lab.uri).trained
    pixels = torch.stack([trained.interface.read(str(path)) for path in sorted(images.rglob("*.png"))])
    shown = mask_overlays.shown_masks(trained, pixels)
    expected = soft_masks(trained.network, pixels, trained.interface.normalization)
    assert [one.keys() for one in shown] == [expected.keys()] * 3
    for name, found in expected.items():
        for one, masks in zip(shown, found.mask.float(), strict=True):  # (C, h, w)
            spreads = [mask.numpy().std() for mask in masks]
            assert one[name].channel == np.argmax(spreads)
            assert one[name].varied.shape == one[name].mean.shape == pixels.shape[2:]
            large = torch.nn.functional.interpolate(masks[None], pixels.shape[2:], mode="bilinear", align_corners=True)[
                0
            ]
            torch.testing.assert_close(one[name].varied, large[one[name].channel])
            torch.testing.assert_close(one[name].mean, large.mean(0))


def test_masks_outside_0_to_1():
    """Those of channel attention can be negative, and a user's own can be anything."""
    mask = torch.tensor([[-0.2, 0.5], [1.0, 1.5]])
    assert mask_overlays.scale([mask]) == (-1, 2)
    assert mask_overlays.scale([mask.clamp(0, 1)]) == (0, 1)
    product = mask_overlays.product(torch.full((3, 2, 2), 200, dtype=torch.uint8), mask)
    assert product[..., 0].tolist() == [[0, 100], [200, 255]]


def test_damaged_images_can_be_left_out(trained_lab, images, tmp_path):
    run = trained_lab.children()["arl s0"].info.run_id
    (tmp_path / "bad.png").write_text("no image")
    said = of_store(
        trained_lab, "predict", run, str(images), str(tmp_path / "bad.png"), "--skip-damaged", "--format", "json"
    )
    assert said.status == 1
    assert len(json.loads(said.out)) == 3
    assert "bad.png: not an image that can be read" in said.err


def test_classes_by_other_names(trained_lab, images, tmp_path):
    run = trained_lab.children()["arl s0"].info.run_id
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{name} the {name}, or so\n" for name in cluttershapes.CLASSES))
    plain, other = (
        json.loads(of_store(trained_lab, "predict", run, str(images), "--format", "json", *arguments).out)
        for arguments in ((), ("--names", str(names)))
    )
    assert [c["class"] for c in other[0]["classes"]] == [f"the {c['class']}" for c in plain[0]["classes"]]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_what_is_predicted_is_said_before_a_damaged_image_ends_it(form, trained_lab, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 2)
    run = trained_lab.children()["arl s0"].info.run_id
    (tmp_path / "bad.png").write_bytes(next(images.rglob("*.png")).read_bytes()[:-30])
    said = of_store(trained_lab, "predict", run, str(images), str(tmp_path / "bad.png"), "--format", form, "--top", "1")
    assert said.status == 2
    assert "leave it out by --skip-damaged" in said.err
    assert said.err.count("\n") == 1
    shown = sorted(map(str, images.rglob("*.png")))[:2]
    if form == "json":
        assert [one["image"] for one in json.loads(said.out)] == shown
    else:
        assert [line.split(",")[0].split()[0] for line in said.out.splitlines()][-2:] == shown


def test_names_that_are_no_text_and_pictures_that_are_transparent(trained_lab, tmp_path):
    run = trained_lab.children()["arl s0"].info.run_id
    folder = tmp_path / "set"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    pixels[:16, :, 3], pixels[16:, :, 3] = 0, 255
    Image.fromarray(pixels).save(folder / "a.png")
    opaque = np.where(pixels[..., 3:] == 255, pixels[..., :3], 255).astype(np.uint8)
    Image.fromarray(opaque).save(os.fsencode(folder) + b"/\xff.png")
    said = of_store(trained_lab, "predict", run, str(folder), "--format", "json")
    assert said.status == 0, said.err
    transparent, white = json.loads(said.out)
    assert Path(white["image"]).name == "\\xff.png"
    assert transparent["classes"] == white["classes"]
    table = of_store(trained_lab, "predict", run, str(folder))
    assert table.status == 0
    assert "\\xff.png" in table.out


def test_an_export_is_written_once(trained_lab):
    run = trained_lab.children()["nal s0"].info.run_id
    arguments = (run, "--format", "safetensors", "--out", "there/one.safetensors")
    said = of_store(trained_lab, "export", *arguments)
    assert said.status == 0, said.err
    assert "64 random images: log-probabilities differ by at most" in said.out
    assert "wrote there/one.safetensors" in said.out
    again = of_store(trained_lab, "export", *arguments)
    assert (again.status, again.out) == (2, "")
    assert "exists already" in again.err


def test_the_response_of_the_stages(trained_lab):
    run = trained_lab.children()["nal s0"]
    said = of_store(trained_lab, "response", run.info.run_id)
    assert said.status == 0, said.err
    probes = json.loads(trained_lab.artifact(run, names.PROBES_JSON).read_text())
    absolute = " ".join(f"{r:.4g}" for r in probes["response"]["mean_abs"])
    assert said.out.startswith("nal s0, 64 test images: relative response 1.000 ")
    assert said.out.endswith(f"(absolute {absolute})\n")
    assert of_store(trained_lab, "response", run.info.run_id, "--images", "3").out.startswith("nal s0, 3 test images: ")


@pytest.mark.slow
@pytest.mark.slow
def test_an_export_that_was_killed_is_not_in_the_way(trained_lab):
    """What it left is of another process."""
    run, partial = trained_lab.children()["arl s0"].info.run_id, Path(".model.1.partial")
    partial.mkdir()
    (partial / "MLmodel").touch()
    said = of_store(trained_lab, "export", run, "--format", "mlflow", "--out", "model")
    assert said.status == 0, said.err
    assert sorted(path.name for path in Path().iterdir()) == [".model.1.partial", "model"]


@pytest.mark.slow
def test_an_mlflow_model_says_what_it_takes_and_gives(trained_lab):
    import mlflow

    run = trained_lab.children()["arl s0"].info.run_id
    said = of_store(trained_lab, "export", run, "--format", "mlflow", "--out", "model")
    assert said.status == 0, said.err
    assert "64 test images: log-probabilities differ by at most" in said.out
    info = mlflow.models.get_model_info("model")
    assert str(info.signature.inputs) == "[Tensor('uint8', (-1, 3, 16, 16))]"
    assert info.metadata["classes"] == list(cluttershapes.CLASSES)
    required = Path("model/requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in required] == ["torch", "numpy", "mlflow"]
    assert not any("+" in line for line in required)  # a local version is on no index


@pytest.mark.slow
def test_mlflow_serves_the_same_prediction(trained_lab, images, tmp_path):
    run = trained_lab.children()["arl s0"].info.run_id
    assert of_store(trained_lab, "export", run, "--format", "mlflow", "--out", "model").status == 0
    path = min(images.rglob("*.png"))
    said = of_store(trained_lab, "predict", run, str(path), "--top", "10", "--format", "json")
    expected = {c["class"]: c["probability"] for c in json.loads(said.out)[0]["classes"]}
    with np.errstate(all="raise"), Image.open(path) as image:
        pixels = np.asarray(image).transpose(2, 0, 1)[None]
    port = str(free_port())
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "model", "--env-manager", "local", "-p", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            wait_for_server(f"http://127.0.0.1:{port}/ping", server)
            answer = ask(f"http://127.0.0.1:{port}/invocations", {"inputs": pixels.tolist()})
        finally:
            server.terminate()
    assert answer["predictions"][0] == pytest.approx([expected[name] for name in cluttershapes.CLASSES], abs=1e-5)


def wait_for_server(url: str, server: subprocess.Popen, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, server.stdout.read()
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError("no answer")


def ask(url: str, content: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=180) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory, migrated_store) -> Lab:
    """A store with a run that diverged, one without artifacts and one that failed."""
    torch.set_num_threads(1)
    lab = Lab(tmp_path_factory.mktemp("unfinished"))
    shutil.copy(migrated_store, lab.store)
    one = ("--cells", "learning=arl")
    assert lab.launch(*one, "--optim.lr", "1e30", "--optim.momentum", "0.0").status == 0
    assert lab.launch(*one, "--keep", "none", "--train.steps", "2").status == 0
    return lab


def outcome(lab: Lab, wanted: str) -> str:
    return next(
        run.info.run_id
        for run in lab.all_runs()
        if run.data.tags.get(names.OUTCOME) == wanted and names.FINGERPRINT in run.data.tags
    )


def test_runs_without_a_network_to_use(unfinished):
    for wanted, message in (
        (names.DIVERGED, "not finite; the run diverged"),
        (
            names.FINISHED,
            "no weights: it was trained with --keep none, or restored from an archive, or",
        ),
    ):
        said = of_store(unfinished, "evaluate", outcome(unfinished, wanted))
        assert (said.status, said.out) == (2, "")
        assert message in said.err
        assert said.err.count("\n") == 1


@pytest.mark.slow
def test_a_run_that_was_killed_names_its_checkpoints(lab):
    from experiments.tracking.store import Store

    assert lab.launch(*BOTH, "--cells", "learning=arl").status == 0
    run = lab.children()["arl s0"]
    Store.peek(lab.uri).set_tags(run.info.run_id, {names.OUTCOME: names.KILLED})
    (weights,) = lab.folder.rglob(f"mlruns/**/{names.WEIGHTS}")
    weights.unlink()
    said = of_store(lab, "predict", run.info.run_id, "x.png")
    assert said.status == 2
    print_ = run.data.tags[names.FINGERPRINT]
    assert said.err.startswith("predict: arl s0 is killed and has no final weights; repeat its launch")
    assert f"(checkpoints/{print_[:16]}/step-*.safetensors) instead\n" in said.err


BAD: list[tuple[str, Sequence[str], str]] = [
    ("evaluate", ["zzz"], "no run 'zzz': neither a file or folder, nor an MLflow run id"),
    ("evaluate", ["123456"], "has no run 123456, by id or fingerprint; python -m experiments.runs lists"),
    ("evaluate", ["123456", "--tracking-uri", "sqlite:///none.db"], "no tracking store sqlite:///none.db"),
    ("evaluate", ["RUN", "--data", "cifar1"], "unknown data set 'cifar1'. Did you mean 'cifar10'?"),
    ("evaluate", ["RUN", "--data", "cifar10", "--data.root", "cifar"], "does not fit: the network has 10 classes"),
    ("evaluate", ["RUN", "--folder", "nowhere"], "no folder nowhere"),
    ("evaluate", ["RUN", "--folder", "empty"], "empty holds no folders, one for each class"),
    ("evaluate", ["RUN", "--folder", ".", "--data", "cifar10"], "--folder cannot be combined with --data, "),
    ("evaluate", ["RUN", "--size", "64"], "was trained on images of one size, 16"),
    ("evaluate", ["RUN", "--exclude", "list"], "data.damaged and data.exclude are of image folders"),
    ("evaluate", ["RUN", "--import", "no_such_module"], "No module named 'no_such_module'"),
    ("evaluate", [], "the following arguments are required: RUN"),
    ("predict", ["RUN", "none.png"], "no file or folder none.png"),
    ("predict", ["RUN", "empty"], "empty holds no images"),
    ("predict", ["RUN", "text.png"], "text.png: not an image that can be read"),
    ("predict", ["RUN", "text.png", "--top", "0"], "--top must be at least 1"),
    ("predict", ["RUN", "splits", "--names", "text.png"], "text.png has no name for 10 of 10 classes (circle, ...)"),
    ("predict", ["RUN", "splits", "--names", "none"], "--names: none cannot be read"),
    ("predict", ["RUN", "text.png", "--size", "64"], "was trained on images of one size, 16"),
    ("predict", ["RUN", "x" * 300], "no file or folder xxx"),
    ("predict", ["RUN", "-"], "stdin holds neither an image nor paths of images"),
    ("evaluate", ["RUN", "--folder", "splits"], "splits holds val, which is no class; name splits/val"),
    ("evaluate", ["RUN", "--folder", "broken"], "circle/a.png: not an image that can be read (cannot identify image"),
    ("evaluate", ["RUN", "--folder", "broken"], "; replace it, or leave it out by --exclude\n"),
    ("evaluate", ["RUN", "--folder", "both"], "both holds arrays (fog) and folders (val); test them apart"),
    ("evaluate", ["RUN", "--folder", "arrays", "--exclude", "text.png"], "--exclude needs folders of images"),
    ("evaluate", ["RUN", "--folder", "splits/val", "--exclude", "no"], "--exclude: no cannot be read"),
    ("response", ["RUN", "--images", "0"], "--images must be at least 1"),
    ("export", ["RUN", "--format", "tflite"], "invalid choice: 'tflite'"),
    ("export", ["RUN", "--format", "pt2", "--out", "empty"], "empty exists already"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "arguments", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else v
)
def test_bad_input(command, arguments, message, trained_lab, capsys):
    Path("empty").mkdir()
    Path("splits/val/circle").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("splits/val/circle/a.png")
    Path("broken/circle").mkdir(parents=True)
    Path("broken/circle/a.png").write_text("hello")
    for name in ("arrays", "both"):
        Path(name).mkdir()
        for file in ("fog", "labels"):
            np.save(f"{name}/{file}.npy", np.zeros(1))
    Path("both/val").mkdir()
    Path("text.png").write_text("hello")
    make_cifar10(Path("cifar"), train_images=10, test_images=10)
    run = trained_lab.children()["arl s0"].info.run_id
    store = [] if "--tracking-uri" in arguments or not arguments else ["--tracking-uri", trained_lab.uri]
    before = sorted(p.name for p in Path().iterdir())
    said = call(command, *(run if a == "RUN" else a for a in arguments), *store)
    assert (said.status, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1, said.err
    assert sorted(p.name for p in Path().iterdir()) == before


def test_a_data_set_that_is_not_there_is_downloaded_when_asked(monkeypatch):
    def fetch(url, root, **_):
        make_cifar10(Path(root), train_images=10, test_images=10)

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
    said = call("evaluate", "attention56-cifar10")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.endswith("put the official archive's folder cifar-10-batches-py under --data.root, or pass "
                             "--data.download\n")  # fmt: skip
    assert not Path("data").exists()
    said = call("evaluate", "attention56-cifar10", "--data.download")
    assert Path("data/cifar-10-batches-py/test_batch").exists()
    assert "does not fit: the network has 10 classes (airplane, " in said.err  # these random pixels have other names


@pytest.mark.parametrize("command", COMMANDS)
def test_help_reads_well_at_80_columns(command):
    environment = {"COLUMNS": "80", "PYTHONPATH": str(ROOT), "PATH": ""}
    said = subprocess.run(
        [sys.executable, "-m", f"experiments.{command}", "--help"], capture_output=True, text=True, env=environment
    )
    assert said.returncode == 0, said.stderr
    assert max(map(len, said.stdout.splitlines())) <= 80


def test_a_folder_with_pictures_of_other_formats_names_them(trained_lab, images, tmp_path):
    shutil.copytree(images, tmp_path / "photos")
    for name in ("a.heic", "b.gif", "c.avif", "d.jfif", "notes.txt"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    run = trained_lab.children()["arl s0"].info.run_id
    said = of_store(trained_lab, "predict", run, str(tmp_path / "photos"), "--format", "csv", "--top", "1")
    assert (said.status, len(said.out.splitlines())) == (0, 4)
    skipped = "4 pictures of other formats (1 .avif, 1 .gif, 1 .heic, 1 .jfif)"
    assert said.err.splitlines() == [f"left out of {tmp_path}/photos: {skipped}; name a file to have it read"]


def test_names_with_a_newline_keep_tables_whole():
    line = Prediction("two\nlines.png", [("a\tclass\nof lines", 0.5)])
    table = list(FORMATS["table"](iter([line]), (20, 20), 1))
    assert table[2].startswith("two lines.png")
    assert "a class of lines 50.0 %" in table[2]
    assert len("\n".join(table).splitlines()) == 3
    assert columns(("class",), [("a\nb",)]).splitlines()[-1] == "a b"


def test_the_file_of_an_export_has_its_suffix_while_it_is_written(trained_lab, monkeypatch, caplog):
    """torch warns that it is unable to load a package of another name, and then loads it."""
    paths = []

    def write(trained, path, *, name):
        paths.append(path)
        raise UserError("enough")

    monkeypatch.setattr("ran.export.export", write)
    run = trained_lab.children()["arl s0"].info.run_id
    assert of_store(trained_lab, "export", run, "--format", "pt2", "--out", "net.pt2").err.endswith("enough\n")
    assert paths[0].suffix == ".pt2"
    assert paths[0] != Path("net.pt2")
