"""Searches: Optuna proposes trials, which are trained as the runs of a study are. A search file imports `Search`."""

from experiments.search_spec import Search as Search
