"""What layers and losses refuse, in which words, and inputs at the edge of what they take."""

from __future__ import annotations

import importlib.util
import re
import sys

import numpy as np
import pytest
from tolerances import tol

from normcore import nn
from normcore.nn import (
    MLP,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    Dropout,
    Flatten,
    GroupNorm,
    Identity,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    Linear,
    Module,
    MSELoss,
    ReLU,
    RMSNorm,
    Sequential,
)
from normcore.nn import _norm as norms
from normcore.nn._checks import as_count

FLAGS = [
    *(
        (kind, (3,), flag)
        for kind in (BatchNorm1d, InstanceNorm1d)
        for flag in ("affine", "track_running_stats", "bias")
    ),
    *((LayerNorm, (3,), flag) for flag in ("elementwise_affine", "bias")),
    (RMSNorm, (3,), "elementwise_affine"),
    *((GroupNorm, (1, 3), flag) for flag in ("affine", "bias")),
    (Linear, (3, 2), "bias"),
    (MLP, ([3, 2],), "bias"),
    (ReLU, (), "inplace"),
    (Dropout, (), "inplace"),
]
NORMS = [InstanceNorm1d(3), InstanceNorm2d(3), BatchNorm1d(3), GroupNorm(1, 3), LayerNorm(3), RMSNorm(3)]


def by_class(layer):
    """The name of a case, without its options: a fault in a default must not rename the test that is to see it."""
    return type(layer).__name__


@pytest.mark.parametrize(("kind", "sizes", "flag"), FLAGS, ids=str)
def test_a_flag_is_true_or_false(kind, sizes, flag):
    with pytest.raises(TypeError, match=f"^{kind.__name__}: {flag} must be True or False, got 'no'.$"):
        kind(*sizes, **{flag: "no"})
    for value in (True, False, np.True_, np.False_):
        kind(*sizes, **{flag: value})


@pytest.mark.parametrize("layer", NORMS, ids=by_class)
def test_what_norms_add_to_the_variance(layer):
    """PyTorch's defaults; None is the machine epsilon of x."""
    assert layer.eps == (None if isinstance(layer, RMSNorm) else 1e-5)


def test_a_count_is_at_most_what_a_float_tells_from_the_next():
    assert as_count(2**53, "steps") == 2**53
    with pytest.raises(ValueError, match=rf"^Schedule: steps must be at most 2\*\*53, got {2**53 + 1}\.$"):
        as_count(2**53 + 1, "steps", "Schedule")


@pytest.mark.parametrize("layer", [Flatten(), Flatten(0, 0), Identity(), Linear(3, 2), ReLU(), *NORMS], ids=by_class)
@pytest.mark.parametrize("x", [[[1.0, 2.0]], np.ones((2, 3), int), np.ma.ones((2, 3))], ids=["list", "ints", "masked"])
def test_every_layer_takes_arrays_of_floats_alone(layer, x):
    with pytest.raises(TypeError, match=rf"^{type(layer).__name__}: x (must be|is a masked array)"):
        layer(x)


@pytest.mark.parametrize("kind", [InstanceNorm1d, BatchNorm1d])
def test_a_gradient_may_be_a_list(kind, rng):
    """As for the functions; what stands for a single sample is looked for in arrays alone."""
    x, dy = rng.normal(size=(2, 2, 3, 4))
    layer = kind(3, dtype=np.float64)
    layer(x)
    np.testing.assert_array_equal(layer.backward(dy.tolist()), layer.backward(dy))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("x", [[1.0, 2.0], np.arange(3), np.ma.array([1.0, 2.0])], ids=["list", "ints", "masked"])
def test_dropout_takes_arrays_of_floats_alone(training, x):
    layer = Dropout(0.5).train(training)
    with pytest.raises(TypeError, match=r"^Dropout: x (must be|is a masked array)"):
        layer(x)


@pytest.mark.parametrize(
    "kind", [InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, BatchNorm1d, BatchNorm2d, BatchNorm3d]
)
def test_a_norm_says_which_x_it_takes(kind):
    layer = kind(3)
    layouts = {"1d": "L", "2d": "H, W", "3d": "D, H, W"}[kind.__name__[-2:]]
    assert f"(N, C, {layouts})" in kind.__doc__
    with pytest.raises(ValueError, match=rf"^{kind.__name__}\(3\): x has shape \(2,\), but must be .*C, {layouts}\)"):
        layer(np.ones(2, np.float32))


@pytest.mark.parametrize("kind", [InstanceNorm1d, BatchNorm1d])
@pytest.mark.parametrize("name", ["running_var", "num_batches_tracked"])
def test_what_is_never_negative_is_not_loaded_so(kind, name):
    layer = kind(1, track_running_stats=True)
    with pytest.raises(ValueError, match=rf"; {name}: has negative values, such as -2\.$"):
        layer.load_state_dict(layer.state_dict() | {name: np.asarray(layer.state_dict()[name]) * 0 - 2})
    layer.load_state_dict(layer.state_dict() | {"running_mean": np.array([-2.0])})
    assert layer.running_mean == -2


@pytest.mark.parametrize(("kind", "momentum"), [(InstanceNorm1d, 0.1), (BatchNorm1d, 0.1), (BatchNorm1d, None)])
def test_a_count_from_which_counting_on_would_overflow_is_not_loaded(kind, momentum):
    layer = kind(2, track_running_stats=True, momentum=momentum)
    before = layer.state_dict()
    for value in (2**62 + 1, 2**63 - 1):
        with pytest.raises(ValueError, match=rf"; num_batches_tracked: has counts beyond 2\*\*62, such as {value}\.$"):
            layer.load_state_dict({**before, "running_mean": np.ones(2), "num_batches_tracked": np.array(value)})
        np.testing.assert_array_equal(layer.running_mean, before["running_mean"])
    layer.load_state_dict({**before, "num_batches_tracked": np.array(2**62)})
    layer(np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    assert layer.num_batches_tracked == 2**62 + (kind is BatchNorm1d)


def test_integers_that_do_not_fit_are_not_loaded():
    class Counter(Module):
        buffer_names = ("counts",)

        def __init__(self):
            self.counts = np.zeros(2, np.int32)

    counter = Counter()
    for values, worst in (([1, 2**40], 2**40), ([-(2**31) - 1, 0], -(2**31) - 1), (np.array([2**63, 3], "u8"), 2**63)):
        with pytest.raises(ValueError, match=rf"; counts: has values beyond int32, such as {worst}\.$"):
            counter.load_state_dict({"counts": np.asarray(values)})
    assert not counter.counts.any()
    counter.load_state_dict({"counts": np.array([-(2**31), 2**31 - 1])})
    np.testing.assert_array_equal(counter.counts, [-(2**31), 2**31 - 1])


def test_a_norm_without_its_methods_says_which():
    class Unfinished(norms.Norm):
        """Somebody's beginning."""

    with pytest.raises(NotImplementedError, match=r"^Unfinished has no check\(x\)$"):
        Unfinished()(np.ones(2))
    Unfinished.check = staticmethod(lambda x: x)
    with pytest.raises(NotImplementedError, match=r"^Unfinished has no run\(x, activation\)$"):
        Unfinished()(np.ones(2))


def test_what_a_damaged_file_says_stays_on_one_line():
    class Damaged(dict):
        """As np.load returns: an entry is read when it is asked for."""

        def __getitem__(self, name):
            raise OSError("\x1b[31mbad\nfile")

    layer = Linear(2, 1)
    message = r"cannot be read (OSError: \x1b[31mbad\nfile)."
    with pytest.raises(ValueError, match=f"; weight {re.escape(message)}$"):
        layer.load_state_dict(Damaged(layer.state_dict()))


@pytest.mark.parametrize("fuse", [True, False])
def test_a_part_of_a_sequence_fuses_as_the_whole_does(fuse):
    model = Sequential(Linear(2, 3), BatchNorm1d(3), ReLU())
    model.fuse = fuse
    assert model[1:].fuse is fuse
    assert model[1:][:1].fuse is fuse


@pytest.mark.parametrize(
    ("module", "compiled"), [("linear", "_products"), ("_norm", "_products"), ("cross_entropy", "_softmax")]
)
def test_without_what_is_compiled_a_layer_does_it_with_numpy(module, compiled, monkeypatch, rng):
    monkeypatch.setitem(sys.modules, f"normcore.nn.{compiled}", None)  # what a missing module is to an import
    monkeypatch.delattr(nn, compiled)
    spec = importlib.util.find_spec(f"normcore.nn.{module}")
    another = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(another)
    assert getattr(another, compiled) is None
    x = rng.normal(size=(5, 3))
    if module == "_norm":
        assert another.THREADED_BYTES == another.OTHERS_BYTES
    elif module == "linear":
        layer = another.Linear(3, 2, dtype=np.float64, rng=0)
        np.testing.assert_allclose(layer(x), x @ layer.weight.data.T + layer.bias.data, **tol(np.float64, 3))
    else:
        classes = np.array([0, 2, 1, 1, 0])
        want = -np.log(np.exp(x)[np.arange(5), classes] / np.exp(x).sum(axis=1)).mean()
        np.testing.assert_allclose(another.CrossEntropyLoss()(x, classes), want, rtol=1e-14)


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_classes_in_a_column_of_their_own(columns):
    """How to make a vector of them is said where they are not the output's own shape."""
    hint = {1: "pass target.argmax(1) for one-hot rows"}.get(columns, "pass one class for each row, target.reshape(4)")
    message = f"CrossEntropyLoss: target has shape (4, 1), but output has 4 rows; {hint}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CrossEntropyLoss()(np.zeros((4, columns)), np.zeros((4, 1), int))


def test_where_only_other_classes_have_weight_there_is_no_gradient():
    """The mean is over nothing: smoothing gives the others a part of it all the same."""
    criterion = CrossEntropyLoss(weight=[0.0, 1.0], label_smoothing=0.5)
    assert np.isnan(criterion(np.array([[1.0, 2.0], [0.0, 3.0]]), [0, 0]))
    np.testing.assert_array_equal(criterion.backward(), np.zeros((2, 2)))


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_weights_of_no_rows(reduction):
    criterion = MSELoss(reduction)
    assert np.sum(criterion(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))) == 0.0
    assert criterion.total_weight == 0.0
    assert criterion.backward().shape == (0, 3)


def test_a_weight_is_finite():
    with pytest.raises(ValueError, match=r"^MSELoss: sample_weight must be finite and not negative"):
        MSELoss()(np.zeros(2), np.zeros(2), [1.0, np.inf])


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_a_factor_does_not_make_the_output_larger(name):
    message = f"BCEWithLogitsLoss: {name} has shape (1, 3), which does not broadcast to the output's (3,); "
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        BCEWithLogitsLoss(**{name: np.ones((1, 3))})(np.zeros(3), np.zeros(3))
