"""Copies from the processor's memory to a device."""

import torch
from torch import Tensor


class Uploader:
    """Copies tensors to a device; to CUDA from pinned memory and in a stream of its own, while the device computes."""

    def __init__(self, device: torch.device):
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Returns the tensors on the device; operations that are given to it later wait for the copy."""
        if self._stream is None:
            return tuple(tensor.to(self.device) for tensor in tensors)
        with torch.cuda.stream(self._stream):
            # Pinned memory is not used again before the copy has ended: PyTorch's allocator sees to it.
            sent = tuple(tensor.pin_memory().to(self.device, non_blocking=True) for tensor in tensors)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._stream)
        for tensor in sent:
            tensor.record_stream(computing)
        return sent
