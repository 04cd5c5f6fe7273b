"""A store works in a folder of any name, and leaves nothing beside it."""

import pytest

from analysis.read.mlflow_store import read_contents
from experiments.tracking.store import Store
from records import names
from records.mlflow_uri import absolute, resolve_uri

FOLDERS = ["a#b", "a?b", "50%20off", 'it\'s "q" :b']
MORE = ["50%2520off", "100%", "it's", "a b", "ä", "a@b", "a\\b", "%(x)s"]


@pytest.mark.parametrize("name", [*FOLDERS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_a_store_in_a_folder(name, tmp_path, monkeypatch):
    top = tmp_path / "top"
    folder = top / name
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)  # where MLflow would have artifacts of its own default experiment
    for uri in (resolve_uri(f"sqlite:///{folder}/mlflow.db"), absolute("sqlite:///mlflow.db")):
        store = Store.open(uri)
        run = store.client.create_run(store.experiment("cluttershapes"), tags={names.FINGERPRINT: "f"})
        store.log_json(run.info.run_id, {"a": 1}, "a.json")
        assert store.artifacts(run.info.run_id) == {"a.json"}
        assert Store.peek(uri) is not None
        read = [found.artifact("a.json") for found in read_contents(uri).runs]
        assert None not in read
    assert len(read) == 2, "both URIs name one store"
    assert [path.name for path in top.iterdir()] == [name]
    assert {path.name for path in folder.iterdir()} - {"mlflow.db-wal", "mlflow.db-shm"} == {"mlflow.db", "mlruns"}
