"""The activations and their derivatives in float64, by the formulas of ``normcore._activation``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normcore._activation import ACTIVATIONS, LEAKY_SLOPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

TANH_SCALE = math.sqrt(2 / math.pi)
TANH_CUBE = 0.044715

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def sigmoid(z: Float64) -> Float64:
    small = np.exp(-np.abs(z))  # never overflows
    return np.where(z >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def normal_cdf(z: Float64) -> Float64:
    # (1 + erf(z / sqrt(2))) / 2, which would cancel for negative z
    cdf: Float64 = 0.5 * _erfc(-z / math.sqrt(2.0))
    return cdf


def tanh_of_gelu(z: Float64) -> Float64:
    return np.tanh(TANH_SCALE * (z + TANH_CUBE * z**3))


def activate(z: Float64, activation: int) -> Float64:
    match ACTIVATIONS[activation]:
        case "relu":
            return np.maximum(z, 0.0)
        case "leaky_relu":
            return np.where(z > 0, z, LEAKY_SLOPE * z)
        case "sigmoid":
            return sigmoid(z)
        case "tanh":
            return np.tanh(z)
        case "gelu":
            return z * normal_cdf(z)
        case "gelu_tanh":
            return 0.5 * z * (1.0 + tanh_of_gelu(z))
        case "silu":
            return z * sigmoid(z)
    return z


def derivative(z: Float64, activation: int) -> Float64:
    match ACTIVATIONS[activation]:
        case "relu":
            return np.where(z <= 0, 0.0, 1.0)
        case "leaky_relu":
            return np.where(z > 0, 1.0, LEAKY_SLOPE)
        case "sigmoid":
            return sigmoid(z) * sigmoid(-z)
        case "tanh":
            return 1.0 - np.square(np.tanh(z))
        case "gelu":
            return normal_cdf(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        case "gelu_tanh":
            t = tanh_of_gelu(z)
            slope = TANH_SCALE * (1.0 + 3.0 * TANH_CUBE * z * z)
            return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * slope
        case "silu":
            s = sigmoid(z)
            return s * (1.0 + z * (1.0 - s))
    return np.ones_like(z)
