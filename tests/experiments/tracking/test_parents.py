"""What parent runs record when several launches share them."""

import contextlib
import threading

from experiments.tracking import parents
from experiments.tracking.leases import Leases, in_turn
from experiments.tracking.store import Store


def test_two_launches_write_a_step_of_the_summary_once(lab):
    store = Store.open(lab.uri)
    run = store.client.create_run(store.experiment("cluttershapes")).info.run_id
    lab.checkpoints.mkdir()
    start = threading.Barrier(4)

    def launch(mean):
        leases = Leases(store, lab.checkpoints)
        start.wait()
        for step in (1, 2):
            turn = in_turn("summary", lab.checkpoints, leases)
            parents.summarize(store, run, {"err/arl": mean, "err/nal": mean}, step, turn)

    threads = [threading.Thread(target=launch, args=(mean,)) for mean in (1.0, 2.0, 3.0, 4.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in ("err/arl", "err/nal"):
        assert sorted(p.step for p in store.client.get_metric_history(run, key)) == [1, 2]


def test_nothing_new_waits_for_nobody(lab):
    store = Store.open(lab.uri)
    run = store.client.create_run(store.experiment("cluttershapes")).info.run_id
    parents.summarize(store, run, {"err/arl": 1.0}, 1, contextlib.nullcontext())

    @contextlib.contextmanager
    def never():
        raise AssertionError
        yield

    parents.summarize(store, run, {"err/arl": 2.0}, 1, never())
