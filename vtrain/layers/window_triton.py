"""The programs of `window_kernel`, in Triton's language; only what has Triton may import this.

I images, P windows of an image that differ in their mask, h heads, N tokens of a window, d head
dimension; T and W are N and d rounded up to sizes that the hardware multiplies.

A program takes one head of one place of a window, for some of the images one after the other, so
that the bias and the mask of that place are read once. Programs are numbered (head, place, part of
the images): those that read neighbouring bytes run at the same time.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
# ruff: noqa: N803 - what is known when a program is compiled has the name of its axis

import triton
import triton.language as tl


@triton.jit
def forward(
    qkv,
    bias,
    mask,
    out,
    images,
    images_per_program,
    scale,
    N: tl.constexpr,
    d: tl.constexpr,
    T: tl.constexpr,
    W: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write to `out` what each token hears from those of its window; `bias`, `mask` may be None.

    Shape: qkv (I * P, N, 3 * h * d), bias (h, N, N), mask (P, N, N), out (I * P, N, h * d).
    """
    head, heads = tl.program_id(0), tl.num_programs(0)
    place, places = tl.program_id(1), tl.num_programs(1).to(tl.int64)  # there may be 2**31 numbers
    added = _added(bias, mask, head, place, N, T)
    first = tl.program_id(2) * images_per_program
    for image in range(first, tl.minimum(first + images_per_program, images)):
        window = image * places + place
        q, k, v = _queries_keys_values(qkv, window, head, heads, N, d, T, W)
        weights = _weights(q, k, scale, added, PRECISION)
        heard = tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        _store(out + (window * N * heads + head) * d, heads * d, heard, N, d, T, W)


@triton.jit
def backward(
    qkv,
    bias,
    mask,
    grad,
    qkv_grad,
    bias_grad,
    images,
    images_per_program,
    scale,
    N: tl.constexpr,
    d: tl.constexpr,
    T: tl.constexpr,
    W: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute the weights again, and from the gradient of `out` those of what made it.

    Each program leaves its share of the gradient of the bias at a place of its own, and the shares
    are summed afterwards: their order, and with it the result, is always the same.

    Shape: as in `forward`, and bias_grad (parts, P, h, N, N), None without a bias.
    """
    head, heads = tl.program_id(0), tl.num_programs(0)
    place, places = tl.program_id(1), tl.num_programs(1).to(tl.int64)  # there may be 2**31 numbers
    added = _added(bias, mask, head, place, N, T)
    share = tl.zeros((T, T), tl.float32)
    first = tl.program_id(2) * images_per_program
    for image in range(first, tl.minimum(first + images_per_program, images)):
        window = image * places + place
        q, k, v = _queries_keys_values(qkv, window, head, heads, N, d, T, W)
        g = _load(grad + (window * N * heads + head) * d, heads * d, N, d, T, W)
        weights = _weights(q, k, scale, added, PRECISION)
        weights_grad = tl.dot(g, tl.trans(v), input_precision=PRECISION)
        mean = tl.sum(weights * weights_grad, 1)  # of each row: a softmax does not feel it
        scores_grad = weights * (weights_grad - mean[:, None])
        share += scores_grad
        s, w = scores_grad.to(q.dtype), weights.to(q.dtype)
        at, stride = qkv_grad + (window * N * 3 * heads + head) * d, 3 * heads * d
        q_grad = scale * tl.dot(s, k, input_precision=PRECISION)
        _store(at, stride, q_grad, N, d, T, W)
        k_grad = scale * tl.dot(tl.trans(s), q, input_precision=PRECISION)
        _store(at + heads * d, stride, k_grad, N, d, T, W)
        v_grad = tl.dot(tl.trans(w), g, input_precision=PRECISION)
        _store(at + 2 * heads * d, stride, v_grad, N, d, T, W)
    if bias is not None:
        part = tl.program_id(2).to(tl.int64) * places + place
        _store(bias_grad + (part * heads + head) * N * N, N, share, N, N, T, T)


@triton.jit
def _added(bias, mask, head, place, N: tl.constexpr, T: tl.constexpr):
    """Return what the scores get added in fp32, minus infinity for keys past the last one."""
    added = tl.where(tl.arange(0, T)[None, :] < N, tl.zeros((T, T), tl.float32), float("-inf"))
    if bias is not None:
        added += _load(bias + head * N * N, N, N, N, T, T).to(tl.float32)
    if mask is not None:
        added += _load(mask + place.to(tl.int64) * N * N, N, N, N, T, T).to(tl.float32)
    return added


@triton.jit
def _queries_keys_values(
    qkv, window, head, heads, N: tl.constexpr, d: tl.constexpr, T: tl.constexpr, W: tl.constexpr
):
    """Load three (T, W) matrices of a window, which lie side by side in each token."""
    at, stride = qkv + (window * N * 3 * heads + head) * d, 3 * heads * d
    q = _load(at, stride, N, d, T, W)
    k = _load(at + heads * d, stride, N, d, T, W)
    v = _load(at + 2 * heads * d, stride, N, d, T, W)
    return q, k, v


@triton.jit
def _weights(q, k, scale, added, PRECISION: tl.constexpr):
    """Return softmax(q k^T * scale + added) in fp32."""
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale + added
    powers = tl.exp(scores - tl.max(scores, 1)[:, None])
    return powers * (1 / tl.sum(powers, 1))[:, None]


@triton.jit
def _load(at, stride, rows: tl.constexpr, columns: tl.constexpr, T: tl.constexpr, W: tl.constexpr):
    """Load a matrix of rows x columns whose rows begin `stride` apart; it is (T, W) with zeros."""
    r, c = tl.arange(0, T)[:, None], tl.arange(0, W)[None, :]
    return tl.load(at + r * stride + c, (r < rows) & (c < columns), 0.0)


@triton.jit
def _store(
    at, stride, x, rows: tl.constexpr, columns: tl.constexpr, T: tl.constexpr, W: tl.constexpr
):
    """Undo `_load`, in the number format of the memory."""
    r, c = tl.arange(0, T)[:, None], tl.arange(0, W)[None, :]
    tl.store(at + r * stride + c, x.to(at.dtype.element_ty), (r < rows) & (c < columns))
