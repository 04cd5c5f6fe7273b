"""MLflow's monitor finds NVML, and so logs load, memory and power of a GPU beside those of the machine."""

import sys
from types import SimpleNamespace

import pytest
from mlflow.system_metrics.metrics import gpu_monitor


@pytest.fixture
def one_gpu(monkeypatch):
    """NVML as on a machine with one GPU; the library itself is the installed one."""
    pynvml = pytest.importorskip("pynvml") if sys.platform == "darwin" else gpu_monitor.pynvml
    answers = {
        "nvmlInit": None, "nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=2e9, total=8e9),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37), "nvmlDeviceGetPowerUsage": 350_000,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    }  # fmt: skip
    for name, answer in answers.items():
        assert hasattr(pynvml, name), "NVML's function, as MLflow calls it"
        monkeypatch.setattr(pynvml, name, lambda *arguments, answer=answer: answer)


def test_the_monitor_finds_nvml(one_gpu):
    monitor = gpu_monitor.GPUMonitor()
    monitor.collect_metrics()
    found = monitor.aggregate_metrics()
    assert found["gpu_0_utilization_percentage"] == 37
    assert found["gpu_0_memory_usage_percentage"] == 25
    assert found["gpu_0_power_usage_watts"] == 350
