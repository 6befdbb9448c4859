"""Sharding of a frozen network over the processes of a run, for networks that do not fit one device.

By torch's FSDP2 (Zhao et al. 2023, arXiv:2304.11277): each block is gathered where it is needed, and freed again. Every
process must therefore make the same calls, which the trainer ensures by `Processes.lockstep`.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn

SHARDED_BLOCKS = (  # nearly all weights of diffusers' UNets and transformers
    *("ResnetBlock2D", "BasicTransformerBlock", "JointTransformerBlock", "FluxTransformerBlock"),
    *("FluxSingleTransformerBlock", "Flux2TransformerBlock", "Flux2SingleTransformerBlock"),
    *("QwenImageTransformerBlock", "ZImageTransformerBlock"),
)


def shard(network: nn.Module, device: torch.device) -> None:
    """Keep on each process a part of every frozen weight, on the device, and all trained weights on every process.

    Raises:
        ValueError: there is only one process, or nothing is frozen.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not distributed.is_initialized():
        raise ValueError("shard: got true, but there is one process alone; start several by torchrun")
    trained = {parameter for parameter in network.parameters() if parameter.requires_grad}
    if len(trained) == sum(1 for _ in network.parameters()):
        raise ValueError("shard: got true, but all weights are trained; it shares out those that tuning=lora freezes")
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    blocks = [module for module in network.modules() if type(module).__name__ in SHARDED_BLOCKS]
    for module in (*blocks, network):
        fully_shard(module, mesh=mesh, ignored_params=trained)


def is_sharded(network: Any) -> bool:
    """Return whether `shard` was called with a network."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(network, FSDPModule)


def max_over_processes(count: int) -> int:
    """Return the largest of the numbers that the processes call this with."""
    largest: Tensor = torch.tensor(count)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)
