"""Fit the coefficients of the error function in backends/device.py: python tools/fit_erf.py

erf(x) / x is a quotient of two polynomials in x**2, each of degree 5. Least squares, with weights that grow where the
relative error is large, make the largest relative error least (Lawson's method).
"""

from __future__ import annotations

import math

import numpy as np

TERMS, LIMIT = 6, 4.0


def fit(rounds: int = 300, points: int = 4000) -> tuple[float, list[float], list[float]]:
    """The largest relative error, and the coefficients above and below the line, highest power first."""
    x = (np.cos(np.pi * (np.arange(points) + 0.5) / points) + 1) / 2 * LIMIT
    target = np.array([math.erf(v) for v in x]) / x
    powers = np.vander((x / LIMIT) ** 2, TERMS, increasing=True)
    columns = np.concatenate([powers, -target[:, None] * powers[:, 1:]], axis=1)
    weights, below = np.ones(points), np.ones(points)
    best: tuple[float, list[float], list[float]] = (math.inf, [], [])
    for _ in range(rounds):
        w = weights / (target * below)
        found = np.linalg.lstsq(columns * w[:, None], target * w, rcond=None)[0]
        p, q = found[:TERMS], np.r_[1.0, found[TERMS:]]
        below = powers @ q
        error = np.abs(powers @ p / below / target - 1)
        scale = LIMIT ** (2.0 * np.arange(TERMS))
        best = min(best, (float(error.max()), list((p / scale)[::-1]), list((q / scale)[::-1])))
        weights *= (error / error.max() + 1e-3) ** 0.5
        weights /= weights.max()
    return best


if __name__ == "__main__":
    error, above, below = fit()
    print(f"largest relative error {error:.1e}")
    for name, coefficients in (("above", above), ("below", below)):
        print(name, [float(np.float32(c)) for c in coefficients])
