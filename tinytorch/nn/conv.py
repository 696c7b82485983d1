"""Convolution and pooling of images, (N, C, H, W)."""

from __future__ import annotations

from typing import Any

from tinytorch import ops
from tinytorch.backends import Device
from tinytorch.dtypes import float32
from tinytorch.nn.init import init_affine
from tinytorch.nn.module import Module
from tinytorch.nn.settings import check_sizes, new_parameter
from tinytorch.ops.window import Pair, pair, pooling
from tinytorch.tensor import Tensor
from tinytorch.words import checked


class Conv2d(Module):
    """Kernels that slide over images: (N, in_channels, H, W) -> (N, out_channels, H', W'); see `tinytorch.conv2d`.

    Source: LeCun et al. (1989), "Backpropagation Applied to Handwritten Zip Code Recognition".

    Args:
        in_channels, out_channels: channels of the images that come in and go out.
        kernel_size: rows and columns of a kernel; like stride, padding and dilation a number or a pair.
        stride: steps between places of the kernel.
        padding: zeros on each side of the image.
        dilation: steps between the elements of a kernel.
        groups: the channels are split into so many groups, each with its own kernels.
        bias: whether there is a bias.

    Attributes:
        weight: (out_channels, in_channels / groups, KH, KW), initially uniform in +-1 / sqrt(fan_in).
        bias: (out_channels,), with the same initial law, or None.

    >>> tinytorch.Conv2d(1, 8, kernel_size=3)(tinytorch.ones((2, 1, 8, 8))).shape
    (2, 8, 6, 6)
    """

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: str | Device | None = None,
        dtype: Any = float32,
    ) -> None:
        check_sizes("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: {in_channels} and {out_channels} channels must be multiples of groups={groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride, self.dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
        self.padding = pair("padding", padding, 0)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = new_parameter(*shape, device=device, dtype=dtype)
        self.bias = new_parameter(out_channels, device=device, dtype=dtype) if bias else None
        init_affine(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(  # (N, out_channels, H', W')
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}" if self.padding != (0, 0) else ""
        text += f", dilation={self.dilation}" if self.dilation != (1, 1) else ""
        text += f", groups={self.groups}" if self.groups != 1 else ""
        return text + ("" if self.bias is not None else ", bias=False")


class MaxPool2d(Module):
    """The largest element under each place of a window: (N, C, H, W) -> (N, C, H', W'); see `tinytorch.max_pool2d`.

    >>> tinytorch.MaxPool2d(kernel_size=2)(tinytorch.ones((2, 8, 6, 6))).shape
    (2, 8, 3, 3)
    """

    @checked
    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1) -> None:
        self.kernel_size, self.stride, self.padding = pooling(kernel_size, stride, padding)
        self.dilation = pair("dilation", dilation, 1)

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(  # (N, C, H', W')
            x, kernel_size=self.kernel_size, stride=self.stride, padding=self.padding, dilation=self.dilation
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


class AvgPool2d(Module):
    """The mean of the elements under each place of a window: (N, C, H, W) -> (N, C, H', W'); see `avg_pool2d`.

    >>> tinytorch.AvgPool2d(2)(tinytorch.ones((2, 8, 6, 6))).shape
    (2, 8, 3, 3)
    """

    @checked
    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
    ) -> None:
        self.kernel_size, self.stride, self.padding = pooling(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(  # (N, C, H', W')
            x,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            count_include_pad=self.count_include_pad,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
