"""Every network in timm's hands, and others' training scripts with our networks."""

import dataclasses
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ran.config import RunConfig
from ran.data.augment import Normalization
from ran.models import pretrained
from ran.models.network import initialize
from ran.models.pretrained import PretrainedWeights
from ran.models.zoo import NETWORKS, create_model, list_models
from ran.trained import Interface, Trained, save
from records.errors import UserError

if importlib.util.find_spec("timm") is None:
    pytest.skip("needs the extra timm: pip install -e '.[timm]'", allow_module_level=True)

import timm
from timm.data import resolve_data_config
from timm.models import (
    create_feature_extractor,
    get_graph_node_names,
    group_parameters,
    load_checkpoint,
    resume_checkpoint,
)
from timm.optim import create_optimizer_v2

import ran.timm

ROOT = Path(__file__).parent.parent.parent
DEEP = ("attention236", "attention452", "attention452_r2", "resnet1001")
every_network = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else []) for name in NETWORKS]
)


def small(name: str, seed: int = 0, **options) -> nn.Module:
    """Of timm's factory, at an eighth of the width or the least that 32 groups divide."""
    torch.manual_seed(seed)
    width = 1 / 4 if NETWORKS[name].groups > 1 else 1 / 8
    return timm.create_model(name, **{"num_classes": 3, "width": width} | options).eval()


@functools.cache
def kept(name: str) -> nn.Module:
    """A small network that no test changes."""
    return small(name)


def images(network: nn.Module) -> torch.Tensor:
    """Two, of the size that the network was made for or a quarter of it."""
    channels, side, _ = network.default_cfg["input_size"]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, min(side, 64), min(side, 64), generator=generator)


def test_timm_lists_every_network() -> None:
    assert set(NETWORKS) <= set(timm.list_models())
    assert set(timm.list_models(module="timm")) == set(NETWORKS)
    of_package = {f"{weights.network}.{weights.data}" for weights in pretrained.pretrained_weights()}
    assert set(timm.list_pretrained("*attention*")) & of_package == of_package


@pytest.mark.parametrize("name", ["attention92", "attentionnext56_imagenet", "wrn16_8"])
def test_the_network_is_ours(name: str) -> None:
    with torch.device("meta"):
        theirs, ours = timm.create_model(name), create_model(name)
    shapes, our_shapes = ({k: v.shape for k, v in m.state_dict().items()} for m in (theirs, ours))
    assert shapes == our_shapes
    assert theirs.num_classes == theirs.default_cfg["num_classes"]


@every_network
def test_what_timm_reads_of_a_network(name: str) -> None:
    network = kept(name)
    config = network.default_cfg
    first, last = (network.get_submodule(config[key]) for key in ("first_conv", "classifier"))
    assert first is next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert last is network.get_classifier()
    side = 224 if name.endswith("_imagenet") else 32
    data = resolve_data_config({}, model=network)
    assert data["input_size"] == (3, side, side)
    assert data["crop_pct"] == (0.875 if side == 224 else 1.0)
    assert data["interpolation"] == "bilinear"
    if name not in list_models(pretrained=True):  # else those of its weights' data set
        assert data["mean"] == (0.485, 0.456, 0.406)
    with torch.no_grad():
        features = network.forward_features(torch.zeros(1, 3, side, side))
        pooled = network.forward_head(features, pre_logits=True)
    assert features.shape == (1, network.num_features, *config["pool_size"])
    assert pooled.shape == (1, network.head_hidden_size)
    assert network.forward_head(features).shape == (1, 3)


@every_network
def test_features(name: str) -> None:
    network, extractor = kept(name), small(name, features_only=True)
    x = images(network)
    with torch.no_grad():
        outputs, features = network.stage_outputs(x), extractor(x)
        final, intermediates = network.forward_intermediates(x)
        assert torch.equal(final, network.forward_features(x))
    assert len(features) == len(extractor.feature_info.channels()) == len(NETWORKS[name].stages)
    for out, feature, same, info in zip(
        outputs, features, intermediates, extractor.feature_info.get_dicts(), strict=True
    ):
        torch.testing.assert_close(feature, out)
        assert torch.equal(same, out)
        assert feature.shape[1] == info["num_chs"]
        assert feature.shape[-1] == x.shape[-1] // info["reduction"]


@pytest.mark.parametrize("wrapper", ["list", "dict", "hook", "getter"])
@pytest.mark.parametrize("name", ["attention56", "wrn16_8", "resnet152_imagenet"])
def test_every_wrapper_for_features(name: str, wrapper: str) -> None:
    extractor = small(name, features_only=True, feature_cls=wrapper, out_indices=(0, 2))
    x = images(kept(name))
    with torch.no_grad():
        features = extractor(x)
        outputs = kept(name).stage_outputs(x)
    features = list(features.values()) if wrapper == "dict" else features
    assert len(features) == 2
    torch.testing.assert_close(features, [outputs[0], outputs[2]])
    assert extractor.feature_info.channels() == [out.shape[1] for out in features]


@pytest.mark.parametrize("wrapper", ["list", "getter"])
def test_feature_extractors_hold_no_parameter_in_vain(wrapper: str) -> None:
    """As DistributedDataParallel wants it; and with recomputation."""
    extractor = small("attention56", features_only=True, feature_cls=wrapper, out_indices=(0, 1)).train()
    getattr(extractor, "model", extractor).set_grad_checkpointing()
    sum(out.mean() for out in extractor(torch.randn(4, 3, 32, 32))).backward()
    assert [name for name, p in extractor.named_parameters() if p.grad is None] == []


def test_pruning_leaves_what_the_stages_need() -> None:
    network, pruned = kept("attention56"), small("attention56")
    x = images(network)
    assert pruned.prune_intermediate_layers([-1], prune_head=False) == [2]
    assert torch.equal(pruned(x), network(x))
    assert pruned.prune_intermediate_layers([-1], prune_norm=True) == [2]
    assert torch.equal(pruned.forward_features(x), network.stage_outputs(x)[2])
    assert pruned.prune_intermediate_layers([1, 0]) == [1, 0]
    assert (len(pruned.stages), pruned.norm, pruned.num_features, pruned.num_classes) == (2, None, 16, 0)
    assert torch.equal(pruned(x), network.stage_outputs(x)[1].mean((2, 3)))


def test_intermediates() -> None:
    network = small("attention56")
    seen: list[int] = []
    for i, stage in enumerate(network.stages):
        stage.register_forward_hook(lambda *_, i=i: seen.append(i))
    x = images(network)
    outputs = network.stage_outputs(x)
    activated = network.forward_features(x)
    seen.clear()
    last = network.forward_intermediates(x, 1, intermediates_only=True)
    assert torch.equal(last[0], outputs[2])
    assert torch.equal(network.forward_intermediates(x, [-1], norm=True)[1][0], activated)
    assert len(seen) == 6
    seen.clear()
    final, taken = network.forward_intermediates(x, [1, 0], norm=True, stop_early=True)
    assert torch.equal(final, outputs[1])
    torch.testing.assert_close(taken, [outputs[1], outputs[0]], rtol=0, atol=0)
    assert seen == [0, 1]
    for bad in ({"indices": [3]}, {"indices": 4}, {"indices": 0}, {"output_fmt": "NLC"}):
        with pytest.raises(UserError, match="must be"):
            network.forward_intermediates(x, **bad)


@every_network
def test_layer_decay(name: str) -> None:
    """The rate falls by a half a layer from the classifier to the stem; a layer is a unit or an attention module."""
    network = kept(name)
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.1, weight_decay=0.1, layer_decay=0.5)
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    in_order = [scales[id(p)] for p in network.parameters()]
    layers = sum(len(stage.units) + len(stage.attention) for stage in network.stages)
    assert in_order == sorted(in_order)
    assert list(dict.fromkeys(in_order)) == [0.5**n for n in range(layers + 1, -1, -1)]
    assert {scales[id(p)] for p in network.head.parameters()} == {1.0}
    if network.norm is not None:
        assert scales[id(network.norm.weight)] == 0.5
    unweighted = [p for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]]
    assert {p.ndim for p in unweighted} == {1}


def test_coarse_groups_are_the_stages() -> None:
    groups = group_parameters(kept("attention56"), kept("attention56").group_matcher(coarse=True))
    starts = [sorted({name.partition(".")[0] for name in names}) for names in groups.values()]
    assert starts == [["stem"], ["stages"], ["stages"], ["norm", "stages"], ["head"]]


@pytest.mark.slow
@every_network
def test_checkpoints_and_other_classifiers(name: str, tmp_path: Path) -> None:
    network, other = kept(name), small(name, seed=1)
    optimizer, resumed = (create_optimizer_v2(m, opt="sgd", lr=lr) for m, lr in ((network, 0.1), (other, 0.3)))
    weights = network.state_dict()
    state = {"state_dict": weights, "optimizer": optimizer.state_dict(), "epoch": 4, "version": 2}
    torch.save(state, tmp_path / "last.pth")
    assert resume_checkpoint(other, str(tmp_path / "last.pth"), optimizer=resumed, log_info=False) == 5
    assert resumed.param_groups[0]["lr"] == 0.1
    assert all(torch.equal(weights[key], value) for key, value in other.state_dict().items())

    with torch.no_grad():
        features = other.forward_features(images(other))
    for num_classes in (7, 0):
        other.reset_classifier(num_classes)
        assert other.num_classes == num_classes
        assert other.forward_head(features).shape == (2, num_classes or other.num_features)
    assert isinstance(other.get_classifier(), nn.Identity)
    assert torch.equal(other.forward_head(features), other.forward_head(features, pre_logits=True))
    other.reset_classifier(0, "")
    assert torch.equal(other.forward_head(features), features)
    other.reset_classifier(0)
    assert other.forward_head(features).ndim == 4
    other.reset_classifier(2, "avg")
    assert other.forward_head(features).shape == (2, 2)


def test_weights_are_the_paper_s_and_follow_torch_s_seed() -> None:
    first, again, other = (small("attention56", seed=seed, width=1.0).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    key = "stages.2.units.0.conv2.weight"
    assert not torch.equal(first[key], other[key])
    assert first[key].std().item() == pytest.approx((2 / first[key][0].numel()) ** 0.5, rel=0.02)


def test_weights_of_a_file(tmp_path: Path) -> None:
    torch.save(kept("attention56").state_dict(), tmp_path / "weights.pth")
    network = small(
        "attention56",
        1,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth"), "num_classes": 3},
    )
    x = images(network)
    assert torch.equal(network(x), kept("attention56")(x))
    other = small("attention56", 2)
    load_checkpoint(other, str(tmp_path / "weights.pth"))
    assert torch.equal(other(x), network(x))


def test_options() -> None:
    assert small("attention56", in_chans=1)(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
    assert small("attention56", num_classes=0, global_pool="")(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 8, 8)
    assert small("attention56", drop_path_rate=0.0, dtype=torch.float64).head.weight.dtype == torch.float64
    assert not small("attention56", learning="nal", mask_activation="spatial").stages[0].training
    dropping = small("attention56", drop_rate=0.5)
    features = torch.ones(1, 32, 8, 8)
    assert torch.equal(dropping.forward_head(features, pre_logits=True), torch.ones(1, 32))
    assert set(dropping.train().forward_head(features, pre_logits=True).flatten().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_chans": 0}, "in_channels must be at least 1, got 0"),
        ({"drop_path_rate": 0.1}, "attention56 has no drop_path_rate, got 0.1"),
        ({"drop_block_rate": 0.1}, "attention56 has no drop_block_rate, got 0.1"),
        ({"drop_rate": 1.0}, "drop_rate must be at least 0 and below 1, got 1.0"),
        ({"global_pool": "max"}, "global_pool must be 'avg'.* got 'max'"),
        ({"global_pool": ""}, "num_classes is 3, not 0"),
        ({"bn_eps": 1e-3}, "attention56 has no option 'bn_eps'. Valid: width"),
    ],
)
def test_what_the_networks_cannot_is_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        small("attention56", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["attention56", "attentionnext56_imagenet"])
def test_timms_graphs(name: str) -> None:
    """What timm's tests do with torch.fx: the output and every gradient of the network by its graph."""
    network = kept(name)
    x = images(network)
    (last, _) = (nodes[-1] for nodes in get_graph_node_names(network))
    with torch.no_grad():
        torch.testing.assert_close(create_feature_extractor(network, {last: "output"})(x)["output"], network(x))
    graph = create_feature_extractor(small(name), {last: "output"}).train()
    graph(x)["output"].mean().backward()
    assert [key for key, p in graph.named_parameters() if p.grad is None] == []


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretrainedWeights:
    """Attention-56, not trained, as the only weights of the package, with a mean per pixel as CIFAR-10 has it."""
    network = create_model("attention56")
    initialize(network, 0)
    generator = torch.Generator().manual_seed(0)
    interface = Interface(
        dataset="cifar10", classes=tuple("abcdefghij"), size=32, share=1.0,
        normalization=Normalization(120 + 10 * torch.rand(3, 32, 32, generator=generator), 255.0, pad=4),
    )  # fmt: skip
    trained = Trained(network=network, config=RunConfig(), interface=interface, fingerprint="0123")
    save(trained, tmp_path / "attention56-cifar10.safetensors")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    (found,) = pretrained.pretrained_weights()
    return found


SCRIPT_WITH_WEIGHTS = """
import pathlib, sys
from ran.models import pretrained
pretrained.WEIGHTS = pathlib.Path(sys.argv[1])
import ran.timm, timm, torchvision
print(timm.list_pretrained("attention*"), ran.timm.list_models(pretrained=True))
ran.timm._register_with_torchvision()
networks = [
    timm.create_model("attention56", pretrained=True),
    timm.create_model("attention56.cifar10", pretrained=True),
    torchvision.models.get_model("attention56", weights="DEFAULT"),
]
print(*(network.head.weight.sum().item() for network in networks), networks[0].pretrained_cfg["label_names"][:2])
for refused in (("attention32c", "DEFAULT"), ("attention56", "IMAGENET1K_V1")):
    try:
        torchvision.models.get_model(refused[0], weights=refused[1])
    except ValueError as error:
        print(error)
"""


def test_weights_are_found_by_timm_and_torchvision(weights: PretrainedWeights) -> None:
    command = [sys.executable, "-c", SCRIPT_WITH_WEIGHTS, str(weights.path.parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    listed, sums, *refused = done.stdout.splitlines()
    assert listed == "['attention56.cifar10'] ['attention56']"
    assert sums == " ".join([str(weights.tensors()["head.weight"].sum().item())] * 3) + " ('a', 'b')"
    assert refused[0].startswith("attention32c has no pretrained weights (the package contains: attention56-cifar10;")
    assert refused[1:] == ["attention56: weights must be None or 'DEFAULT', got 'IMAGENET1K_V1'"]


def test_timm_adapts_weights(weights: PretrainedWeights) -> None:
    config = ran.timm._default_cfgs()["attention56.cifar10"]
    network = timm.create_model("attention56", pretrained=True, pretrained_cfg=config, num_classes=3, in_chans=1)
    assert network.head.weight.shape == (3, 256)
    key = "stages.2.units.0.conv2.weight"
    assert torch.equal(network.state_dict()[key], weights.tensors()[key])


def test_timms_normalisation_is_ours_up_to_the_mean_over_pixels(weights: PretrainedWeights) -> None:
    config = ran.timm._default_cfgs()["attention56.cifar10"]
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    ours = Interface.from_json(weights.interface).normalization.normalize(image)
    difference = (image / 255 - mean) / std - ours
    torch.testing.assert_close(difference.mean((2, 3)), torch.zeros(1, 3), atol=1e-5, rtol=0)
    assert difference.abs().max() < 10 / 255


def test_pretrained_weights_of_other_networks_are_refused(weights: PretrainedWeights) -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights exist for attention92"):
        timm.create_model("attention92", pretrained=True)
    config = ran.timm._default_cfgs()["attention56.cifar10"]
    for overlay in (None, {"mean": (0.0, 0.0, 0.0)}):
        with pytest.raises(UserError, match="with these options: attention56-cifar10 has learning=arl"):
            timm.create_model(
                "attention56", pretrained=True, learning="nal", pretrained_cfg=config, pretrained_cfg_overlay=overlay
            )


def test_a_file_of_ones_own_may_be_of_any_network(tmp_path: Path) -> None:
    expected = small("attention56", learning="nal")
    torch.save(expected.state_dict(), tmp_path / "weights.pth")
    config = {"file": str(tmp_path / "weights.pth"), "num_classes": 3}
    for how in ("pretrained_cfg", "pretrained_cfg_overlay"):
        network = small("attention56", 1, learning="nal", pretrained=True, **{how: config})
        assert torch.equal(network.head.weight, expected.head.weight)


def test_weights_of_networks_that_timm_cannot_name_are_left_out(
    weights: PretrainedWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [
        dataclasses.replace(weights, name="x", model={**weights.model, "name": "unknown"}),
        dataclasses.replace(weights, name="attention56-half", model={**weights.model, "width": 0.5}),
        dataclasses.replace(weights, name="plain"),
    ]
    monkeypatch.setattr(ran.timm, "pretrained_weights", lambda: [*others, weights])
    found = [name.partition(".") for name in ran.timm._default_cfgs()]
    assert {tag for name, _, tag in found if name == "attention56"} == {"plain", "cifar10"}
    assert {name for name, _, _ in found} == set(NETWORKS)


def test_a_name_that_timm_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm.models, "is_model", {"attention92"}.__contains__)
    with pytest.raises(UserError, match="timm has networks of its own by the names attention92"):
        ran.timm._register()


def run(*command: str | Path, launcher: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(filter(None, (environment.pop("PYTHONPATH", None), str(ROOT))))
    return subprocess.run(
        [sys.executable, "-m", *launcher, "ran.timm", *map(str, command)],
        env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert ran.timm.main(["--help"]) == 0
    assert "python -m ran.timm SCRIPT ARGS..." in capsys.readouterr().out
    for argv, words in (([], "which script?"), ([str(tmp_path / "absent.py")], "absent.py is not a file")):
        with pytest.raises(UserError, match=words):
            ran.timm.main(argv)


@pytest.mark.slow
def test_a_scripts_own_error_has_its_traceback(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("with open('/dev/full', 'w') as file:\n    file.write('weights')")
    done = run(script)
    assert done.returncode == 1
    assert f'File "{script}", line 1' in done.stderr
    assert done.stderr.splitlines()[-1] == "OSError: [Errno 28] No space left on device"


@pytest.mark.slow
def test_what_a_script_asks_for_in_vain_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import timm\ntimm.create_model('attention56', drop_path_rate=0.1)")
    done = run(script)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ran.timm: attention56 has no drop_path_rate")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_without_timm(tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("raise ModuleNotFoundError(\"No module named 'timm'\", name='timm')")
    done = run(tmp_path / "timm.py", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == "ran.timm: ran.timm needs timm (timm is not installed): pip install -e '.[timm]'\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of two classes, in train and validation as timm and torchvision want them."""
    from PIL import Image

    root = tmp_path_factory.mktemp("pictures")
    for split in ("train", "validation"):
        for label, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            (root / split / label).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (40, 40), tuple(c + i for c in colour)).save(root / split / label / f"{i}.jpg")
    (root / "val").symlink_to(root / "validation")
    return root


TIMM_SCRIPT = """
import argparse
import torch
import timm
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2

parser = argparse.ArgumentParser()
parser.add_argument("data_dir")
parser.add_argument("--model", default="resnet50")
args = parser.parse_args()


def main():
    model = timm.create_model(args.model, pretrained=False, num_classes=2, in_chans=3, drop_rate=0.0,
                              drop_path_rate=None, global_pool=None, bn_eps=None, scriptable=False)
    config = resolve_data_config(vars(args), model=model)
    loader = create_loader(create_dataset("", root=args.data_dir, split="train", is_training=True),
                           input_size=config["input_size"], batch_size=4, is_training=True, use_prefetcher=False,
                           mean=config["mean"], std=config["std"], num_workers=1, device=torch.device("cpu"))
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4, layer_decay=0.9)
    scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=1, updates_per_epoch=len(loader))
    for images, labels in loader:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("step of", tuple(images.shape), loss.isfinite().item())
    scheduler.step(1)


if __name__ == "__main__":
    main()
"""

TORCHVISION_SCRIPT = """
import os, sys
import torch, torchvision
import neighbour

print(__name__, __file__, sys.argv[1:], sys.path[0])
if __name__ == "__main__":
    for make in (torchvision.models.get_model, lambda name, weights, **kw: torchvision.models.__dict__[name](**kw)):
        model = make(sys.argv[1], weights=None, num_classes=2)
        print(type(model).__name__, model(torch.zeros(1, 3, 32, 32)).shape)
    try:
        torchvision.models.get_model(sys.argv[1], weights="DEFAULT")
    except ValueError as error:
        print(error)
    sys.exit(3)
"""


@pytest.mark.slow
def test_a_script_for_timm_trains(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "train.py").write_text(TIMM_SCRIPT)
    done = run(tmp_path / "train.py", folder, "--model", "attention32c")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "step of (4, 3, 32, 32) True\n" * 2


@pytest.mark.slow
def test_a_script_for_torchvision_runs_as_by_python(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TORCHVISION_SCRIPT)
    (tmp_path / "neighbour.py").touch()
    done = run(tmp_path / "train.py", "attention32c", "--help")
    assert done.returncode == 3, done.stderr
    *made, refused = done.stdout.splitlines()
    assert made == [
        f"__main__ {tmp_path / 'train.py'} ['attention32c', '--help'] {tmp_path}",
        *["ResidualAttentionNetwork torch.Size([1, 2])"] * 2,
    ]
    assert refused.startswith("attention32c has no pretrained weights (the package contains: attention56-cifar10;")


DISTRIBUTED_SCRIPT = """
import pathlib, sys
import timm, torch
import torch.distributed as dist

dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(timm.create_model("attention32c", num_classes=2))
model(torch.randn(2, 3, 32, 32)).sum().backward()
pathlib.Path(sys.argv[1], f"{dist.get_rank()} of {dist.get_world_size()}").touch()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_script_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(DISTRIBUTED_SCRIPT)
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    done = run(tmp_path / "train.py", tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("* of *")) == ["0 of 2", "1 of 2"]


@pytest.mark.slow
def test_timm_s_own_script(tmp_path: Path, folder: Path) -> None:
    script = os.environ.get("RAN_TIMM_TRAIN")
    if script is None:
        pytest.skip("RAN_TIMM_TRAIN names no copy of timm's train.py")
    (tmp_path / "cpu.yaml").write_text("device: cpu")
    options = "--model attention32c --num-classes 2 -b 4 --epochs 1 --workers 1 --layer-decay 0.9 --experiment run"
    done = run(script, folder, *options.split(), "--output", tmp_path, "-c", tmp_path / "cpu.yaml")
    assert done.returncode == 0, done.stderr
    assert "Best metric" in done.stderr
    assert (tmp_path / "run" / "last.pth.tar").is_file()


@pytest.mark.slow
def test_torchvisions_own_script(tmp_path: Path, folder: Path) -> None:
    script = os.environ.get("RAN_TORCHVISION_TRAIN")
    if script is None:
        pytest.skip("RAN_TORCHVISION_TRAIN names no copy of torchvision's references/classification/train.py")
    for split in ("train", "val"):  # its top-5 needs five classes
        for label in "abcde":
            shutil.copytree(folder / split / "blue", tmp_path / split / label)
    options = "--model attention32c --device cpu -b 4 --epochs 1 --workers 0 --val-resize-size 32 --val-crop-size 32"
    done = run(script, "--data-path", tmp_path, *options.split(), "--train-crop-size", "32", "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Acc@1" in done.stdout
    assert (tmp_path / "model_0.pth").is_file()
