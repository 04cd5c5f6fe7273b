"""Runs in worker processes that Ray places: cluster joins it, the foreman hands out runs, a worker trains them."""
