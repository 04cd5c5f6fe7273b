"""Every test here may train the network `tiny`."""

import pytest


@pytest.fixture(autouse=True)
def _tiny(tiny_network):
    pass
