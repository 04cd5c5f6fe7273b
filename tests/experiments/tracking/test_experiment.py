"""What a user does to an experiment in MLflow's page: a renamed one is found, a deleted one is refused."""

from lab import EXPERIMENT

from analysis.read.mlflow_store import read_store
from experiments import runs
from experiments.tracking.store import Store


def test_a_renamed_experiment_is_found(lab, capsys):
    assert lab.launch("--cells", "learning=arl").status == 0
    known = lab.client.get_experiment_by_name(EXPERIMENT)
    lab.client.rename_experiment(known.experiment_id, "My shapes")
    said = lab.launch("--dry-run")
    assert said.out.count(" done ") == 1, said.out
    assert lab.launch().status == 0
    assert lab.client.get_experiment_by_name(EXPERIMENT) is None
    assert len(lab.client.search_runs([known.experiment_id])) == 3, "a parent and two runs"
    assert len(read_store(lab.uri).runs) == 2
    assert runs.main(["--tracking-uri", lab.uri]) == 0
    assert capsys.readouterr().out.count("finished") == 2


def test_a_deleted_experiment_is_refused_and_can_be_restored(lab):
    assert lab.launch("--cells", "learning=arl").status == 0
    known = lab.client.get_experiment_by_name(EXPERIMENT)
    lab.client.delete_experiment(known.experiment_id)
    for arguments in (("--dry-run",), (), ("--rerun",)):
        said = lab.launch(*arguments)
        assert (said.status, said.out, len(said.err.splitlines())) == (2, "", 1), said.err
        assert f"`mlflow experiments restore --experiment-id {known.experiment_id}`" in said.err
    lab.client.restore_experiment(known.experiment_id)
    assert lab.launch("--dry-run").out.count(" done ") == 1


def test_an_experiment_of_an_earlier_version_gets_the_tag(lab):
    known = lab.client.create_experiment(
        EXPERIMENT, artifact_location=(lab.folder / "mlruns" / "cluttershapes").as_uri()
    )
    assert Store.open(lab.uri).experiment("cluttershapes") == known
    lab.client.rename_experiment(known, "My shapes")
    assert Store.open(lab.uri).experiment("cluttershapes") == known
