"""What a worker imports before it is given its first run. Importing this module itself imports nothing large."""

from records.collector import collector_paused


@collector_paused()
def warm_up() -> None:
    """Imports what the first run needs, while the launch still opens the store."""
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  MLflow imports both when it opens a sqlite store

    import experiments.executors.ray_worker  # noqa: F401
