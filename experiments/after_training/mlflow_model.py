"""The code of an exported MLflow model. It is copied into the model, which does not need this project to be served.

Input: images, uint8 (N, 3, size, size). Output: class probabilities, float32 (N, K).
"""

from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext


class PyfuncClassifier(PythonModel):
    """Runs the exported graph in the same folder."""

    def load_context(self, context: PythonModelContext) -> None:
        self.network = torch.export.load(context.artifacts["program"]).module()

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        with torch.no_grad():
            return self.network(torch.from_numpy(np.ascontiguousarray(model_input))).softmax(1).numpy()


mlflow.models.set_model(PyfuncClassifier())
