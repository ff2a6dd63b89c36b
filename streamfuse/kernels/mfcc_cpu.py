"""The CPU twin of the MFCC: frames side by side in the lanes of vector registers.

Window, transform and power are computed in float64, 8 frames at a time: a full-scale tone leaves bands
14 decades below its peak, and float32 rounding there moves coefficients by 0.3. What follows the
power is float32, 16 frames at a time. A frame's result is the same in every lane, so that how sound
was cut into pushes changes no bit.
"""

from __future__ import annotations

import numpy as np

from streamfuse.kernels.jit import cpu_jit
from streamfuse.kernels.lanes import load, store, store_float32

WIDE, NARROW = 16, 8
"""Lanes of float32 and of float64 in one register (kernels.lanes)."""
_LARGEST = np.float32(np.finfo(np.float32).max)


@cpu_jit()
def butterfly(ar, ai, br, bi, cr, ci, dr, di):
    """Four-point DFT of a, b, c, d; scalars or lanes."""
    pr, pi, qr, qi = ar + cr, ai + ci, ar - cr, ai - ci
    sr, si, tr, ti = br + dr, bi + di, bi - di, dr - br
    return pr + sr, pi + si, qr + tr, qi + ti, pr - sr, pi - si, qr - tr, qi - ti


@cpu_jit()
def powers(ar, ai, br, bi, cos, sin):
    """Power of bins k and n/2 - k of a real transform from Z[k] = a and Z[n/2 - k] = b; scalars or lanes.

    Z is the transform of even samples + i * odd samples; the angle is 2 pi k / n. The samples must
    have been halved.
    """
    er, ei, dr, di = ar + br, ai - bi, ai + bi, br - ar
    tr, ti = cos * dr + sin * di, cos * di - sin * dr
    xr, xi, yr, yi = er + tr, ei + ti, er - tr, ei - ti
    return xr * xr + xi * xi, yr * yr + yi * yi


@cpu_jit()
def _load_frames(samples, lead, first, per_row, hop, taper_at, taper, re, im):
    """Window frames first .. first + 8 into re, im (n_fft / 2 * 8,): even samples and odd ones.

    lead  zeros that stand before the samples
    """
    pairs = taper.shape[0] // 2
    for lane in range(NARROW):
        frame = first + lane
        row = frame // per_row
        if row >= samples.shape[0]:
            for k in range(pairs):
                re[k * NARROW + lane], im[k * NARROW + lane] = 0.0, 0.0
            continue
        line = samples[row]
        start = (frame - row * per_row) * hop - lead + taper_at
        silent = min(max(0, -start // 2), pairs)
        for k in range(silent):
            re[k * NARROW + lane], im[k * NARROW + lane] = 0.0, 0.0
        if silent < pairs and start + 2 * silent < 0:  # the start lies between an even and an odd sample
            re[silent * NARROW + lane] = 0.0
            im[silent * NARROW + lane] = line[0] * taper[2 * silent + 1]
            silent += 1
        for k in range(silent, pairs):
            re[k * NARROW + lane] = line[start + 2 * k] * taper[2 * k]
            im[k * NARROW + lane] = line[start + 2 * k + 1] * taper[2 * k + 1]


@cpu_jit()
def _transform(re, im, twiddle):
    """Transform 8 sequences in place, decimated in frequency: radix 4, and one radix 2 where needed.

    The bins come to lie in digit-reversed order (MfccTables.order).
    """
    n = re.shape[0] // NARROW
    quarter = n // 4
    while quarter >= 1:
        step = n // (4 * quarter)
        for base in range(0, n, 4 * quarter):
            for j in range(quarter):
                u, v, w = j * step, 2 * j * step, 3 * j * step
                ur, ui, vr, vi = twiddle[u, 0], twiddle[u, 1], twiddle[v, 0], twiddle[v, 1]
                wr, wi = twiddle[w, 0], twiddle[w, 1]
                p = (base + j) * NARROW
                q, r, s = p + quarter * NARROW, p + 2 * quarter * NARROW, p + 3 * quarter * NARROW
                ar, ai, br, bi, cr, ci, dr, di = butterfly(
                    load(re, p), load(im, p), load(re, q), load(im, q),
                    load(re, r), load(im, r), load(re, s), load(im, s),
                )  # fmt: skip
                store(re, p, ar)
                store(im, p, ai)
                store(re, q, br * ur - bi * ui)
                store(im, q, br * ui + bi * ur)
                store(re, r, cr * vr - ci * vi)
                store(im, r, cr * vi + ci * vr)
                store(re, s, dr * wr - di * wi)
                store(im, s, dr * wi + di * wr)
        if quarter == 2:
            _pairs(re, im)
        quarter //= 4


@cpu_jit()
def _pairs(re, im):
    """The radix-2 stage between neighbours."""
    for p in range(0, re.shape[0], 2 * NARROW):
        q = p + NARROW
        ar, ai, br, bi = load(re, p), load(im, p), load(re, q), load(im, q)
        store(re, p, ar + br)
        store(im, p, ai + bi)
        store(re, q, ar - br)
        store(im, q, ai - bi)


@cpu_jit()
def _power(re, im, order, turn, offset, power):
    """Power of bins 0..n/2 as float32, at `offset` in each row of 16 lanes of `power`."""
    half = order.shape[0]
    for k in range(half // 2 + 1):
        p, q = order[k] * NARROW, order[(half - k) % half] * NARROW
        low, high = powers(load(re, p), load(im, p), load(re, q), load(im, q), turn[k, 0], turn[k, 1])
        store_float32(power, k * WIDE + offset, low)
        store_float32(power, (half - k) * WIDE + offset, high)


@cpu_jit()
def _mel(power, first_bin, weight_at, weights, mel):
    """Sparse sums over the bins of each band."""
    for m in range(first_bin.shape[0]):
        at = first_bin[m] * WIDE
        total = load(power, at) * np.float32(0.0)
        for w in range(weight_at[m], weight_at[m + 1]):
            total = total + weights[w] * load(power, at)
            at += WIDE
        store(mel, m * WIDE, total)


@cpu_jit(fastmath={"contract"})
def _log(mel, log_floor, out):
    """Natural logarithm; below the floor, beyond float32 or not a number counts as the floor.

    Cephes logf, less than 1 ulp off: x = m * 2^e, m in [sqrt(1/2), sqrt(2)). libm's is no vector code.
    """
    for i in range(mel.shape[0]):
        value = mel[i] if log_floor < mel[i] <= _LARGEST else log_floor
        bits = np.float32(value).view(np.int32)
        m = np.int32((bits & 0x007FFFFF) | 0x3F000000).view(np.float32)
        small = m < np.float32(0.70710678)
        e = np.float32((bits >> 23) - 127 if small else (bits >> 23) - 126)
        x = m + m - np.float32(1.0) if small else m - np.float32(1.0)
        z = x * x
        y = np.float32(7.0376836292e-2) * x + np.float32(-1.1514610310e-1)
        y = y * x + np.float32(1.1676998740e-1)
        y = y * x + np.float32(-1.2420140846e-1)
        y = y * x + np.float32(1.4249322787e-1)
        y = y * x + np.float32(-1.6668057665e-1)
        y = y * x + np.float32(2.0000714765e-1)
        y = y * x + np.float32(-2.4999993993e-1)
        y = y * x + np.float32(3.3333331174e-1)
        y = y * x * z + e * np.float32(-2.12194440e-4) - np.float32(0.5) * z
        out[i] = x + y + e * np.float32(0.693359375)


@cpu_jit()
def _cosines(logs, cosines, acc):
    """acc (coefficients, 16) = cosines (coefficients, n_mels) @ logs (n_mels, 16); coefficients % 4 == 0."""
    for c in range(0, cosines.shape[0], 4):
        x = load(logs, 0)
        a, b = x * cosines[c, 0], x * cosines[c + 1, 0]
        d, e = x * cosines[c + 2, 0], x * cosines[c + 3, 0]
        for m in range(1, cosines.shape[1]):
            x = load(logs, m * WIDE)
            a = a + x * cosines[c, m]
            b = b + x * cosines[c + 1, m]
            d = d + x * cosines[c + 2, m]
            e = e + x * cosines[c + 3, m]
        store(acc, c * WIDE, a)
        store(acc, (c + 1) * WIDE, b)
        store(acc, (c + 2) * WIDE, d)
        store(acc, (c + 3) * WIDE, e)


@cpu_jit()
def mfcc_cpu(
    samples, lead, hop, taper_at, taper, twiddle, order, turn, first_bin, weight_at, weights, log_floor,
    cosines, out,
):  # fmt: skip
    """samples (B, n) float32, after `lead` zeros -> out (B, frames, n_mfcc) float32; see MfccTables."""
    rows, per_row, n_mfcc = out.shape
    half, total = order.shape[0], rows * per_row
    re = np.zeros(half * NARROW, np.float64)
    im = np.zeros(half * NARROW, np.float64)
    power = np.zeros((half + 1) * WIDE, np.float32)
    mel = np.empty(cosines.shape[1] * WIDE, np.float32)
    logs = np.empty(cosines.shape[1] * WIDE, np.float32)
    acc = np.empty(cosines.shape[0] * WIDE, np.float32)
    tail = taper.shape[0] // 2 * NARROW
    for first in range(0, total, WIDE):
        for offset in range(0, min(WIDE, total - first), NARROW):
            for k in range(tail, half * NARROW):
                re[k], im[k] = 0.0, 0.0
            _load_frames(samples, lead, first + offset, per_row, hop, taper_at, taper, re, im)
            _transform(re, im, twiddle)
            _power(re, im, order, turn, offset, power)
        _mel(power, first_bin, weight_at, weights, mel)
        _log(mel, log_floor, logs)
        _cosines(logs, cosines, acc)
        for lane in range(min(WIDE, total - first)):
            row = (first + lane) // per_row
            line = out[row, first + lane - row * per_row]
            for c in range(n_mfcc):
                line[c] = acc[c * WIDE + lane]
