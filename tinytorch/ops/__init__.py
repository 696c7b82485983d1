"""All ops, the only home of gradient rules, one family to a file; every public name here is also `tinytorch.<name>`."""

from tinytorch.ops import elementwise, index, layer, linalg, loss, reduce, shape, window
from tinytorch.ops import subscript as subscript
from tinytorch.ops.elementwise import *
from tinytorch.ops.elementwise import flat_in as flat_in
from tinytorch.ops.elementwise import masked_scale as masked_scale
from tinytorch.ops.index import *
from tinytorch.ops.index import scatter_add as scatter_add  # extension points of a device as ops
from tinytorch.ops.index import wrapped as wrapped
from tinytorch.ops.layer import *
from tinytorch.ops.linalg import *
from tinytorch.ops.loss import *
from tinytorch.ops.reduce import *
from tinytorch.ops.shape import *
from tinytorch.ops.shape import transfer as transfer
from tinytorch.ops.subscript import add_parts as add_parts
from tinytorch.ops.subscript import put as put
from tinytorch.ops.window import *

__all__ = []
__all__ += elementwise.__all__
__all__ += index.__all__
__all__ += layer.__all__
__all__ += linalg.__all__
__all__ += loss.__all__
__all__ += reduce.__all__
__all__ += shape.__all__
__all__ += window.__all__
