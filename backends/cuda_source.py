"""CUDA C++ for computations that take CuPy many launches. backends/cuda.py compiles these texts at the first use.

Every array is C-contiguous unless a kernel says otherwise; `i` is the number of the element that a thread computes.
"""

# out (rows, sum of widths) = arrays of (rows, width) side by side. The addresses are an argument of the kernel: an
# array of addresses would have to be copied to the device first.
JOIN_MOST = 64
JOIN = r"""
struct Table { const T* at[64]; long long end[64]; };  // end: of each array's columns in this launch

extern "C" __global__ void join(Table table, long long count, long long rows, long long width, long long stride,
                                T* out) {
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < rows * width;
         i += (long long)gridDim.x * blockDim.x) {
        long long row = i / width, column = i % width;
        int low = 0, high = count - 1;  // the first array whose end is beyond the column
        while (low < high) {
            int middle = (low + high) / 2;
            if (column < table.end[middle]) high = middle; else low = middle + 1;
        }
        long long start = low ? table.end[low - 1] : 0;
        out[row * stride + column] = table.at[low][row * (table.end[low] - start) + column - start];
    }
}
"""

# Wrong values, reported in four numbers that are zero before: ~place of the first wrong value (0 if there is none), the
# number of wrong values, a counter of blocks that is zero again at the end, and the bits of the first wrong value. The
# last block to finish reads these bits: the values may be changed later.
_CHECK = r"""
extern "C" __global__ void NAME(const T* at, long long n, ARGUMENTS unsigned long long* answer) {
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n;
         i += (long long)gridDim.x * blockDim.x) {
        if (WRONG) {
            atomicMax(&answer[0], ~(unsigned long long)i);
            atomicAdd(&answer[1], 1ULL);
        }
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && atomicAdd(&answer[2], 1ULL) == gridDim.x - 1) {
        unsigned long long first = atomicMax(&answer[0], 0ULL);
        if (first) answer[3] = (unsigned long long)BITS(at[~first]);
        answer[2] = 0;
    }
}
"""


def _check(name: str, arguments: str, wrong: str, bits: str) -> str:
    filled = _CHECK.replace("NAME", name).replace("ARGUMENTS", arguments)
    return filled.replace("WRONG", wrong).replace("BITS", bits)


CHECK_INDEX = _check(
    "check_index",
    "long long size, bool ignores, long long ignore,",
    "(at[i] < 0 || at[i] >= size) && !(ignores && at[i] == ignore)",
    "(long long)",
)
CHECK_UNIT = _check("check_unit", "", "at[i] < 0 || at[i] > 1", "__double_as_longlong")

# x (C, H, W, N) -> y (C, KH, KW, OH, OW, N): y[c, a, b, h, w, n] = x[c, h sh + a dh - ph, w sw + b dw - pw, n], and 0
# outside the image. x may have any strides.
WINDOWS = (
    "raw T x, int64 H, int64 W, int64 N, int64 KH, int64 KW, int64 OH, int64 OW, "
    "int64 sh, int64 sw, int64 ph, int64 pw, int64 dh, int64 dw",
    "T y",
    r"""
    long long r = i, n = r % N; r /= N;
    long long w = r % OW; r /= OW;
    long long h = r % OH; r /= OH;
    long long b = r % KW; r /= KW;
    long long a = r % KH, c = r / KH;
    ptrdiff_t from[] = {c, h * sh + a * dh - ph, w * sw + b * dw - pw, n};
    bool inside = from[1] >= 0 && from[1] < H && from[2] >= 0 && from[2] < W;
    y = inside ? x[from] : T(0);
    """,
    "windows",
)

# The gradient of windows: g (C, KH KW, OH, OW, N), of any strides -> y (C, H, W, N). Each y[c, h, w, n] is the sum of
# the g[c, (a, b), oh, ow, n] with h + ph = oh sh + a dh and w + pw = ow sw + b dw.
ADD_WINDOWS = (
    "raw T g, int64 H, int64 W, int64 N, int64 KH, int64 KW, int64 OH, int64 OW, "
    "int64 sh, int64 sw, int64 ph, int64 pw, int64 dh, int64 dw",
    "T y",
    r"""
    long long r = i, n = r % N; r /= N;
    long long w = r % W + pw; r /= W;
    long long h = r % H + ph, c = r / H;
    T sum = 0;
    for (long long a = 0; a < KH; a++) {
        long long oh = h - a * dh;
        if (oh < 0 || oh % sh || oh / sh >= OH) continue;
        for (long long b = 0; b < KW; b++) {
            long long ow = w - b * dw;
            if (ow < 0 || ow % sw || ow / sw >= OW) continue;
            ptrdiff_t from[] = {c, a * KW + b, oh / sh, ow / sw, n};
            sum += g[from];
        }
    }
    y = sum;
    """,
    "add_windows",
)

# out[row, column] = sum of values[n, column] over the n with indices[n] == row, in the order of n, so that the bits do
# not vary.
SCATTER_ADD = (
    "raw T values, raw I indices, int64 count, int64 width",
    "T out",
    r"""
    long long row = i / width, column = i % width;
    const bool single = sizeof(T) == 4 && T(0.5) != T(0);  // added in double
    double wide = 0;
    T sum = 0;
    for (long long n = 0; n < count; n++) {
        if (indices[n] != row) continue;
        if (single) wide += values[n * width + column];
        else sum += values[n * width + column];
    }
    out = single ? T(wide) : sum;
    """,
    "scatter_add",
)

# generator.random(size, dtype=float32) >= p ? scale : 0 for a numpy.random.Philox: draw i is 24 bits of a word of 32
# bits. First come the words that the generator still holds: `half` if there is one, then `held` of the four words of 64
# bits. Then each value of the counter gives eight words of 32 bits, the low half of 64 bits before the high half.
# Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", Philox 4x64-10.
KEPT = (
    "uint64 c0, uint64 c1, uint64 c2, uint64 c3, uint64 key0, uint64 key1, uint64 b0, uint64 b1, uint64 b2, uint64 b3, "
    "int64 held, int64 halves, uint32 half, float32 p, T scale",
    "T mask",
    r"""
    long long j = i - halves;  // which half word of the words of 64 bits; negative for `half`
    unsigned long long word[4] = {b0, b1, b2, b3};
    long long place = j / 2 + 4 - held;
    if (j >= 2 * held) {
        long long block = (j - 2 * held) / 8;
        place = (j - 2 * held) % 8 / 2;
        unsigned long long x0 = c0 + block + 1, x1 = c1, x2 = c2, x3 = c3, k0 = key0, k1 = key1;
        if (x0 <= (unsigned long long)block && ++x1 == 0 && ++x2 == 0) ++x3;  // carries
        for (int round = 0; round < 10; round++) {
            unsigned long long high0 = __umul64hi(0xD2E7470EE14C6C93ULL, x0), low0 = 0xD2E7470EE14C6C93ULL * x0;
            unsigned long long high1 = __umul64hi(0xCA5A826395121157ULL, x2), low1 = 0xCA5A826395121157ULL * x2;
            x0 = high1 ^ x1 ^ k0; x1 = low1; x2 = high0 ^ x3 ^ k1; x3 = low0;
            k0 += 0x9E3779B97F4A7C15ULL; k1 += 0xBB67AE8584CAA73BULL;
        }
        word[0] = x0; word[1] = x1; word[2] = x2; word[3] = x3;
    }
    unsigned int bits = j < 0 ? half : j % 2 ? word[place] >> 32 : word[place];
    mask = (bits >> 8) * (1.0f / 16777216.0f) >= p ? scale : T(0);
    """,
    "kept",
)

# Sums and maxima over a row, by a block of threads; their number is a power of two, at most 256.
_ROWS = r"""
__device__ T total(T value, T* memory) {  // the sum of each thread's value, for all of them
    memory[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half) memory[threadIdx.x] += memory[threadIdx.x + half];
        __syncthreads();
    }
    T sum = memory[0];
    __syncthreads();  // before the memory is used again
    return sum;
}

__device__ T larger(T a, T b) { return a != a || a > b ? a : b; }  // a NaN of either stays

__device__ T largest(T value, T* memory) {
    memory[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half) memory[threadIdx.x] = larger(memory[threadIdx.x], memory[threadIdx.x + half]);
        __syncthreads();
    }
    T top = memory[0];
    __syncthreads();
    return top;
}
"""

# x (M, N) -> h = (x - mean) / sqrt(var + eps), y = h * weight + bias, r (M,) = 1 / sqrt(var + eps). A block for a row.
NORMALIZED = (
    _ROWS
    + r"""
extern "C" __global__ void normalized(const T* x, const T* weight, const T* bias, long long N, double eps, T* y, T* h,
                                      T* r) {
    __shared__ T memory[256];
    x += blockIdx.x * N; y += blockIdx.x * N; h += blockIdx.x * N;
    T sum = 0, rest = 0, squares = 0;
    for (long long i = threadIdx.x; i < N; i += blockDim.x) sum += x[i];
    T mean = total(sum, memory) / N;
    for (long long i = threadIdx.x; i < N; i += blockDim.x) rest += x[i] - mean;
    T left = total(rest, memory) / N;  // what rounding left of a mean far from zero
    for (long long i = threadIdx.x; i < N; i += blockDim.x) {
        T d = (x[i] - mean) - left;
        squares += d * d;
    }
    T scale = T(1) / sqrt(total(squares, memory) / N + T(eps));
    for (long long i = threadIdx.x; i < N; i += blockDim.x) {
        T value = ((x[i] - mean) - left) * scale;
        h[i] = value;
        y[i] = value * (weight ? weight[i] : T(1)) + (bias ? bias[i] : T(0));
    }
    if (threadIdx.x == 0) r[blockIdx.x] = scale;
}
"""
)

# g (M, N), h (M, N), r (M,) -> out = (d - mean(d) - h * mean(d * h)) * r, with d = g * weight.
NORMALIZED_RULE = (
    _ROWS
    + r"""
extern "C" __global__ void normalized_rule(const T* g, const T* h, const T* r, const T* weight, long long N, T* out) {
    __shared__ T memory[256];
    g += blockIdx.x * N; h += blockIdx.x * N; out += blockIdx.x * N;
    T sum = 0, along = 0;
    for (long long i = threadIdx.x; i < N; i += blockDim.x) {
        T d = g[i] * (weight ? weight[i] : T(1));
        sum += d;
        along += d * h[i];
    }
    T mean = total(sum, memory) / N, slope = total(along, memory) / N;
    for (long long i = threadIdx.x; i < N; i += blockDim.x) {
        out[i] = (g[i] * (weight ? weight[i] : T(1)) - mean - h[i] * slope) * r[blockIdx.x];
    }
}
"""
)

# z (M, C), labels (M,) -> losses (M,) = log(sum of exp(z)) - sum of q * z, kept (M,) = 0 for labels to ignore, and for
# the gradient (2, M): the largest z of each row, and log(sum of exp(z - largest)). A label outside [0, C) makes NaN.
CLASS_LOSSES = (
    _ROWS
    + r"""
extern "C" __global__ void class_losses(const T* z, const long long* labels, long long M, long long C, bool ignores,
                                        long long ignore, double smooth, T* losses, T* kept, T* state) {
    __shared__ T memory[256];
    long long row = blockIdx.x, label = labels[row];
    z += row * C;
    T top = -1.0 / 0.0, sum = 0, all = 0;
    for (long long c = threadIdx.x; c < C; c += blockDim.x) top = larger(z[c], top);
    top = largest(top, memory);
    for (long long c = threadIdx.x; c < C; c += blockDim.x) {
        sum += exp(z[c] - top);
        all += z[c] - top;
    }
    T log_sum = log(total(sum, memory));
    all = total(all, memory);
    if (threadIdx.x) return;
    bool counts = !(ignores && label == ignore);
    T loss = log_sum - (label >= 0 && label < C ? z[label] - top : T(0.0 / 0.0));
    if (smooth) loss = loss * T(1.0 - smooth) + (C * log_sum - all) * T(smooth / C);
    losses[row] = counts ? loss : T(0);
    kept[row] = counts;
    state[row] = top;
    state[M + row] = log_sum;
}
"""
)

# The gradient of class_losses: (softmax(z) - q) * g for each element of z; g is (M,), or has one element (step 0).
CLASS_LOSSES_RULE = (
    "T z, raw int64 labels, raw T state, raw T g, int64 step, int64 M, int64 C, bool ignores, int64 ignore, "
    "float64 smooth",
    "T out",
    r"""
    long long row = i / C, c = i % C;
    T p = exp(z - state[row] - state[M + row]);
    T q = (c == labels[row] ? T(1.0 - smooth) : T(0)) + T(smooth / C);
    out = ignores && labels[row] == ignore ? T(0) : (p - q) * g[row * step];
    """,
    "class_losses_rule",
)
