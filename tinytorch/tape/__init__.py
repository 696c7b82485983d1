"""What the engine in `tinytorch.autograd` stands on: tensors as it knows them, modes, observers, and what is refused.

Nothing here knows an op. From below to above:

variable: what the tape knows of a tensor, and of how it was made.
modes: whether ops are recorded.
observer: who is told of what is computed.
parts: the gradient of slicing.
mixing: arrays of several dtypes, and numbers, made to fit each other.
checks: what ops refuse, and how that is said.
gradients: what a rule gave, made to fit or refused.
again: gradients of gradients.
"""
