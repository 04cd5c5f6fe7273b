"""The configurations under docs/examples, read by the programs that they are for."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from records.schema import CURRENT

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def test_ray_accepts_the_cluster():
    ray = pytest.importorskip("ray.autoscaler._private.util", reason="needs the extra cluster")
    config = yaml.safe_load((EXAMPLES / "ray-cluster.yaml").read_text())
    ray.validate_config(ray.prepare_config(config))
    with pytest.raises(Exception, match="max_wrokers"):
        ray.validate_config(ray.prepare_config({**config, "max_wrokers": 1}))


def test_the_drawings_are_ten_pictures_and_the_same_each_time(tmp_path):
    for folder in ("one", "two"):
        command = [sys.executable, EXAMPLES / "drawings.py", tmp_path / folder]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [f"{name}.png" for name in CLASSES]
    for name in names:
        first, second = (Image.open(tmp_path / folder / name) for folder in ("one", "two"))
        assert (first.size, first.mode) == ((128, 128), "RGB")
        assert first.tobytes() == second.tobytes()


def test_the_network_of_the_package_says_of_the_drawings_what_the_documents_quote(tmp_path):
    """Another processor's rounding may move a percentage, not a class."""
    document = (EXAMPLES.parent / "after_training.md").read_text()
    quoted = re.findall(r"^(drawings/\w+\.png) +(\w+) ([\d.]+) %", document, re.M)
    assert [path for path, _, _ in quoted] == [f"drawings/{name}.png" for name in CLASSES]
    subprocess.run([sys.executable, EXAMPLES / "drawings.py", tmp_path / "drawings"], check=True, capture_output=True)
    command = [sys.executable, "-m", "experiments.predict", "attention56-cifar10", "drawings", "--format", "json"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [(line["image"], line["classes"][0]) for line in json.loads(done.stdout)]
    assert [(path, first["class"]) for path, first in said] == [(path, name) for path, name, _ in quoted]
    percentages = [100 * first["probability"] for _, first in said]
    assert percentages == pytest.approx([float(percentage) for _, _, percentage in quoted], abs=2)


def test_mlflow_has_the_options_of_its_server():
    command = yaml.safe_load((EXAMPLES / "mlflow-compose.yaml").read_text())["services"]["mlflow"]["command"]
    words = command.split()
    assert words[:2] == ["mlflow", "server"]
    from mlflow.cli import server

    known = {option for parameter in server.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_docker_accepts_the_services():
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    secrets = {"POSTGRES_PASSWORD": "one", "MINIO_ROOT_PASSWORD": "two"}
    command = [program, "-f", str(EXAMPLES / "mlflow-compose.yaml"), "config"]
    done = subprocess.run(command, env={**secrets, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "postgresql+psycopg2://mlflow:one@postgres/mlflow" in " ".join(done.stdout.split())


def test_the_slurm_script_is_bash_and_starts_ray_and_the_launch(tmp_path):
    """With Slurm's commands played by scripts: one head, the other nodes join it, the launch gets its arguments."""
    for name, content in {
        "scontrol": 'printf "%s\\n" n1 n2 n3',
        "srun": 'echo "srun $*" >> "$SAID"',
        "sleep": "",
    }.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{content}\n")
        path.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(tmp_path / "said"), "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-3]", "MLFLOW_TRACKING_URI": "http://server:5000",
    }  # fmt: skip
    command = ["bash", str(EXAMPLES / "slurm.sh"), "--study", "arl_vs_nal", "--yes"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = sorted((tmp_path / "said").read_text().splitlines(), key=len)
    assert any(re.search(r"--nodes=1 .*--nodelist=n1 ray start --head --port=10007 --block", line) for line in said)
    assert any(re.search(r"--nodes=2 .*--exclude=n1 ray start --address=n1:10007 --block", line) for line in said)
    assert any(
        "python run_ablation.py --ray-address n1:10007 --checkpoints checkpoints --study arl_vs_nal --yes" in line
        for line in said
    )
    del environment["MLFLOW_TRACKING_URI"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "name the MLflow server" in done.stderr


FEWER = {
    'DataConfig(name="cluttershapes")': 'DataConfig(name="cluttershapes", train_images=64, test_images=64)',
    "steps, batch = 130, 96": "steps, batch = 3, 16",
}


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_training_loop_of_the_documents(whole, tmp_path, monkeypatch, capsys):
    """docs/networks.md, "In your own script": with few images and steps, and whole, which learns."""
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES.parent / "networks.md").read_text().partition("## In your own script\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    for old, fewer in ({} if whole else FEWER).items():
        assert old in code
        code = code.replace(old, fewer)
    found: dict[str, Any] = {}
    exec(compile(code, "networks.md", "exec"), found)
    assert torch.isfinite(found["loss"])
    assert capsys.readouterr().out == f"test error {found['error']:.2f} %\n"
    assert found["error"] < (30 if whole else 100.1)


@pytest.mark.slow
def test_the_tour_goes_to_its_end(tmp_path):
    """In the profile smoke, which measures nothing."""
    command = ["bash", str(EXAMPLES / "tour.sh"), "smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert {"network.pt2", "masks", "images", "results"} <= {path.name for path in tmp_path.iterdir()}
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    assert "log-probabilities differ by at most" in done.stdout


def test_the_notebook_runs_from_its_own_folder_and_draws(monkeypatch):
    """Its cells one after another, as Jupyter runs them."""
    import matplotlib

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(EXAMPLES)
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = []
    monkeypatch.setattr(pyplot, "show", lambda: drawn.append(len(pyplot.gcf().axes[0].lines)))
    names: dict = {}
    for cell in json.loads((EXAMPLES / "results.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    assert drawn == [2, 2]
    assert (names["table"]["count"].to_numpy() == 3).all()
    assert set(names["runs"]["schema"]) == {CURRENT}
    assert names["curves"]["curve"].str.startswith("train/").any()
