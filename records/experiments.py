"""The MLflow experiment of a data set: "ran/<data set>", or one with the tag ran.dataset that a user has renamed.

The functions take an MlflowClient, which is not imported here.
"""

from typing import Any

from records import names
from records.errors import TrackingError
from records.mlflow_uri import artifact_location


def find_experiment(client: Any, dataset: str) -> Any | None:
    """Returns the experiment of a data set, None if there is none. Raises TrackingError for one that was deleted."""
    found = client.get_experiment_by_name(names.EXPERIMENT_PREFIX + dataset)
    if found is None:
        renamed = client.search_experiments(filter_string=f"tags.`{names.DATASET}` = '{dataset}'")
        found = min(renamed, key=lambda one: int(one.experiment_id), default=None)
    if found is not None and found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {found.name} was deleted in MLflow; "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}` restores it with its runs"
        )
    return found


def make_experiment(client: Any, uri: str, dataset: str) -> str:
    """Returns the id of the new experiment of a data set in the store at `uri`. MLflow refuses a name that exists."""
    name = names.EXPERIMENT_PREFIX + dataset
    return client.create_experiment(
        name, artifact_location=artifact_location(uri, dataset), tags={names.DATASET: dataset}
    )


def our_experiments(client: Any) -> list[Any]:
    """Returns the experiments of all data sets that are not deleted."""
    found: dict[str, Any] = {}
    for condition in (f"name LIKE '{names.EXPERIMENT_PREFIX}%'", f"tags.`{names.DATASET}` != ''"):
        token = None
        while True:
            page = client.search_experiments(filter_string=condition, page_token=token)
            found |= {experiment.experiment_id: experiment for experiment in page}
            token = page.token
            if not token:
                break
    return list(found.values())
