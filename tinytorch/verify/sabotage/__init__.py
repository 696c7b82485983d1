"""Classic bugs, as context managers: break the library on purpose, and see whether the gates notice.

```python
with sabotage.sign_flip():
    report = verify(train)      # must not be ok
```

`BUGS` has all bugs by name. A bug acts on all threads, as long as the block lasts.
"""

from tinytorch.verify.sabotage.computing import (
    causal_mask_off_by_one,
    conv_gradient_tenth,
    conv_gradient_transposed,
    conv_gradient_zero,
    dropout_always_on,
    graph_cut,
    kernel_transposed,
    key_gradient_missing,
    layer_norm_statistics_constant,
    loss_zero,
    missing_broadcast_sum,
    nan_gradient,
    positions_ignored,
    relu_gradient_everywhere,
    repeated_tokens_overwrite,
    sign_flip,
    tanh_gradient_forgotten,
    weights_start_at_zero,
)
from tinytorch.verify.sabotage.habits import (
    data_not_normalised,
    dtypes_mixed,
    eval_mode_left_on,
    labels_floating,
    labels_off_by_one,
    labels_one_hot,
    learning_rate_as_attribute,
    learning_rate_too_small,
    logits_as_probabilities,
    sigmoid_twice,
    softmax_before_loss,
    tensor_for_parameter,
    weights_start_large,
)
from tinytorch.verify.sabotage.tools import BUGS, Bug
from tinytorch.verify.sabotage.training import (
    epochs_cut_short,
    gradient_ascent,
    gradients_never_cleared,
    held_out_transposed,
    labels_leaked,
    labels_misaligned,
    learning_rate_too_large,
    parameter_forgotten,
    same_batch_again,
    step_does_nothing,
)

__all__ = [
    "BUGS",
    "Bug",
    "causal_mask_off_by_one",
    "conv_gradient_tenth",
    "conv_gradient_transposed",
    "conv_gradient_zero",
    "data_not_normalised",
    "dropout_always_on",
    "dtypes_mixed",
    "epochs_cut_short",
    "eval_mode_left_on",
    "gradient_ascent",
    "gradients_never_cleared",
    "graph_cut",
    "held_out_transposed",
    "kernel_transposed",
    "key_gradient_missing",
    "labels_floating",
    "labels_leaked",
    "labels_misaligned",
    "labels_off_by_one",
    "labels_one_hot",
    "layer_norm_statistics_constant",
    "learning_rate_as_attribute",
    "learning_rate_too_large",
    "learning_rate_too_small",
    "logits_as_probabilities",
    "loss_zero",
    "missing_broadcast_sum",
    "nan_gradient",
    "parameter_forgotten",
    "positions_ignored",
    "relu_gradient_everywhere",
    "repeated_tokens_overwrite",
    "same_batch_again",
    "sigmoid_twice",
    "sign_flip",
    "softmax_before_loss",
    "step_does_nothing",
    "tanh_gradient_forgotten",
    "tensor_for_parameter",
    "weights_start_at_zero",
    "weights_start_large",
]
