"""Numbers that are the same in every step, on the device that needs them."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values (N,), made once: a copy from pageable memory waits until a GPU has done all that it was given."""
    with torch.inference_mode(False):  # training may come after an evaluation
        return torch.tensor(values, dtype=dtype, device=device)
