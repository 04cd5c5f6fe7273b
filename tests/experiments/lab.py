"""What the tests of a launch share: a folder with store, checkpoints and data of its own, and ways to launch in it."""

import contextlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import run_ablation
from records import names
from records.files import write_whole

ROOT = Path(__file__).parents[2]
EXPERIMENT = "ran/cluttershapes"

# The runs that are cut off, and compared with those of the fixture `whole`: 20 steps, the evaluations after 5 each.
BOTH = ("--train.steps", "20", "--train.evals", "4")
STEPS = (*BOTH, "--cells", "learning=arl")

# Two cells of 20 steps of the smoke profile, as a user's own file.
STUDY = '''"""What the user wrote about it."""
from experiments.study import Comparison, Study, axis

STUDY = Study(
    name="mine",
    title="A study of my own",
    profile="smoke",
    seeds=(0,),
    axes=(axis("rate", {rates}, field="optim.lr"),),
)
'''

# A checkpoint after every step, and steps so slow that a signal meets a run in its middle; `Lab.hold` stops them.
SLOW = """
import time
from pathlib import Path

import experiments.launch
from experiments.console.progress import PlainReporter
from experiments.runner import settings


def held(name, step):
    try:
        at, *names = Path(__file__).with_name("hold").read_text().splitlines()
    except (OSError, ValueError):
        return False
    return step >= int(at) and name in (names or [name])


class Slow(PlainReporter):
    def step(self, name, step):
        super().step(name, step)
        time.sleep(0.05)
        while held(name, step):
            time.sleep(0.01)


settings.CHECKPOINT_SECONDS = 0.0
experiments.launch.reporter = Slow
"""


@dataclass(frozen=True)
class Said:
    """What a launch left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Lab:
    """A folder with store, checkpoints and data of its own."""

    folder: Path

    @classmethod
    def with_store(cls, folder: Path, migrated: Path) -> "Lab":
        """A lab in a new folder, with a copy of a migrated store."""
        made = cls(folder)
        made.folder.mkdir(parents=True)
        shutil.copy(migrated, made.store)
        return made

    @property
    def store(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.store}"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def places(self) -> list[str]:
        return [
            *("--tracking-uri", self.uri),
            *("--checkpoints", str(self.checkpoints)),
            *("--data.root", self.data),
        ]

    def launch(self, *arguments: str, study: str = "smoke") -> Said:
        return main("--study", study, *self.places(), *arguments)

    def start(self, *arguments: str, study: str = "smoke", behind: Sequence[str] = ()) -> subprocess.Popen[str]:
        """A launch in a process of its own, started by the command `behind` if there is one."""
        command = [*behind, sys.executable, str(ROOT / "run_ablation.py"), "--study", study, *self.places(), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.folder)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, stdout=pipe, stderr=pipe)

    def hold(self, step: int, *names: str) -> None:
        """Runs, of these names or all, stay at a step in processes that import SLOW, until `go` or for good."""
        write_whole(self.folder / "hold", "\n".join([str(step), *names]).encode())

    def go(self) -> None:
        (self.folder / "hold").unlink()

    def study(self, content: str, name: str = "mine.py") -> str:
        (self.folder / name).write_text(content)
        return str(self.folder / name)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def all_runs(self) -> list[Run]:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        return [] if found is None else list(self.client.search_runs([found.experiment_id]))

    def children(self) -> dict[str, Run]:
        """Children that are not deleted, by name; each name once."""
        runs = [run for run in self.all_runs() if names.FINGERPRINT in run.data.tags]
        by_name = {names.without_result(str(run.info.run_name)): run for run in runs}
        assert len(by_name) == len(runs), f"two runs of one name: {sorted(str(r.info.run_name) for r in runs)}"
        return by_name

    def parents(self) -> list[Run]:
        return [run for run in self.all_runs() if names.PARENT in run.data.tags]

    def points(self, run: Run) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of every metric but the system's, as they were written."""
        return {
            key: [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
            if not key.startswith("system/")
        }

    def artifact(self, run: Run, name: str) -> Path:
        return Path(self.client.download_artifacts(run.info.run_id, name))

    def weights(self, name: str) -> dict[str, Tensor]:
        return load_file(self.artifact(self.children()[name], names.WEIGHTS))

    def comparable(self, name: str) -> dict[str, list[tuple[int, float]]]:
        """A run's points without those that depend on the clock."""
        timed = (names.COST_HOURS, names.COST_CPU_HOURS, names.COST_IMAGES_PER_S)
        return {key: sorted(v) for key, v in self.points(self.children()[name]).items() if key not in timed}

    def each_point_once(self, name: str) -> bool:
        """Whether no step of a run's metrics was written twice."""
        points = self.points(self.children()[name])
        return all(len(values) == len({step for step, _ in values}) for values in points.values())

    def files(self, run: Run) -> set[str]:
        """Names of a run's artifacts, but for the diff of a working tree that may have changed between two runs."""
        return {file.path for file in self.client.list_artifacts(run.info.run_id)} - {names.GIT_DIFF}

    def tables(self, parent: Run) -> tuple[str, ...]:
        """The plan and the table of a study, as its parent run has them."""
        return tuple(self.artifact(parent, name).read_text() for name in (names.STUDY_JSON, "results/table.csv"))

    def steps(self) -> list[int]:
        """The steps of all checkpoints."""
        return sorted(int(path.stem.removeprefix("step-")) for path in self.checkpoints.glob("*/step-*.safetensors"))

    def listing(self) -> dict[str, int]:
        """Every file and folder with its size. SQLite's two side files come and go with its readers."""
        paths = [p for p in self.folder.rglob("*") if not p.name.endswith(("-wal", "-shm"))]
        return {str(p.relative_to(self.folder)): p.stat().st_size if p.is_file() else -1 for p in paths}


def main(*arguments: str) -> Said:
    """run_ablation.py in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run_ablation.main(list(arguments))
    return Said(status, out.getvalue(), err.getvalue())


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def make_cifar10(root: Path, *, train_images: int, test_images: int) -> np.ndarray:
    """Writes a CIFAR-10 of random pixels, in the official files; returns its training labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name: str, count: int) -> np.ndarray:
        labels = np.arange(count) % 10
        content = {"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8), "labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(content, 2))
        return labels

    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}, 2))
    write("test_batch", test_images)
    return np.concatenate([write(f"data_batch_{i}", train_images // 5) for i in range(1, 6)])


def make_image_folder(root: Path, *, classes: int, train_images: int, test_images: int, side: int = 20) -> None:
    """Writes the data set `imagenet` of random pixels, so many images of each class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train_images), ("val", test_images)):
        for name in (f"n{i:02}" for i in range(classes)):
            folder = root / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}_{i}.JPEG")


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 300.0) -> None:
    """Waits until `condition()` holds, while the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def mine(rates: Sequence[float] = (0.1, 0.2)) -> str:
    return STUDY.format(rates=list(rates))


# A cell that fails beside one that does not; the mask `raises` is a test's own.
FAILING = mine().replace(
    'axis("rate", [0.1, 0.2], field="optim.lr")', 'axis("mask", ["raises", "mixed"], field="model.mask_activation")'
)
