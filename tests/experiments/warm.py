"""Imported before processes are forked: what a launch would otherwise load, and count, in its first four seconds."""

import mlflow.store.artifact.local_artifact_repo
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
from sqlalchemy.orm import configure_mappers

import analysis.parent_page  # noqa: F401
import experiments.launch  # noqa: F401
import run_ablation  # noqa: F401
from ran.config import ModelConfig
from ran.models.cost import cost
from ran.models.zoo import config_spec

configure_mappers()
cost(config_spec(ModelConfig("attention56", width=0.125)), num_classes=10, image_size=32)
