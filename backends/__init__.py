"""Devices: where arrays live and which library computes there. Knows nothing of tensors or gradients.

>>> import backends
>>> backends.device("cpu").name
'cpu'
"""

from backends.device import Array, Device, Stream, Unavailable
from backends.registry import (
    DeviceInfo,
    default_device,
    device,
    device_of,
    devices,
    families,
    register,
    set_default_device,
    usable_devices,
)
from backends.tree import map_tree

register("cpu", "backends.cpu:CpuDevice", library="numpy")
register("cuda", "backends.cuda:CudaDevice", library="cupy")
register("torch", "backends.torch_:TorchDevice", library="torch")
register("jax", "backends.jax_:JaxDevice", library="jaxlib")
register("sycl", "backends.sycl:SyclDevice", library="dpnp")
register("strict", "backends.strict:StrictDevice", library="array_api_strict")

__all__ = [
    "Array",
    "Device",
    "DeviceInfo",
    "Stream",
    "Unavailable",
    "default_device",
    "device",
    "device_of",
    "devices",
    "families",
    "map_tree",
    "register",
    "set_default_device",
    "usable_devices",
]
