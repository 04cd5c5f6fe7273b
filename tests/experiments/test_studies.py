"""Every study runs to its end in the smoke profile, and says what its docstring must say."""

import re
import shutil

import numpy as np
import pytest
from lab import Lab, make_cifar10, make_image_folder

from experiments.catalog import load_study, study_names
from experiments.prepare import base_config
from experiments.profiles import PROFILES
from ran.config import check
from ran.engine.optim import SCHEDULES
from ran.models.cost import cost
from ran.models.zoo import network_spec
from records import names

ON_CIFAR = ["cifar", "human_noise"]
OF_ONE_PROFILE = [name for name in study_names() if load_study(name).profile not in (None, "smoke")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory, migrated_store):
    """One store for all studies: what they share is trained once."""
    lab = Lab(tmp_path_factory.mktemp("studies"))
    shutil.copy(migrated_store, lab.store)
    return lab


def _marked(name):
    """All but the least are left to the slow tests."""
    return name if name in ("smoke", "mask_type", "cifar") else pytest.param(name, marks=pytest.mark.slow)


def runs_to_the_end(lab, name, *arguments):
    arguments = arguments if name == "smoke" else ("--profile", "smoke", *arguments)
    said = lab.launch(*arguments, "--seeds", "0", study=name)
    assert said.status == 0, said.err
    study = load_study(name)
    for cell in study.cells:
        assert all(axis.label(cell.values[axis.name]) in said.out for axis in study.axes), said.out
    return said


@pytest.mark.parametrize("name", [_marked(name) for name in study_names()
                                  if name not in [*ON_CIFAR, *OF_ONE_PROFILE, "imagenet"]])  # fmt: skip
def test_every_study_runs_to_its_end(name, shared):
    runs_to_the_end(shared, name)
    again = runs_to_the_end(shared, name)
    assert "0 of " in again.err, "a second launch trains nothing"


@pytest.mark.slow
def test_what_studies_share_ran_once(shared):
    """In one store, whatever the order of the tests above: Attention-56 with ARL is in six studies."""
    for name in ("mask_type", "controls", "gates"):
        runs_to_the_end(shared, name)
    runs = [run for run in shared.all_runs() if names.FINGERPRINT in run.data.tags]
    assert len({run.data.tags[names.FINGERPRINT] for run in runs}) == len(runs)
    alike = [r for r in runs if (r.data.params["model.name"], r.data.params["model.width"]) == ("attention56", "0.125")]
    fields = ("model.learning", "model.mask_activation", "model.mask_structure", "data.noise")
    assert len({tuple(run.data.params[f] for f in fields) for run in alike}) == len(alike)


@pytest.mark.slow
@pytest.mark.parametrize("name", [_marked(name) for name in ON_CIFAR])
def test_studies_on_cifar_run_to_their_end(name, lab):
    """On a made CIFAR-10, a thousandth of the real one's size."""
    clean = make_cifar10(lab.folder / "data", train_images=200, test_images=64)
    keys = ("clean_label", "aggre_label", "random_label1", "worse_label")
    human = {key: clean if key == "clean_label" else (clean + (np.arange(len(clean)) % 3 == 0)) % 10 for key in keys}
    np.savez(lab.folder / "data" / "cifar10n.npz", **{key: value.astype(np.uint8) for key, value in human.items()})
    one = {"cifar": ("network=wrn16_8", "network=attention92"), "human_noise": ("labels=clean", "labels=worse")}[name]
    cells = [word for cell in one for word in ("--cells", cell)]
    said = lab.launch("--profile", "smoke", "--seeds", "0", *cells, study=name)
    assert said.status == 0, said.err
    assert "data cifar10" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ONE_PROFILE)
def test_studies_that_no_other_profile_shrinks_are_planned(name, lab):
    make_cifar10(lab.folder / "data", train_images=5_064, test_images=64)
    said = lab.launch("--seeds", "0", "--train.kernels", "auto", "--dry-run", study=name)
    assert said.status == 0, said.err
    runs = len(load_study(name).cells)
    assert f"{runs} of {runs} runs to do" in said.out
    assert len(re.findall(r" s0 +new ", said.out)) == runs


@pytest.mark.slow
def test_precisions_are_compared(lab):
    small = "--data.val_images 16 --data.train_images 64 --data.test_images 32 --model.width 0.125 --train.evals 1"
    said = lab.launch(*small.split(), "--data.name", "cluttershapes", "--train.steps", "4", "--seeds", "0,1",
                      study="precision")  # fmt: skip
    assert said.status == 0, said.err
    assert re.search(r"bfloat16 by autocast .* \[", said.out)
    assert {run.data.params["train.precision"] for run in lab.children().values()} == {"float32", "bf16"}


@pytest.mark.parametrize("name", ON_CIFAR)
def test_a_study_that_needs_cifar_says_so(name, lab):
    said = lab.launch("--profile", "smoke", study=name)
    assert said.status == 2
    assert "cifar-10-batches-py" in said.err
    said = lab.launch("--profile", "smoke", "--data.name", "cluttershapes", study=name)
    assert said.status == 2
    assert "needs the data set cifar10" in said.err


@pytest.mark.slow
def test_imagenet_runs_to_its_end(lab):
    """On a made folder of tiny images: the baseline, and masks with the groups that need a quarter of the width."""
    make_image_folder(lab.folder / "data", classes=6, train_images=27, test_images=2)
    arguments = ("--profile", "smoke", "--seeds", "0")
    planned = lab.launch(*arguments, "--dry-run", study="imagenet")
    assert planned.status == 0, planned.err
    assert "6 of 6 runs to do" in planned.out
    chosen = ("--cells", "network=resnet152_imagenet", "--cells", "network=attentionnext56_imagenet")
    said = lab.launch(*arguments, *chosen, study="imagenet")
    assert said.status == 0, said.err
    assert "data imagenet" in said.err
    for name in ("ResNet-152", "AttentionNeXt-56"):
        assert re.search(rf"{name} .*\d\.\d\d", said.out), said.out
    assert "0 of 2 runs to do" in lab.launch(*arguments, *chosen, study="imagenet").err
    experiment = lab.client.get_experiment_by_name("ran/imagenet")
    runs = [r for r in lab.client.search_runs([experiment.experiment_id]) if names.FINGERPRINT in r.data.tags]
    assert len(runs) == 2
    for run in runs:
        assert run.data.metrics[names.FINAL_TEST_ERR5] <= run.data.metrics[names.FINAL_TEST_ERR]
        assert run.data.params["data.official_images"] == "162"
        assert not [a.path for a in lab.client.list_artifacts(run.info.run_id) if a.path == "probe_error.txt"]


def test_imagenet_is_the_papers_protocol_and_tests_at_table_7s_sizes():
    study = load_study("imagenet")
    sizes = {cell.settings["model.name"]: cell.settings["data.test_size"] for cell in study.cells}
    assert sizes == {
        "resnet152_imagenet": None, "attention56_imagenet": None, "resnext101_32x4d_imagenet": None,
        "attentionnext56_imagenet": None, "attentioninception56_imagenet": 299, "attention92_imagenet": 320,
    }  # fmt: skip
    paper = base_config(study, PROFILES["paper"])
    assert (paper.data.image_size, paper.data.val_images, paper.optim.lr, paper.train.steps) == (None, 0, 0.1, 530_000)
    rate = SCHEDULES[paper.optim.schedule]
    falls = [s for s in range(0, 530_000, 1_000) if s and rate(s, 530_000) < rate(s - 1, 530_000)]
    assert falls == [200_000, 400_000, 500_000]
    for profile in PROFILES.values():
        check(base_config(study, profile))


def test_imagenet_says_what_it_needs(lab):
    said = lab.launch("--profile", "smoke", study="imagenet")
    assert said.status == 2
    assert "/imagenet/train/<class>/<image>" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", study_names())
def test_docstrings_say_claim_command_and_cost(name):
    study = load_study(name)
    assert f"python run_ablation.py --study {name}" in study.doc
    assert "Cost:" in study.doc
    assert "Expect:" in study.doc or name == "smoke"
    if study.table is not None:
        assert f"Table {study.table}" in study.doc
        assert "Claim:" in study.doc
        assert "Paper" in study.doc
    assert len(study.doc.splitlines()[0]) <= 120


@pytest.mark.parametrize("name", study_names())
def test_every_profile_has_a_config_for_every_study(name):
    study = load_study(name)
    for profile in PROFILES.values():
        config = base_config(study, profile)
        assert not study.requires or config.data.name in study.requires
        for field in (field for fields in study.settings.values() for field in fields):
            assert field not in study.axis_fields, "a profile must not set what an axis varies"


def test_short_noise_studies_pass_twenty_times_over_their_images():
    for name in ("noisy_labels", "human_noise"):
        config = base_config(load_study(name), PROFILES["short"])
        assert config.train.steps * config.train.batch_size / config.data.train_images == 20


@pytest.mark.parametrize("width", [1.0, 0.5, 0.25, 0.125])
def test_the_trunk_of_controls_is_the_deepest_that_costs_no_more(width):
    """Its units all cost the same, so one more, wherever it stands, must exceed the attention network's MACs."""

    def macs(name, **options):
        return cost(network_spec(name, width=width, **options), num_classes=10, image_size=32).macs

    attention, trunk, bare = macs("attention56"), macs("attention56_trunk"), macs("attention56", mask_structure="none")
    one_unit = (trunk - bare) / 7
    assert trunk <= attention < trunk + one_unit


def test_settings_of_an_unknown_profile_are_refused(lab):
    content = '''"""Mine."""
from experiments.study import Study, axis

STUDY = Study(
    name="mine", title="Mine", axes=(axis("rate", (0.1,), field="optim.lr"),),
    settings={"shrot": {"data.train_images": 10}},
)
'''
    said = lab.launch("--profile", "smoke", study=lab.study(content))
    assert said.status == 2
    assert re.search(r"unknown profile 'shrot'.*short", said.err)


def test_a_study_over_data_sets_is_refused(lab):
    content = '''"""Mine."""
from experiments.study import Study, axis

STUDY = Study(name="mine", title="Mine", axes=(axis("data", ("cifar10", "cifar100"), field="data.name"),))
'''
    said = lab.launch("--profile", "smoke", study=lab.study(content))
    assert said.status == 2
    assert "--data.name" in said.err


def test_a_network_that_cannot_be_probed_keeps_its_run(lab, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no stages here")

    monkeypatch.setattr("ran.snapshot.probes", broken)
    said = lab.launch("--cells", "learning=arl")
    assert said.status == 0, said.err
    run = lab.children()["arl s0"]
    assert run.data.tags[names.OUTCOME] == names.FINISHED
    assert "no stages here" in lab.artifact(run, "probe_error.txt").read_text()
    assert lab.weights("arl s0")


@pytest.mark.slow
def test_a_noisy_run_says_its_rate_and_which_labels(shared):
    runs_to_the_end(shared, "noisy_labels")
    runs = [r for r in shared.all_runs() if float(r.data.params.get("data.noise", 0)) > 0]
    assert len(runs) == 8
    digests = {}
    for run in runs:
        rate = float(run.data.params["data.noise"])
        assert abs(run.data.metrics[names.NOISE_RATE] - 100 * rate) < 20
        assert names.TRAIN_ERR_CLEAN in run.data.metrics
        assert names.FINAL_TRAIN_ERR_CLEAN in run.data.metrics
        digests.setdefault(rate, set()).add(run.data.tags[names.NOISE_DIGEST])
    assert all(len(found) == 1 for found in digests.values()), "both networks see the same labels"
    assert len(set.union(*digests.values())) == 4
