"""Half precision where it is fast: inside the network, on GPUs; losses and weights stay in single precision."""

from __future__ import annotations

import torch


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the context in which a network runs while it learns: bfloat16 on CUDA GPUs that compute in it, else nothing changes."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
