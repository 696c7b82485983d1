"""Names of PyTorch and NumPy that are spelled otherwise in tinytorch, or are missing, and what to write.

Each table is lines of "their name: what to write". `x` is the tensor, `model` the module.

The file is long because it is a table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def _table(text: str) -> dict[str, str]:
    """name -> what to write, from lines of "name, name: what to write"."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        names, _, what = line.partition(": ")
        found |= dict.fromkeys(names.split(", "), what)
    return found


FUNCTIONS = _table("""
    absolute, fabs: abs(x)
    arccos: acos(x)
    arccosh: acosh(x)
    arcsin: asin(x)
    arcsinh: asinh(x)
    arctan: atan(x)
    arctan2: atan2(x, y)
    arctanh: atanh(x)
    amax, max_values: max(x, axis=...)
    amin, min_values: min(x, axis=...)
    add_n: x + y
    addmm, addmv, addbmm, baddbmm: y + x @ z
    addcmul: x + value * y * z
    addcdiv: x + value * y / z
    allclose: tinytorch.all(abs(x - y) <= 1e-8 + 1e-5 * abs(y)), in tests tinytorch.testing.assert_close
    isclose, array_equal: tinytorch.all(abs(x - y) <= 1e-8 + 1e-5 * abs(y)), in tests tinytorch.testing.assert_close
    argwhere, flatnonzero: nonzero(x)
    array, as_tensor, asanyarray, ascontiguousarray, from_numpy, frombuffer, fromiter, copy: asarray(x)
    array_split, chunk, dsplit, hsplit, vsplit, tensor_split, split_with_sizes: split(x, sizes, axis=...)
    around, rint: round(x)
    average, nanmean: mean(x)
    batch_norm, group_norm, instance_norm: layer_norm(x), or write the formula
    bernoulli: rand(*x.shape) < p
    bincount, index_add, scatter: tinytorch.ops.scatter_add(values, indices, size)
    scatter_add, scatter_reduce, index_put: tinytorch.ops.scatter_add(values, indices, size)
    bitwise_not, invert: bitwise_invert(x)
    bmm, mm, mv, dot, chain_matmul: x @ y
    broadcast_tensors, broadcast, atleast_1d, atleast_2d, atleast_3d: broadcast_arrays(x, y)
    cat, concatenate, hstack, vstack, dstack, column_stack, row_stack, append: concat([x, y], axis=...)
    cbrt: sign(x) * abs(x) ** (1 / 3)
    clamp, hardtanh: clip(x, min, max)
    clamp_max: clip(x, max=...)
    clamp_min: clip(x, min=...)
    conjugate, resolve_conj: x, since all numbers are real
    cosine_similarity: sum(x * y, axis=-1) / sqrt(sum(x * x, axis=-1) * sum(y * y, axis=-1))
    cumprod: cumulative_prod(x, axis=...)
    cumsum, nancumsum: cumulative_sum(x, axis=...)
    deg2rad, radians: x * (tinytorch.pi / 180)
    rad2deg, degrees: x * (180 / tinytorch.pi)
    diag, diagflat, diag_embed, diagonal: x * tinytorch.eye(n), or einsum("ii->i", x)
    div, true_divide: x / y
    mul: x * y
    sub, rsub: x - y
    neg: -x
    eq: x == y
    ne: x != y
    lt: x < y
    le: x <= y
    gt: x > y
    ge: x >= y
    dropout, alpha_dropout, feature_dropout: tinytorch.nn.Dropout(p)(x)
    erfc: 1 - erf(x)
    exp2: 2 ** x
    expand, expand_as: broadcast_to(x, shape)
    fix: trunc(x)
    fliplr, flipud, rot90: flip(x, axis=...)
    float_power, power: x ** y
    fmax: maximum(x, y)
    fmin: minimum(x, y)
    fmod, mod: remainder(x, y)
    left_shift: x << y
    right_shift: x >> y
    full_copy, fill, new_full: full(shape, value)
    gather, take_along_dim, put_along_axis: take_along_axis(x, indices, axis=...)
    ger, outer: x[:, None] * y[None, :]
    heaviside: where(x < 0, 0.0, 1.0)
    identity: eye(n)
    index_select, choose: take(x, indices, axis=...)
    inference_mode: with tinytorch.no_grad():
    inner, vdot: vecdot(x, y)
    kron: x[:, None, :, None] * y[None, :, None, :]
    l1_loss: abs(x - y).mean()
    leaky_relu, prelu, rrelu: where(x > 0, x, slope * x)
    elu, selu, celu: where(x > 0, x, expm1(x))
    silu, swish: x * sigmoid(x)
    relu6: clip(x, 0, 6)
    lerp: x + weight * (y - x)
    load, save, savez: numpy.savez(path, **model.state_dict()), and model.load_state_dict(numpy.load(path))
    logit: log(x / (1 - x))
    logspace, geomspace: base ** tinytorch.linspace(start, stop, num)
    logsigmoid: -logaddexp(x * 0, -x)
    masked_fill, masked_scatter, nan_to_num, select, piecewise, copyto, putmask: where(mask, value, x)
    masked_select, compress, extract: x[mask]
    median, quantile, percentile, kthvalue: sort(x, axis=...), or argsort
    msort, topk, partition, argpartition, lexsort: sort(x, axis=...), or argsort
    movedim, rollaxis: moveaxis(x, i, j)
    moveaxes: moveaxis(x, i, j)
    nansum: sum(where(isnan(x), 0.0, x))
    narrow, slice_copy: x[start:stop]
    new_empty, empty_strided: empty(shape)
    new_ones: ones(shape)
    new_tensor: tensor(data)
    new_zeros: zeros(shape)
    nll_loss, kl_div, log_loss: cross_entropy(logits, target)
    norm, frobenius_norm: sqrt(sum(x * x))
    one_hot: tinytorch.eye(n)[labels]
    permute: permute_dims(x, axes)
    rand_like: rand(*x.shape)
    randn_like, normal: randn(*x.shape)
    random_sample, uniform: rand(shape)
    randint_like, random: randint(low, high, x.shape)
    ravel, view, view_as, reshape_as, resize, resize_as: reshape(x, shape)
    real_if_close, view_as_real: x, since all numbers are real
    repeat_interleave: repeat(x, n, axis=...)
    rsqrt: 1 / sqrt(x)
    seed, initial_seed, get_rng_state, set_rng_state, Generator, default_generator: manual_seed(n)
    set_default_dtype, get_default_dtype, promote_types: dtype=...; the default is float32
    sgn: sign(x)
    sinc: where(x == 0, 1.0, sin(x) / x)
    softmin: softmax(-x)
    softplus: logaddexp(x, x * 0)
    std_mean: std(x), and mean(x)
    var_mean: var(x), and mean(x)
    aminmax: min(x), and max(x)
    swapaxes, swapdims, transpose, t, adjoint, H, mH: x.mT, or permute_dims(x, axes)
    trace: einsum("ii", x)
    tri, tril_indices: tril(ones((n, n)))
    triu_indices: triu(ones((n, n)))
    unbind: unstack(x, axis=...)
    unique, union1d, unique_consecutive: unique_values(x)
    unsqueeze: expand_dims(x, axis=...)
    where_: where(mask, x, y)
    xlogy: where(x == 0, 0.0, x * log(y))
    inf_, infty, NINF: inf
    ndarray, matrix, FloatTensor, Parameter_: Tensor(data)
    double, DoubleTensor, float64_: float64
    float, single, float_: float32
    long, LongTensor, int_, longlong, intp: int64
    int, IntTensor, intc: int32
    short, ShortTensor: int16
    char, CharTensor, byte_: int8
    byte, ByteTensor, ubyte: uint8
    bool_, BoolTensor: tinytorch.bool
    numel, nelement: x.size
    ndim, ndimension, dim, rank: x.ndim
    shape, size: x.shape
    is_tensor: isinstance(x, tinytorch.Tensor)
    from_numpy_: asarray(x)
    functional, functions: tinytorch.relu and so on; there is one namespace: `import tinytorch as F`
    utils: tinytorch.data, which has DataLoader, or tinytorch.optim, which has clip_grad_norm_
    compare: from tinytorch.parity import compare
    doctor: from tinytorch import parity
    get_default_device: default_device()
    set_num_threads: OMP_NUM_THREADS=1 in the environment
    autocast, amp, half, bfloat16, float16: float32; there is no other precision but float64
    cuda: model.to("cuda"); tinytorch.devices() says whether it can be used, and why not
""")

TENSOR = _table("""
    contiguous: x, which always is
    cpu_: x.cpu()
    is_cuda, get_device, is_cpu, is_mps: x.device.is_gpu, or x.device
    grad_fn: x.node
    detach_: x = x.detach()
    double: x.to(tinytorch.float64)
    float: x.to(tinytorch.float32)
    int: x.to(tinytorch.int32)
    long: x.to(tinytorch.int64)
    short: x.to(tinytorch.int16)
    char: x.to(tinytorch.int8)
    byte: x.to(tinytorch.uint8)
    bool: x.to(tinytorch.bool)
    type, type_as: x.dtype, or x.to(y)
    add_: x += y
    sub_, subtract_: x -= y
    mul_, multiply_: x *= y
    div_, divide_, true_divide_: x /= y
    pow_: x **= y
    copy_: x.data = y
    fill_: x[...] = value
    zero_: x[...] = 0
    uniform_, normal_, trunc_normal_: tinytorch.nn.init.uniform_(x), normal_(x) or trunc_normal_(x)
    view: x.reshape(...)
    permute: x.permute_dims(...)
    transpose: x.mT, or tinytorch.moveaxis(x, i, j)
    t: x.T
    unsqueeze: x.expand_dims(axis=...)
    cumsum: x.cumulative_sum(axis=...)
    cumprod: x.cumulative_prod(axis=...)
    clamp: x.clip(min, max)
    dim, ndimension: x.ndim
    numel, nelement: x.size
    matmul, mm, bmm, mv, dot: x @ y
    gather: tinytorch.take_along_axis(x, indices, axis=...)
    masked_fill: tinytorch.where(mask, value, x)
    repeat: tinytorch.tile(x, repetitions)
    nbytes, itemsize, element_size: x.size * x.dtype.itemsize
    name: nn.Parameter, whose name it is
    register_hook, retain_grad, retains_grad: tinytorch.grad(loss, x)
    data_ptr, storage, untyped_storage, stride, strides: x.__dlpack__(); memory is not shown
    values, indices: x, which is not sparse
    dump, dumps, tobytes, tofile: x.numpy(), and then that
    flat: x.reshape(-1)
    fill: x[...] = value
    put: x[i] = value
""")

MODULE = _table("""
    float: model.to(tinytorch.float32)
    double: model.to(tinytorch.float64)
    half, bfloat16: model.to(tinytorch.float32); there is no other precision but float64
    type: model.to(dtype)
    add_module, register_module, register_parameter: model.name = ..., or setattr(model, name, ...)
    get_parameter: dict(model.named_parameters())[name]
    get_buffer: dict(model.named_buffers())[name]
    get_submodule, set_submodule: dict(model.named_modules())[name]
    compile: model; there is nothing to compile
    device: next(model.parameters()).device
    dtype: next(model.parameters()).dtype
    to_empty: model.to(device)
    save: numpy.savez(path, **model.state_dict())
    load: model.load_state_dict(numpy.load(path))
    fit, train_on_batch: a loop of your own, as in the README
    predict: model(x)
    summary: print(model)
    grad: [p.grad for p in model.parameters()]
    requires_grad: model.requires_grad_(False)
    weights: model.parameters()
""")

NN = _table("""
    MultiheadAttention: MultiHeadAttention
    NLLLoss, KLDivLoss, NLLLoss2d: CrossEntropyLoss, of logits
    L1Loss, SmoothL1Loss, HuberLoss: abs(x - y).mean()
    LogSoftmax: tinytorch.log_softmax(x)
    LogSigmoid, Softplus: tinytorch.logaddexp(x, x * 0)
    SiLU: x * tinytorch.sigmoid(x)
    LeakyReLU, PReLU, RReLU, ELU, SELU, CELU, ReLU6, Hardtanh, Threshold: tinytorch.where(x > 0, x, slope * x)
    Softmax2d, Softmin: Softmax
    BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm, GroupNorm, RMSNorm: LayerNorm, where that serves
    InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, LocalResponseNorm: LayerNorm, where that serves
    Conv1d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d: Conv2d, where that serves
    MaxPool1d, MaxPool3d: MaxPool2d, or tinytorch.max(x, axis=...)
    AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d: MaxPool2d, or tinytorch.max(x, axis=...)
    AvgPool1d, AvgPool3d: AvgPool2d, or tinytorch.mean(x, axis=...)
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d: AvgPool2d, or tinytorch.mean(x, axis=...)
    Dropout1d, Dropout2d, Dropout3d, AlphaDropout, FeatureAlphaDropout: Dropout
    TransformerEncoder, TransformerDecoder: TransformerEncoderLayer, in a Sequential
    TransformerDecoderLayer, Transformer: TransformerEncoderLayer, in a Sequential
    RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell, RNNBase, RNNCellBase: Linear, in a module of your own with a loop
    EmbeddingBag: Embedding, and a sum
    Unflatten: x.reshape(...)
    ModuleDict, ParameterList, ParameterDict, Container: ModuleList, or an attribute for each
    Buffer, UninitializedBuffer: model.register_buffer(name, tensor)
    UninitializedParameter, parameter: Parameter
    LazyLinear: Linear(in_features, out_features)
    LazyConv1d, LazyConv2d, LazyConv3d: Conv2d(in_channels, out_channels, kernel_size)
    ZeroPad1d, ZeroPad2d, ZeroPad3d, ConstantPad1d, ConstantPad2d, ConstantPad3d: tinytorch.pad(x, widths)
    ReflectionPad1d, ReflectionPad2d, ReplicationPad1d: tinytorch.pad(x, widths)
    ReplicationPad2d, CircularPad1d, CircularPad2d: tinytorch.pad(x, widths)
    CosineSimilarity: tinytorch.vecdot(x, y)
    functional: tinytorch.relu and so on; there is one namespace: `import tinytorch as F`
    utils: tinytorch.optim.clip_grad_norm_
    modules: tinytorch.nn
    Softsign: x / (1 + abs(x))
    BCEWithLogits: BCEWithLogitsLoss
""")

OPTIM = _table("""
    lr_scheduler: for group in optimizer.param_groups: group["lr"] = ...
    RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam, Adafactor, Muon, LBFGS: Adam, AdamW or SGD
    ASGD, Rprop, SparseAdam: Adam, AdamW or SGD
    swa_utils: a mean of state_dict()s
""")

DATA = _table("""
    Dataset, IterableDataset, StackDataset, ConcatDataset, ChainDataset: any class with __len__ and __getitem__
    RandomSampler, Sampler: DataLoader(..., shuffle=True)
    SequentialSampler, SubsetRandomSampler, WeightedRandomSampler: DataLoader(..., shuffle=True)
    BatchSampler, DistributedSampler, sampler: DataLoader(..., batch_size=...)
    default_collate, default_convert: DataLoader, which joins examples
    dataloader, dataset: tinytorch.data
    utils: tinytorch.data
""")

OPTIMIZER = _table("""
    state: optimizer.state_dict()["state"]
    params, parameters: optimizer.param_groups[0]["params"]
    set_lr, get_lr: optimizer.param_groups[0]["lr"]
    minimize: loss.backward(), and then optimizer.step()
""")

INIT = _table("""
    normal, uniform, constant, ones, zeros: the name with _ at its end, as it changes the tensor
    trunc_normal, kaiming_uniform, kaiming_normal: the name with _ at its end, as it changes the tensor
    xavier_uniform, xavier_normal: the name with _ at its end, as it changes the tensor
    he_normal_, he_uniform_: kaiming_normal_(tensor), or kaiming_uniform_(tensor)
    glorot_normal_, glorot_uniform_: xavier_normal_(tensor), or xavier_uniform_(tensor)
    eye_, dirac_, orthogonal_, sparse_: tensor.data = ..., with the values that it is to have
""")

AUTOGRAD = _table("""
    Function: @tinytorch.autograd.op, on a function that returns its result and a gradient rule for each input
    functional, gradcheck, gradgradcheck: tinytorch.testing.gradcheck
    profiler, detect_anomaly, set_detect_anomaly: with tinytorch.debug(), or tinytorch.verify.diagnose(model, loss)
""")

_DTYPES = (
    "complex",
    "cfloat",
    "cdouble",
    "chalf",
    "quint",
    "qint",
    "float1",
    "float8",
    "uint",
    "bfloat",
    "bits",
    "int",
)
_GROUPS = {  # start of a name -> why there is no such name
    "fft": "Fourier transforms are not in tinytorch",
    "linalg": "linear algebra but products is not in tinytorch",
    "cuda": "devices are tinytorch.device(...), .to(device)",
    "sparse": "sparse tensors are not in tinytorch",
    "quantize": "quantized numbers are not in tinytorch",
    "is_": "tensors are dense, real and unquantized; see x.dtype, x.device, x.is_leaf",
    "register_": "hooks are not in tinytorch; see tinytorch.autograd.Observer",
}


KNOWN: dict[str, str] = {}  # public name of tinytorch -> how to write it; filled in by `tinytorch` itself


def missing(place: str, name: str, owner: str, obj: object) -> AttributeError:
    """The error that `owner` (a text) has no attribute `name`. Python itself adds names of `obj` that look alike."""
    said = f"{owner} has no attribute {name!r}"
    if not name.startswith("__"):
        said += f"; {hint(place, name, KNOWN)}"
        if said.endswith(_UNSET):  # a class of the user's
            has = [n for n in vars(obj) if not n.startswith("_") and n not in ("made_at", "training")]
            said += f"; it has {', '.join(has[:8])}" + ", ..." * (len(has) > 8) if has else ""
    return AttributeError(said, name=name, obj=obj)


class Imports:
    """A finder that Python asks last when it imports, and that says what to write for a name spelled otherwise.

    `from tinytorch import cat` drops the text of an AttributeError, and looks for a module `tinytorch.cat`. So the text
    comes from the search for modules. `import tinytorch.nn.functional as F` gets a text in this way, too.
    """

    @staticmethod
    def find_spec(fullname: str, path: object = None, target: object = None) -> None:
        """Raise ModuleNotFoundError for a name that is spelled otherwise. For others None: there is no module."""
        parent, _, name = fullname.rpartition(".")
        if parent.partition(".")[0] == "tinytorch" and not name.startswith("_"):
            said = hint(parent.removeprefix("tinytorch."), name, KNOWN)
            if not said.startswith(_NOWHERE):  # a `name` other than the module's stops Python's search
                raise ModuleNotFoundError(f"there is no {name!r} in {parent!r}; {said}", name=name)


_NOWHERE = "it is not in tinytorch"
_UNSET = "set it in __init__"  # of a name that the user chose
_PLACES = {
    "tensor": TENSOR,
    "module": MODULE,
    "own module": MODULE,
    "nn": NN,
    "nn.init": INIT,
    "optim": OPTIM,
    "optimizer": OPTIMIZER,
    "data": DATA,
    "autograd": AUTOGRAD,
}


def _written(code: str, known: Mapping[str, str]) -> str:
    """Code of a table, with `tinytorch.` before names of tinytorch."""
    code = re.sub(r"^\w+(?=$|;)", lambda m: known.get(m[0], m[0]), code)
    return re.sub(r"(?<![\w.`])(\w+)\(", lambda m: f"{known.get(m[1], m[1])}(", code)


def hint(place: str, name: str, known: Mapping[str, str]) -> str:
    """The text that says what to write in place of a missing name, or that nothing replaces the name.

    Args:
        place: "tensor", "module", "own module" for a module of a user's class, "optimizer", or a module of tinytorch:
            "nn", "data", "nn.init", ...; "tinytorch" for tinytorch itself.
        known: name anywhere in tinytorch -> how to write it.
    """
    own = _PLACES.get(place, {})
    if name in own:
        return f"write {own[name]}"
    if place == "own module" and not name.startswith("register_"):
        return _UNSET
    anywhere = place not in ("module", "own module", "optimizer")  # elsewhere names are the user's, such as `linear`
    if name in known and anywhere:
        return f"write {known[name]}"
    if name in FUNCTIONS and anywhere:
        return f"write {_written(FUNCTIONS[name], known)}"
    for table, where in ((NN, "nn"), (OPTIM, "optim"), (DATA, "data")):
        if name in table and anywhere:
            return f"write {table[name]} (of tinytorch.{where})"
    if name.endswith("_") and hint(place, name[:-1], known):
        return "nothing is changed in place by a method; write x = ... with the function, or x[...] = value"
    for start, why in _GROUPS.items():
        if name.startswith(start):
            return why
    if place in ("tensor", "tinytorch") and name.startswith(_DTYPES):
        return "the dtypes are float32, float64, bool, and int8 to uint64"
    elsewhere = {
        "tensor": "tinytorch.Tensor",
        "module": "tinytorch.nn.Module",
        "optimizer": "tinytorch.optim.Optimizer",
        "tinytorch": "tinytorch",
    }
    return f"{_NOWHERE}; what there is: dir({elsewhere.get(place, f'tinytorch.{place}')})"
