"""Runs in workers that Ray places: the same bits as in this process, whatever dies meanwhile."""

import contextlib
import http.server
import json
import os
import re
import shlex
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
from filelock import FileLock
from lab import BOTH, ROOT, Lab, same_bits, wait_for

from experiments.placement import Placement, PlacementError, PlacementRequest
from records import names

pytest.importorskip("ray", reason="needs the extra cluster")
pytestmark = pytest.mark.cluster

GRID = ("--profile", "smoke", "--seeds", "0", "--train.steps", "12", "--train.evals", "2")
EIGHT = [f"d{depth} {learning} s0" for depth in (56, 92, 128, 164) for learning in ("arl", "nal")]

# Imported by workers: a checkpoint after every step, and a stay at that of `lab.hold` until the run is to stop.
SLOWLY = """
import time
from pathlib import Path

from experiments.executors.ray_worker import WorkerReporter
from experiments.runner import settings

reporter_step = WorkerReporter.step


def held(name, step):
    try:
        at, *names = Path({hold!r}).read_text().splitlines()
    except (OSError, ValueError):
        return False
    return step >= int(at) and name in (names or [name])


def step(self, name, step):
    reporter_step(self, name, step)
    time.sleep({seconds})
    while held(name, step) and not self.stop():
        time.sleep(0.01)


WorkerReporter.step = step
settings.CHECKPOINT_SECONDS = 0.0
"""

MASKS = """
from ran.models.masks import MASK_ACTIVATIONS


@MASK_ACTIVATIONS.register("breaks")
def breaks(z):
    if z.device.type != "meta":  # the plan counts it without a complaint
        raise RuntimeError("a mask that breaks")
    return z

"""

STUDY = '''"""Two masks, one of which fails."""
from experiments.study import Study, axis

STUDY = Study(
    name="mine",
    title="Masks that fail",
    profile="smoke",
    seeds=(0,),
    axes=(axis("mask", ("mixed", "breaks"), field="model.mask_activation"),),
)
'''


@pytest.fixture
def environment(lab):
    """Of a launch in a process of its own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(lab.folder)}


@pytest.fixture
def start(lab, environment):
    """Starts a launch as a group of its own, with its stderr in a file; ends what is left of it."""
    started = []

    def launch(*arguments, study="smoke"):
        command = [sys.executable, str(ROOT / "run_ablation.py"), "--study", study, *lab.places(), *arguments]
        error = open(lab.folder / "err.txt", "a")  # noqa: SIM115
        started.append(subprocess.Popen(
            command, cwd=lab.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=error,
            start_new_session=True,
        ))  # fmt: skip
        return started[-1]

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def said(lab):
    path = lab.folder / "err.txt"
    return path.read_text() if path.exists() else ""


def workers(lab, verb="start|resume at step \\d+/\\d+"):
    """(run, process) of every run that began, in their order."""
    return [(name, int(pid)) for name, pid in re.findall(rf"\] (.*): (?:{verb}) on .*, process (\d+)", said(lab))]


def has_checkpoint(lab, name):
    run = lab.children().get(name)  # its worker may say that it began before the store knows it
    if run is None:
        return False
    folder = run.data.tags[names.FINGERPRINT][:16]
    return any((lab.checkpoints / folder).glob("step-*.safetensors"))


def slowly(lab, seconds=0.0):
    (lab.folder / "slowly.py").write_text(SLOWLY.format(seconds=seconds, hold=str(lab.folder / "hold")))
    return ("--import", "slowly")


def all_go(pids, seconds=120.0):
    """Waits until none of these processes is left."""
    end = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert time.monotonic() < end, "workers outlive their launch"
        time.sleep(0.2)


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def as_whole(lab, whole, *runs):
    for name in runs:
        assert same_bits(lab.weights(name), whole.weights(name))
        assert lab.comparable(name) == whole.comparable(name)
        assert lab.each_point_once(name)
        assert lab.children()[name].data.tags[names.OUTCOME] == names.FINISHED


def attempt_of(lab, run):
    (attempt,) = json.loads(lab.artifact(run, names.PROVENANCE_JSON).read_text())["attempts"]
    return attempt


@pytest.mark.slow
def test_the_machine_of_a_run_is_that_of_its_worker(lab, start):
    (lab.folder / "numbered.py").write_text(
        "import os\nfrom experiments.tracking import provenance\n"
        "provenance.processor = lambda: f'the processor of {os.getpid()}'\n"
    )
    process = start(*BOTH, "--workers", "2", "--import", "numbered")
    process.communicate(timeout=300)
    assert process.returncode == 0, said(lab)
    pids = dict(workers(lab))
    assert process.pid not in pids.values()
    for name, run in lab.children().items():
        attempt = attempt_of(lab, run)
        assert attempt["machine"]["processor"] == f"the processor of {pids[name]}"
        assert attempt["command"].endswith("--workers 2 --import numbered")


def test_two_workers_do_what_this_process_does(lab, whole):
    said = lab.launch(*BOTH, "--workers", "2")
    assert said.status == 0, said.err
    assert "2 workers of 1 thread each" in said.err.splitlines()[0]
    as_whole(lab, whole, "arl s0", "nal s0")
    for run in lab.children().values():
        assert attempt_of(lab, run)["command"] == shlex.join(sys.argv), "of the launch, not of Ray's worker"
        assert (
            run.data.tags[names.HOW] == whole.children()[names.without_result(run.info.run_name)].data.tags[names.HOW]
        )
    assert [path.name for path in lab.checkpoints.iterdir()] == ["launch.lock"]
    assert not lab.client.search_registered_models()
    assert len(set(re.findall(r"process (\d+)", said.err))) == 2
    again = lab.launch(*BOTH, "--workers", "2")
    assert (again.status, again.out) == (0, said.out)


def test_ctrl_c_stops_all_of_it_and_the_same_command_goes_on(lab, whole, start):
    arguments = (*BOTH, "--workers", "2", *slowly(lab))
    lab.hold(5)
    process = start(*arguments)
    wait_for(lambda: len(workers(lab)) == 2 and len(lab.steps()) >= 2, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: Ray's processes get it too
    process.communicate(timeout=180)
    lab.go()
    assert process.returncode == 130
    assert said(lab).count("killed: stopped at step") == 4
    assert said(lab).splitlines()[-1] == "2 of 2 runs are left; the same command continues"
    assert {run.info.status for run in lab.children().values()} == {"KILLED"}
    process = start(*arguments)
    process.communicate(timeout=300)
    assert process.returncode == 0, said(lab)
    as_whole(lab, whole, "arl s0", "nal s0")


@pytest.mark.long
@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(lab, start):
    process = start(*BOTH, "--workers", "2", *slowly(lab, 20.0))
    wait_for(lambda: len(workers(lab)) == 2, process)
    pids = [pid for _, pid in workers(lab)]
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: "stopping after a checkpoint" in said(lab), process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=180)
    assert process.returncode == 130
    all_go(pids)


@pytest.mark.long
@pytest.mark.slow
def test_a_launch_that_is_killed_leaves_no_worker(lab, whole, start):
    arguments = (*BOTH, "--workers", "2", *slowly(lab))
    lab.hold(5)
    process = start(*arguments)
    wait_for(lambda: len(workers(lab)) == 2 and len(lab.steps()) >= 2, process)
    pids = [pid for _, pid in workers(lab)]
    process.kill()
    process.wait()
    all_go(pids)
    lab.go()
    process = start(*arguments)
    process.communicate(timeout=300)
    assert process.returncode == 0, said(lab)
    as_whole(lab, whole, "arl s0", "nal s0")


def test_a_run_that_fails_comes_back_with_its_log(lab, user_module):
    said = lab.launch("--workers", "2", "--import", user_module("my_masks", MASKS), study=lab.study(STUDY))
    assert said.status == 1
    outcomes = {name: run.data.tags[names.OUTCOME] for name, run in lab.children().items()}
    assert outcomes == {"mixed s0": names.FINISHED, "breaks s0": names.FAILED}
    assert "breaks s0: failed: RuntimeError: a mask that breaks" in said.err
    assert 'raise RuntimeError("a mask that breaks")' in said.err
    run = lab.children()["breaks s0"]
    assert "a mask that breaks" in lab.artifact(run, "traceback.txt").read_text()
    assert "log_tail.txt" in lab.files(run)


@pytest.mark.slow
def test_a_worker_that_always_dies_fails_its_run_and_no_other(lab, start):
    (lab.folder / "deadly.py").write_text(SLOWLY.format(seconds=0.0, hold="") + '''

def step(self, name, step):
    import os
    if name == "nal s0":
        os._exit(9)


WorkerReporter.step = step
''')  # fmt: skip
    process = start("--workers", "2", "--import", "deadly")
    process.communicate(timeout=300)
    assert process.returncode == 1
    outcomes = {name: run.data.tags[names.OUTCOME] for name, run in lab.children().items()}
    assert outcomes == {"arl s0": names.FINISHED, "nal s0": names.FAILED}
    assert "3 processes in a row died" in said(lab)


@pytest.mark.slow
def test_rerun_begins_afresh_once_and_goes_on_after_a_death(lab, whole, start):
    assert lab.launch(*BOTH).status == 0
    (lab.folder / "dies_once.py").write_text(
        SLOWLY.format(seconds=0.0, hold="")
        + """

def step(self, name, step):
    import os
    reporter_step(self, name, step)
    if name == "nal s0" and step == 9:
        try:
            os.close(os.open("died", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os._exit(9)


WorkerReporter.step = step
"""
    )
    process = start(*BOTH, "--workers", "2", "--rerun", "--import", "dies_once")
    process.communicate(timeout=300)
    assert process.returncode == 0, said(lab)
    assert [(name, "resume at step 8/20" in said(lab)) for name, _ in workers(lab, "resume at step \\d+/\\d+")] == [
        ("nal s0", True)
    ]
    assert all(run.info.status == "FINISHED" for run in lab.children().values())
    as_whole(lab, whole, "arl s0", "nal s0")


@pytest.mark.slow
def test_a_users_study_is_loaded_once_however_often_its_runs_are_looked_at(lab, migrated_store, tmp_path, start):
    """Runs that another launch holds are given to the workers again, which have registered the study's parts."""
    content = (
        STUDY.replace('"breaks"', '"softened"').replace(
            "from experiments.study import",
            "from ran.models.masks import MASK_ACTIVATIONS\nfrom experiments.study import",
        )
        + "\n\nMASK_ACTIVATIONS.register('softened')(MASK_ACTIVATIONS['mixed'])\n"
    )
    study = lab.study(content)
    inline = Lab(tmp_path / "inline")
    inline.folder.mkdir()
    shutil.copy(migrated_store, inline.store)
    command = [sys.executable, str(ROOT / "run_ablation.py"), "--study", study, *inline.places()]
    subprocess.run(command, check=True, capture_output=True, cwd=lab.folder)
    held = lab.checkpoints / inline.children()["mixed s0"].data.tags[names.FINGERPRINT][:16]
    held.mkdir(parents=True)
    lock = FileLock(held / "lock", is_singleton=False)
    lock.acquire()
    process = start("--workers", "2", study=study)
    wait_for(lambda: "waiting for 1 run(s)" in said(lab), process)
    time.sleep(3.0)
    lock.release()
    process.communicate(timeout=300)
    assert process.returncode == 0, said(lab)
    assert set(lab.children()) == {"mixed s0", "softened s0"}


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_and_a_worker(lab, migrated_store, tmp_path, start):
    """arl_vs_nal on two nodes: one is removed and a worker killed in the middle; every run ends once, with its bits."""
    from ray.cluster_utils import Cluster

    inline = Lab(tmp_path / "inline")
    inline.folder.mkdir()
    shutil.copy(migrated_store, inline.store)
    assert inline.launch(*GRID, "--workers", "1", study="arl_vs_nal").status == 0

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        raylet = second.all_processes["raylet"][0].process.pid
        lab.hold(5)
        process = start(*GRID, "--ray-address", cluster.address, *slowly(lab), study="arl_vs_nal")
        wait_for(lambda: len(workers(lab)) == 2, process)  # a run on each node
        on_second = {run: psutil.Process(run[1]).ppid() == raylet for run in workers(lab)}
        assert sorted(on_second.values()) == [False, True], said(lab)
        (killed, pid), (lost, orphan) = sorted(on_second, key=lambda run: on_second[run])
        wait_for(lambda: has_checkpoint(lab, killed) and has_checkpoint(lab, lost), process)
        kill(pid)
        lab.hold(5, lost)
        wait_for(lambda: [run for run, _ in workers(lab)].count(killed) == 2, process)
        cluster.remove_node(second, allow_graceful=False)
        kill(orphan)  # else a worker outlives its node for a moment, in which it could end its run
        all_go([orphan])
        lab.go()
        process.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, said(lab)
    assert sorted(lab.children()) == sorted(EIGHT)
    # By the log: a store that is locked at that moment, as on a busy machine, counts no resume in its tag.
    assert {killed, lost} <= {name for name in EIGHT if f"{name}: resume at step" in said(lab)}, said(lab)
    assert said(lab).count(f"{lost}: resume at step") == 1  # on the node that is left, not from the start
    as_whole(lab, inline, *EIGHT)
    assert not lab.client.search_registered_models()


@pytest.mark.slow
def test_a_part_of_a_gpu(lab, monkeypatch):
    """Two nodes, one of which says that it has a GPU: what a run sees of it, and what is refused."""
    from ray.cluster_utils import Cluster

    from experiments.executors import ray_cluster as clusters

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")  # Ray refuses GPUs that are hidden
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})

    def request(**flags):
        return PlacementRequest(**flags, ray_address=cluster.address)

    try:
        with pytest.raises(PlacementError, match="largest node has 0"):
            clusters.on_cluster(request(gpus_per_run=0.5), None)
        clusters.disconnect()
        cluster.add_node(num_cpus=2, num_gpus=1)
        placement = clusters.on_cluster(request(gpus_per_run=0.5), None)
        assert placement == Placement(None, 1, 0.5, cluster.address, room=2)
        assert placement.at_once == 2
        assert clusters.there(placement, lambda: os.environ["CUDA_VISIBLE_DEVICES"]) == "0"
        assert re.fullmatch(
            r"waiting for Ray to start a run, which needs 1 CPU \(\d free\) and 0\.5 GPU \([\d.]+ free\) on one node; "
            "Ctrl-C leaves", clusters.waited_for(placement),
        )  # fmt: skip
        small = clusters.on_cluster(request(), None, per_gpu=lambda cores: 2 * cores)
        assert (small.gpus, small.room) == (0.25, 3), "two cores for the GPU; three in all"
        assert clusters.on_cluster(request(workers=3), None) == Placement(3, 1, 1.0, cluster.address, room=1)
        assert clusters.on_cluster(request(device="cpu"), 2) == Placement(None, 2, 0.0, cluster.address, room=1)
        for flags, threads, words in [
            ({"gpus_per_run": 0.5, "device": "cpu"}, None, "train on the CPU"),
            ({"gpus_per_run": 2.0}, None, "a run takes one GPU"),
            ({"workers": 0}, None, "at least 1"),
            ({"device": "cpu"}, 64, "largest node has 2 CPUs"),
        ]:
            with pytest.raises(PlacementError, match=words):
                clusters.on_cluster(request(**flags), threads)
    finally:
        clusters.disconnect()
        cluster.shutdown()


@pytest.mark.slow
def test_a_worker_that_waits_for_the_launch_keeps_its_cpu():
    """Else Ray puts a second run on a node that is full, beside others that are idle."""
    import ray

    from experiments.executors.event_bus import EventBus
    from experiments.executors.ray_worker import WorkerReporter

    class SlowBus(EventBus):
        def report(self, events):
            time.sleep(2.0)
            return super().report(events)

    def run(bus):
        began = time.monotonic()
        with WorkerReporter(bus, "first"):
            pass
        return began, time.monotonic()

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        bus = ray.remote(SlowBus).options(num_cpus=0).remote()
        task = ray.remote(run).options(num_cpus=1)
        (first, ended), (second, _) = sorted(ray.get([task.remote(bus), task.remote(bus)], timeout=120))
        assert first + 4.0 < ended <= second
    finally:
        ray.shutdown()


def test_workers_that_do_not_start_are_not_waited_for_in_silence(monkeypatch):
    """The driver waits for them, and says so."""
    from experiments.executors import ray_cluster as clusters

    longest = []
    session = clusters.Session(Placement(2, 1))
    session._warming = ["never", "never"]
    session._started.set()
    monkeypatch.setattr(clusters.ray, "wait", lambda tasks, num_returns, timeout=None: longest.append(timeout))
    session.wait()
    assert longest == [clusters.WARM_SECONDS]


def test_ray_on_this_machine_is_told_of_its_gpus(monkeypatch):
    """Else it looks for them itself, finds none, and runs that need a share of one wait for ever."""
    from experiments.executors import ray_cluster as clusters

    given = []
    monkeypatch.setattr(clusters.ray, "init", lambda **options: given.append(options["num_gpus"]))
    for placement in (Placement(8, 1, 0.25), Placement(3, 1, 0.5), Placement(2, 1, 1.0), Placement(2, 1)):
        clusters.connect(placement)
    assert given == [2, 2, 2, 0]


@pytest.mark.parametrize(("arguments", "words"), [
    (("--ray-address", "127.0.0.1:9"), "nothing answers there"),
    (("--ray-address", "ray://127.0.0.1:10001"), "--ray-address auto"),
    (("--ray-address", "nonsense"), "takes auto or host:port"),
    (("--ray-address", "no-such-host.invalid:6379"), "nothing answers there"),
    (("--workers", "0"), "at least 1"),
    (("--workers", "two"), "--workers"),
    (("--gpus-per-run", "0.5"), "train on the CPU"),
    (("--gpus-per-run", "2"), "lie in (0, 1]"),
])  # fmt: skip
def test_bad_input(arguments, words, lab):
    said = lab.launch(*arguments)
    assert said.status == 2
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert not lab.checkpoints.exists()


def test_no_cluster_on_this_machine(lab, monkeypatch):
    def nobody(**_):
        raise ConnectionError("Could not find any running Ray instance. Please specify the one with `--address`.")

    monkeypatch.setattr("ray.init", nobody)  # another program's may run here
    said = lab.launch("--ray-address", "auto")
    assert (said.status, len(said.err.splitlines())) == (2, 1)
    assert "no Ray cluster runs on this machine (ray start --head starts one)" in said.err


@pytest.mark.parametrize("silent", [True, False])
def test_an_address_of_something_else(silent, lab, monkeypatch):
    """A server that says nothing, and one of the web: Ray itself would wait for minutes."""
    from experiments.executors import ray_cluster

    monkeypatch.setattr(ray_cluster, "CONNECT_SECONDS", 1.0)

    class Silent(socketserver.BaseRequestHandler):
        def handle(self):
            time.sleep(3)

    handler = Silent if silent else http.server.SimpleHTTPRequestHandler
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = lab.launch("--ray-address", f"127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert said.status == 2
    assert said.err.strip().endswith("what answers there is not the head of a Ray cluster")


def test_without_the_extra(lab, monkeypatch):
    monkeypatch.setattr("experiments.placement.has_ray", lambda: False)
    for arguments in (("--workers", "2"), ("--ray-address", "auto")):
        said = lab.launch(*arguments)
        assert said.status == 2
        assert said.err.strip().endswith("pip install -e '.[cluster]'")


def test_a_node_with_other_data(lab, monkeypatch):
    """A worker that would train on other images says so."""
    from experiments.executors import ray_driver

    sendable = ray_driver._sendable

    def other(run):
        sent = sendable(run)
        return replace(sent, source=replace(sent.source, digest="another"))

    monkeypatch.setattr(ray_driver, "_sendable", other)
    said = lab.launch(*BOTH, "--workers", "2")
    assert said.status == 1
    assert "has other data than the launch" in said.err
    assert "Traceback" not in said.err
