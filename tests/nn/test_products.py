"""The compiled products of Linear: right, the same bits for every cut of the work, and what they leave to NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

import normcore as nc
from normcore import nn
from normcore.nn import linear as module

products = module._products
pytestmark = pytest.mark.skipif(
    products is None or products.use_vectors("none") == "none", reason="no products are compiled for this CPU"
)
if products is not None:
    VECTORS = "avx2"
    for kind in ("avx2", "avx512"):  # the widest that there is
        try:
            products.use_vectors(kind)
            VECTORS = kind
        except ValueError:
            break

# One row, one column, one term; tiles and vectors with and without a remainder; sums of several parts; several tasks
SHAPES = [(1, 1, 1), (10, 300, 64), (7, 33, 5), (64, 10, 10), (33, 600, 17), (130, 257, 131), (300, 520, 200)]
shapes = pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def data(rows, inputs, outputs, dtype, seed=0):
    """x, weight, bias, dy"""
    rng = np.random.default_rng(seed)
    weight = np.asfortranarray(rng.normal(size=(outputs, inputs)).astype(dtype))
    made = [rng.normal(size=shape).astype(dtype) for shape in ((rows, inputs), (outputs,), (rows, outputs))]
    return made[0], weight, made[1], made[2]


def everything(x, weight, bias, dy, threads=1):
    """y, dweight, dbias, dx"""
    y = products.forward(x, weight, bias, lambda: threads)
    dweight, dbias = np.empty_like(weight), None if bias is None else np.empty_like(bias)
    assert products.gradients(x, dy, dweight, dbias, lambda: threads)
    return y, dweight, dbias, products.input_gradient(dy, weight, lambda: threads)


def assert_right(x, weight, bias, dy):
    wide = [array.astype(np.float64) for array in (x, weight, bias, dy)]
    wants = (
        (wide[0] @ wide[1].T + wide[2], np.abs(wide[0]) @ np.abs(wide[1].T) + np.abs(wide[2]), x.shape[1]),
        (wide[3].T @ wide[0], np.abs(wide[3].T) @ np.abs(wide[0]), x.shape[0]),
        (wide[3].sum(0), np.abs(wide[3]).sum(0), x.shape[0]),
        (wide[3] @ wide[1], np.abs(wide[3]) @ np.abs(wide[1]), weight.shape[0]),
    )
    for got, (want, magnitude, terms) in zip(everything(x, weight, bias, dy), wants, strict=True):
        assert got.dtype == x.dtype
        bound = tol(x.dtype, terms, "product")["rtol"] * magnitude
        assert np.all(np.abs(got - want) <= bound)


@shapes
@dtypes
@pytest.mark.parametrize("vectors", ["avx2", "avx512"])
def test_against_float64(rows, inputs, outputs, dtype, vectors):
    try:
        before = products.use_vectors(vectors)
    except ValueError as error:
        pytest.skip(str(error))
    try:
        assert_right(*data(rows, inputs, outputs, dtype))
    finally:
        products.use_vectors(before)


@shapes
@dtypes
def test_every_kind_of_vectors_gives_the_same_bits(rows, inputs, outputs, dtype):
    arrays = data(rows, inputs, outputs, dtype)
    want = everything(*arrays)
    before = products.use_vectors("avx2")
    try:
        for one, other in zip(everything(*arrays), want, strict=True):
            np.testing.assert_array_equal(one, other)
    finally:
        products.use_vectors(before)


def test_whole_numbers_are_exact():
    """Sums of whole numbers below 2**24 have no rounding in any order."""
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (
        rng.integers(-9, 10, size=s).astype(np.float32) for s in ((37, 700), (45, 700), 45, (37, 45))
    )
    weight = np.asfortranarray(weight)
    y, dweight, dbias, dx = everything(x, weight, bias, dy)
    np.testing.assert_array_equal(y, x @ weight.T + bias)
    np.testing.assert_array_equal(dweight, dy.T @ x)
    np.testing.assert_array_equal(dbias, dy.sum(0))
    np.testing.assert_array_equal(dx, dy @ weight)


@given(rows=st.integers(1, 70), inputs=st.integers(1, 70), outputs=st.integers(1, 70), seed=st.integers(0, 99))
def test_any_shape(rows, inputs, outputs, seed):
    assert_right(*data(rows, inputs, outputs, np.float32, seed))


@shapes
@dtypes
@pytest.mark.parametrize("with_bias", [True, False])
def test_threads_change_no_bits(rows, inputs, outputs, dtype, with_bias):
    x, weight, bias, dy = data(rows, inputs, outputs, dtype)
    want = everything(x, weight, bias if with_bias else None, dy)
    for threads in (2, 3, 7):
        for one, other in zip(everything(x, weight, bias if with_bias else None, dy, threads), want, strict=True):
            np.testing.assert_array_equal(one, other)


@shapes
def test_a_row_does_not_depend_on_the_rows_beside_it(rows, inputs, outputs):
    x, weight, bias, dy = data(rows, inputs, outputs, np.float32)
    y, _, _, dx = everything(x, weight, bias, dy)
    for i in {0, rows // 2, rows - 1}:
        alone = everything(x[i : i + 1], weight, bias, dy[i : i + 1])
        np.testing.assert_array_equal(alone[0][0], y[i])
        np.testing.assert_array_equal(alone[3][0], dx[i])


def test_nan_and_infinity_stay_in_their_row():
    x, weight, bias, dy = data(12, 40, 9, np.float32)
    clean = everything(x, weight, bias, dy)
    x[3, 7], dy[5, 2] = np.nan, np.inf
    y, _, dbias, dx = everything(x, weight, bias, dy)
    others = [i for i in range(12) if i != 3]
    assert np.isnan(y[3]).all()
    np.testing.assert_array_equal(y[others], clean[0][others])
    assert dbias[2] == np.inf
    assert not np.isfinite(dx[5]).any()


def run(layer, x, dy):
    return layer(x), layer.backward(dy), layer.weight.grad.copy(), layer.bias.grad.copy()


@pytest.mark.parametrize(
    "what", ["strided x", "transposed dy", "C weight", "float16", "three dimensions, strided", "no vectors"]
)
def test_what_they_do_not_take_numpy_computes(what):
    dtype = np.float16 if what == "float16" else np.float32
    layer = nn.Linear(6, 4, rng=0, dtype=dtype)
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(8, 6)).astype(dtype), rng.normal(size=(8, 4)).astype(dtype)
    want = [np.asarray(a, np.float64) for a in run(layer, x, dy)]
    if what == "strided x":
        x = np.repeat(x, 2, axis=1)[:, ::2]
    elif what == "transposed dy":
        dy = np.asfortranarray(dy)
    elif what == "C weight":
        layer.weight.data = np.ascontiguousarray(layer.weight.data)
    elif what == "three dimensions, strided":
        x = np.repeat(x.reshape(2, 4, 6), 2, axis=1)[:, ::2]
        dy = np.asfortranarray(dy.reshape(2, 4, 4))
    if what == "no vectors":
        products.use_vectors("none")
    try:
        got = run(layer, x, dy)
    finally:
        products.use_vectors(VECTORS)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one.reshape(other.shape), other, **tol(dtype, 8, "product", 10.0))


@pytest.mark.parametrize("lead", [(2, 4), (8, 1), (1, 2, 2, 2)])
def test_leading_dimensions_are_rows(lead):
    layer = nn.Linear(300, 7, rng=0)
    x, _, _, dy = data(8, 300, 7, np.float32)
    want = run(layer, x, dy)
    got = run(layer, x.reshape(*lead, 300), dy.reshape(*lead, 7))
    assert got[0].shape == (*lead, 7)
    assert got[1].shape == (*lead, 300)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one.reshape(other.shape), other)
    np.testing.assert_array_equal(layer(x[0]), want[0][0])  # no leading dimension: one row
    np.testing.assert_array_equal(layer.backward(dy[0]), want[1][0])


def test_a_layer_has_the_same_bits_for_any_number_of_threads():
    layer = nn.Linear(900, 70, rng=0)
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(40, 900)).astype(np.float32), rng.normal(size=(40, 70)).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        with nc.threads(threads):
            results.append(run(layer, x, dy))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_nothing_in_and_nothing_out():
    layer = nn.Linear(6, 4, rng=0)
    assert layer(np.zeros((0, 6), np.float32)).shape == (0, 4)
    assert layer.backward(np.zeros((0, 4), np.float32)).shape == (0, 6)
    assert layer(np.zeros((3, 0, 6), np.float32)).shape == (3, 0, 4)
    assert layer.backward(np.zeros((3, 0, 4), np.float32)).shape == (3, 0, 6)
    np.testing.assert_array_equal(layer.weight.grad, 0)
    np.testing.assert_array_equal(layer.bias.grad, 0)


def test_shapes_that_do_not_fit_are_declined_and_nothing_is_written():
    """Called directly: nothing in C may rest on what a layer is careful about."""

    def one():
        return 1

    x, weight, bias, dy = data(7, 5, 3, np.float64)
    long, fortran = np.ones(4), np.asfortranarray
    for wrong in (
        (x[:, :4].copy(), weight, bias),
        (x, fortran(weight[:2]), bias),
        (x, weight, long),
        (x, weight, long[:2]),
    ):
        assert products.forward(*wrong, one) is None
    assert products.input_gradient(dy[:, :2].copy(), weight, one) is None
    targets = {"dweight": np.full((3, 5), 9.0, order="F"), "dbias": np.full(3, 9.0)}
    wide = {"dweight": np.full((3, 6), 9.0, order="F"), "dbias": np.full(4, 9.0)}
    for name, array in wide.items():
        for wrong in (array, array[..., :2].copy(order="F")):
            given = targets | {name: wrong}
            assert products.gradients(x, dy, given["dweight"], given["dbias"], one) is False
            assert all((value == 9).all() for value in given.values())
    assert products.gradients(x[:6], dy, *targets.values(), one) is False
    assert products.gradients(x, dy, *targets.values(), one) is True
    np.testing.assert_allclose(targets["dweight"], dy.T @ x, **tol(np.float64, 7, "product"))
    np.testing.assert_allclose(targets["dbias"], dy.sum(axis=0), **tol(np.float64, 7, "product"))
