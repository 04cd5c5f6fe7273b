"""A server that only lets this user read, or keeps artifacts on its own machine, is found out before training."""

from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from experiments.tracking.errors import NotPermitted, TrackingError
from experiments.tracking.server_check import check_server
from experiments.tracking.store import Store

DENIED = MlflowException("API request failed with error code 403. Permission denied", PERMISSION_DENIED)


def server(location, uri="http://mlflow.example:5000", *, known=True, may_write=True):
    """A store behind a server with one experiment, whose artifacts lie at `location`."""
    experiment = SimpleNamespace(
        experiment_id="1", artifact_location=str(location), name="ran/cluttershapes", lifecycle_stage="active"
    )

    def set_experiment_tag(*arguments):
        if not may_write:
            raise DENIED

    return SimpleNamespace(uri=uri, client=SimpleNamespace(
        get_experiment_by_name=lambda name: experiment if known else None,
        search_experiments=lambda max_results=None, filter_string=None: [] if filter_string else [experiment],
        set_experiment_tag=set_experiment_tag,
    ))  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("location", ["/srv/of/the/server/mlruns/1", "file:///srv/of/the/server/mlruns/1", "mlruns/1"])
def test_artifacts_on_the_servers_machine_are_refused(location, known):
    with pytest.raises(TrackingError, match=r"a folder of the server's machine .* --serve-artifacts"):
        check_server(server(location, known=known), "cluttershapes")


def test_artifacts_that_both_machines_reach(tmp_path):
    for store in (
        server("mlflow-artifacts:/1"),
        server("s3://bucket/1"),
        server(tmp_path),
        server(tmp_path / "1"),
        server(tmp_path / "deep" / "mlruns" / "1", "http://127.0.0.1:5000"),
        server("/srv/of/the/server", "sqlite:////mlflow.db"),
    ):
        check_server(store, "cluttershapes")


def test_a_user_who_may_only_read_is_refused():
    with pytest.raises(NotPermitted, match="does not permit this: API request failed with error code 403"):
        check_server(server("mlflow-artifacts:/1", may_write=False), "cluttershapes")


def test_a_user_who_may_only_read_gets_the_table_of_a_finished_study(lab, monkeypatch):
    expected = lab.launch("--cells", "learning=arl")
    assert expected.status == 0

    def denied(*arguments, **options):
        raise DENIED

    for method in ("update_run", "create_run", "log_batch", "log_artifact", "set_terminated"):
        monkeypatch.setattr(f"mlflow.MlflowClient.{method}", denied)
    said = lab.launch("--cells", "learning=arl")
    assert (said.status, said.out) == (0, expected.out), said.err
    refused = lab.launch()
    assert (refused.status, refused.out) == (2, "")
    assert "does not permit this" in refused.err
    assert Store.peek(lab.uri) is not None
