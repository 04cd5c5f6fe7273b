"""Searches: Optuna proposes trials, which are trained as a study's runs are. A search file needs `Search` alone."""

from experiments.search.space import Search as Search
