"""Devices: where arrays live and which library computes there. Nothing here knows of tensors or gradients.

In a checkout this folder stands at the top; it is imported and installed as `tinytorch.backends`.

>>> from tinytorch import backends
>>> backends.device("cpu").name
'cpu'
"""

from tinytorch.backends import checkout
from tinytorch.backends.device import Array, Device, Stream, Unavailable
from tinytorch.backends.registry import (
    DeviceInfo,
    default_device,
    device,
    device_of,
    devices,
    families,
    register,
    set_default_device,
    unregister,
    usable_devices,
)
from tinytorch.backends.tree import map_tree

if __name__ == "backends":  # a checkout's folder, imported by its place: make it the package `tinytorch.backends`
    checkout.alias(__name__, "tinytorch.backends")
else:
    register("cpu", "tinytorch.backends.cpu:CpuDevice", library="numpy")
    register("cuda", "tinytorch.backends.cuda:CudaDevice", library="cupy")
    register("torch", "tinytorch.backends.torch_:TorchDevice", library="torch")
    register("jax", "tinytorch.backends.jax_:JaxDevice", library="jaxlib")
    register("sycl", "tinytorch.backends.sycl:SyclDevice", library="dpnp")
    register("strict", "tinytorch.backends.strict:StrictDevice", library="array_api_strict")

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
    "unregister",
    "usable_devices",
]
