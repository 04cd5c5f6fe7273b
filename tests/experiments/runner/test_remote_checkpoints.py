"""Checkpoints at a URI: where a run goes on, on whatever machine, what it needs is there."""

import shutil
import stat
from pathlib import Path

import fsspec
import pytest
from lab import STEPS, main, same_bits

from experiments import launch as launching
from experiments.console.progress import PlainReporter
from experiments.runner import remote_checkpoints as mirrors
from experiments.runner import settings
from experiments.runner.remote_checkpoints import RemoteCheckpoints, RemoteError
from experiments.tracking.errors import StoreUnavailable
from experiments.tracking.store import Store
from records import names
from records.errors import UserError


class Died(BaseException):
    """Ends a launch as a machine does that is gone."""


@pytest.fixture
def machines(monkeypatch, tmp_path):
    """Enters a machine of a name: temporary files of its own, of which the next one has nothing."""

    def enter(name):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(mirrors.tempfile, "gettempdir", lambda: str(tmp_path / name))

    enter("one")
    return enter


@pytest.fixture
def remote(lab, tmp_path, monkeypatch):
    """A lab whose checkpoints lie at a URI, written at every step."""
    monkeypatch.setattr(settings, "CHECKPOINT_SECONDS", 0.0)
    (tmp_path / "bucket").mkdir()
    return (*("--study", "smoke", "--tracking-uri", lab.uri, "--data.root", lab.data), *STEPS,
            "--checkpoints", f"file://{tmp_path}/bucket/runs")  # fmt: skip


def dies_at(number):
    class Dies(PlainReporter):
        def step(self, name, step):
            super().step(name, step)
            if step == number:
                raise Died

    return Dies


def bucket(tmp_path):
    return sorted(path.name for path in (tmp_path / "bucket").rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_run_goes_on_on_another_machine(remote, lab, whole, machines, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", dies_at(9))
        with pytest.raises(Died):
            main(*remote)
    assert "step-00000008.safetensors" in bucket(tmp_path)
    machines("two")
    monkeypatch.setattr("experiments.tracking.leases.platform.node", lambda: "another")
    monkeypatch.setattr("experiments.tracking.leases.LEASE_SECONDS", 0.0)  # the first machine's claim is old
    planned = main(*remote, "--dry-run")
    assert "resumable at step 8" in planned.out
    said = main(*remote)
    assert said.status == 0, said.err
    assert "resume at step 8/20" in said.err
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))
    assert lab.comparable("arl s0") == whole.comparable("arl s0")
    assert lab.each_point_once("arl s0")
    assert bucket(tmp_path) == []


@pytest.mark.slow
def test_what_waits_for_the_store_is_delivered_from_another_machine(
    remote, lab, whole, machines, tmp_path, monkeypatch
):
    away = [False]
    log_points = Store.log_points

    def log(self, *arguments):
        if away[0]:
            raise StoreUnavailable("away")
        log_points(self, *arguments)

    class Leaves(PlainReporter):
        def step(self, name, step):
            super().step(name, step)
            away[0] = True

    with monkeypatch.context() as patch:
        patch.setattr(Store, "log_points", log)
        patch.setattr(launching, "reporter", Leaves)
        patch.setattr(launching, "LAST_WAIT", 0.0)
        assert main(*remote).status == 1
    assert "spool.json" in bucket(tmp_path)
    shutil.rmtree(tmp_path / "one")
    machines("two")
    said = main(*remote)
    assert said.status == 0, said.err
    assert "delivered" in said.err
    assert lab.comparable("arl s0") == whole.comparable("arl s0")
    assert lab.children()["arl s0"].data.tags[names.OUTCOME] == names.FINISHED
    assert bucket(tmp_path) == []


@pytest.mark.slow
def test_a_uri_that_is_away_for_a_while(remote, lab, whole, machines, monkeypatch):
    """Training goes on, with a warning; what is on this machine suffices."""
    from fsspec.implementations.local import LocalFileSystem

    def fails(*arguments, **options):
        raise OSError("the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", fails)
        said = main(*remote)
    assert said.status == 0, said.err
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))


@pytest.mark.parametrize(("uri", "words"), [
    ("nonsense://bucket/runs", "Protocol not known: nonsense"),
    ("s3://bucket/runs", "Install s3fs"),
    ("file:///proc/version", "not a folder"),
])  # fmt: skip
def test_a_uri_that_cannot_be_used(uri, words, lab, machines):
    said = main(
        "--study", "smoke", "--tracking-uri", lab.uri, "--data.root", lab.data, "--checkpoints", uri
    )  # fmt: skip
    assert said.status == 2
    assert words.lower() in said.err.lower()
    assert len(said.err.splitlines()) == 1
    with pytest.raises(RemoteError):
        RemoteCheckpoints(uri).check()


def test_what_is_there_is_not_copied_again(tmp_path, machines, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    copied = []
    put = LocalFileSystem.put_file
    monkeypatch.setattr(LocalFileSystem, "put_file", lambda self, a, b, **o: (copied.append(b), put(self, a, b, **o)))
    mirror = RemoteCheckpoints(f"file://{tmp_path}/bucket")
    folder = mirror.local / "run"
    (folder / "artifacts").mkdir(parents=True)
    for name in ("step-00000001.safetensors", "step-00000002.safetensors", "lock", ".x.tmp", "artifacts/a.json"):
        (folder / name).write_text(name)
    mirror.push("run")
    assert sorted(path.rpartition("/run/")[2] for path in copied) == [
        "artifacts/a.json", "step-00000001.safetensors", "step-00000002.safetensors",
    ]  # fmt: skip
    assert mirror.steps() == {"run": 2}
    (folder / "step-00000001.safetensors").unlink()
    (folder / "step-00000003.safetensors").write_text("3")
    copied.clear()
    mirror.push("run")
    assert sorted(path.rpartition("/run/")[2] for path in copied) == ["artifacts/a.json", "step-00000003.safetensors"]
    shutil.rmtree(folder)
    mirror.fetch("run")
    assert sorted(path.name for path in folder.rglob("*.safetensors")) == [
        "step-00000002.safetensors", "step-00000003.safetensors",
    ]  # fmt: skip
    assert (folder / "artifacts" / "a.json").read_text() == "artifacts/a.json"


@pytest.mark.parametrize("plant", ["link", "open folder"])
@pytest.mark.parametrize("level", ["user", "uri"])
def test_what_somebody_has_put_into_the_temporary_folder_is_not_used(plant, level, tmp_path, machines):
    """Everybody can write to /tmp: a link there would overwrite a victim's file."""
    place = f"file://{tmp_path}/bucket"
    remote = RemoteCheckpoints(place)
    target = remote.local if level == "uri" else remote.local.parent
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    (tmp_path / "victim").mkdir()
    if plant == "link":
        target.symlink_to(tmp_path / "victim")
    else:
        target.mkdir()
        target.chmod(0o777)
    for use in (remote.check, lambda: remote.fetch("run"), lambda: mirrors.checkpoint_root(place)):
        with pytest.raises(UserError, match=r"is a link|others can write"):
            use()
    assert list((tmp_path / "victim").iterdir()) == []


def test_the_folder_of_this_machine_is_its_users_alone(tmp_path, machines):
    remote = RemoteCheckpoints(f"file://{tmp_path}/bucket")
    remote.check()
    for folder in (remote.local, remote.local.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_name_at_the_uri_that_leads_out_of_the_folder_is_passed_over(tmp_path, machines, monkeypatch):
    """Object stores have such names."""
    remote = RemoteCheckpoints("memory://bucket")
    system = fsspec.filesystem("memory")
    monkeypatch.setattr(type(system), "find", lambda self, path: ["/bucket/run/../../../outside", "/bucket/run/in"])
    monkeypatch.setattr(type(system), "exists", lambda self, path: True)
    monkeypatch.setattr(type(system), "get_file", lambda self, path, to: Path(to).touch())
    remote.fetch("run")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["in"]
