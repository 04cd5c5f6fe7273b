"""The code of an exported MLflow model, which is copied into it: of this project it needs nothing when it is served.

uint8 (N, 3, size, size) in, the probability of each class float32 (N, K) out.
"""

from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext


class Classifier(PythonModel):
    """Runs the exported graph that lies beside it."""

    def load_context(self, context: PythonModelContext) -> None:
        self.network = torch.export.load(context.artifacts["program"]).module()

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        with torch.no_grad():
            return self.network(torch.from_numpy(np.ascontiguousarray(model_input))).softmax(1).numpy()


mlflow.models.set_model(Classifier())
