"""Names of metrics: those of before are read, and the first charts of MLflow's pages are curves of loss and error."""

import pytest

from records import names

METRICS = [
    value
    for key, value in vars(names).items()
    if key in ("LR", "RESPONSE", "EVALUATION")
    or key.startswith(("TRAIN_", "VAL_", "TEST_L", "TEST_E", "FINAL_", "COST_", "NOISE_R"))
]


def test_only_curves_of_loss_and_error_have_a_prefix():
    assert len(METRICS) > 20
    assert {name.partition("/")[0] for name in METRICS if "/" in name} == {"train", "val", "test"}
    assert not any("/" in name for name in (names.DIVERGED_STEP, names.SUMMARY_BEST, names.SUMMARY_TRIALS))


@pytest.mark.parametrize(
    ("stored", "present"),
    [
        ("cost/cpu_hours", names.COST_CPU_HOURS),
        ("final/test_err5", names.FINAL_TEST_ERR5),
        ("noise/rate", names.NOISE_RATE),
        ("response/stage3", names.RESPONSE.format(3)),
        ("diverged/step", names.DIVERGED_STEP),
        (names.VAL_ERR, names.VAL_ERR),
        ("evaluation/cifar10.1/err5", names.EVALUATION.format("cifar10.1", "err5")),
    ],
)
def test_a_name_of_before(stored, present):
    assert names.current_metric(stored) == present
    assert names.current_metrics({stored: 1.0}) == {present: 1.0}


@pytest.mark.parametrize("stored", [{"cost/hours": 1.0, "cost_hours": 2.0}, {"cost_hours": 2.0, "cost/hours": 1.0}])
def test_the_present_name_counts(stored):
    assert names.current_metrics(stored) == {"cost_hours": 2.0}
