"""The ground of the engine in `tinytorch.autograd`: variables, modes, observers, checks.

Nothing here knows an op. From below to above:

variable: what the tape knows of a tensor, and of the op that made the tensor.
modes: whether ops are recorded.
observer: what debugging tools are told.
parts: the gradient of slicing.
mixing: arrays of several dtypes, and numbers, made to fit each other.
checks: what ops refuse, and the errors.
gradients: the gradient from a rule, made to fit or refused.
again: gradients of gradients.
"""
