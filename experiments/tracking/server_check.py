"""Whether a launch may write to a tracking server, found out before anything is trained."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from experiments.tracking.errors import TrackingError, asking
from experiments.tracking.store import Store
from records import names
from records.artifact_place import local_folder
from records.experiments import find_experiment


def check_server(store: Store, dataset: str) -> None:
    """Raises TrackingError if this user may only read, or if artifacts would go to a folder of the server's machine.

    Does nothing for a sqlite store.
    """
    if urlsplit(store.uri).scheme not in ("http", "https"):
        return
    with asking(store.uri):
        experiment = find_experiment(store.client, dataset)
        if experiment is not None:  # one that a launch makes is its user's own
            store.client.set_experiment_tag(experiment.experiment_id, names.DATASET, dataset)
        else:
            (experiment,) = store.client.search_experiments(max_results=1) or [None]
    if experiment is None or (folder := local_folder(experiment.artifact_location)) is None:
        return
    if not _shared(store.uri, folder):
        raise TrackingError(
            f"{store.uri} keeps artifacts in {folder}, a folder of the server's machine that this one does not have: "
            "start the server with --serve-artifacts, or with --default-artifact-root at a URI that both reach"
        )


def _shared(uri: str, folder: Path) -> bool:
    """Whether a folder of the server's machine is one of this machine, too."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    if not (folder.is_absolute() and os.access(there, os.W_OK)):
        return False
    local = ("localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn())
    return urlsplit(uri).hostname in local or there in (folder, folder.parent)
