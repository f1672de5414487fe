"""What batch norm layers do besides PyTorch's: freeze, update_stats, nonfinite; and what goes with momentum=None."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import oracle
import pytest
from differences import check_gradients
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

from normcore.nn import BatchNorm1d, BatchNorm2d, Sequential, Tanh


def layer(**options):
    """A layer with statistics and parameters that are not 0 and 1."""
    made = BatchNorm1d(3, dtype=np.float64, **options)
    rng = np.random.default_rng(3)
    made.weight.data[...], made.bias.data[...] = rng.normal(size=(2, 3))
    if made.running_mean is not None:
        made.running_mean[...], made.running_var[...] = rng.normal(size=3), rng.uniform(0.5, 2, size=3)
    return made


def assert_unchanged(model, before):
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": None},
        {"nonfinite": "skip"},
        {"nonfinite": "raise"},
        {"update_stats": False},
        {"track_running_stats": False},
    ],
    ids=str,
)
def test_every_way_has_the_layers_eps(options, rng):
    x, dy = rng.normal(size=(2, 6, 3))
    bn = layer(eps=2.0, **options)
    weight, bias = bn.weight.data, bn.bias.data
    np.testing.assert_allclose(bn(x), oracle.forward(x, weight, bias, eps=2.0).y, **tol(np.float64, 6, scale=4))
    want = oracle.backward(dy, x, weight, eps=2.0)[0]
    np.testing.assert_allclose(bn.backward(dy), want, **tol(np.float64, 6, "dx", scale=4))
    model = Sequential(bn, Tanh())
    y = model(x)  # by one kernel; then one by one
    dz = model[1].backward(dy)
    np.testing.assert_allclose(dz, dy * (1 - y * y), **tol(np.float64, 6, "dx", scale=4))
    want = oracle.backward(dz, x, weight, eps=2.0)[0]
    np.testing.assert_allclose(bn.backward(dz), want, **tol(np.float64, 6, "dx", scale=4))


@pytest.mark.usefixtures("backend")
class TestFreeze:
    def test_survives_train_and_changes_nothing(self, rng):
        model = Sequential(layer())
        bn = model[0]
        assert bn.freeze() is bn
        before = model.state_dict()
        x = rng.normal(size=(6, 3)) + 9
        expected = oracle.forward(x, bn.weight.data, bn.bias.data, mean=bn.running_mean, var=bn.running_var).y
        for mode in (True, False, True):
            np.testing.assert_allclose(model.train(mode)(x), expected, **tol(np.float64, scale=20))
        assert_unchanged(model, before)
        assert bn.training
        assert bn.frozen

    def test_one_row_can_be_trained_on(self):
        assert layer().freeze()(np.ones((1, 3))).shape == (1, 3)

    def test_gradients_take_the_statistics_as_constants(self, rng):
        check_gradients(layer().freeze(), rng.normal(size=(5, 3)), rng.normal(size=(5, 3)))

    def test_unfreeze_goes_on_where_it_was(self, rng):
        bn, twin = layer(), layer()
        x = rng.normal(size=(6, 3))
        bn.freeze()(x + 5)
        assert bn.unfreeze() is bn
        np.testing.assert_array_equal(bn(x), twin(x))
        assert_unchanged(bn, twin.state_dict())
        assert bn.num_batches_tracked == 1

    def test_a_state_dict_can_be_loaded(self):
        bn, other = layer().freeze(), BatchNorm1d(3)
        bn.load_state_dict(other.state_dict())
        assert_unchanged(bn, other.state_dict())

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_stay_frozen(self, duplicate):
        assert duplicate(layer().freeze()).frozen
        assert repr(layer().freeze()).endswith("track_running_stats=True, frozen=True)")

    def test_needs_running_statistics(self):
        with pytest.raises(
            ValueError, match=r"BatchNorm1d\.freeze: there are no running statistics to freeze; make the"
        ):
            layer(track_running_stats=False).freeze()


@pytest.mark.usefixtures("backend")
class TestUpdateStats:
    def test_the_batch_normalises_and_the_running_statistics_stay(self, rng):
        bn = layer(update_stats=False)
        before = bn.state_dict()
        x, dy = rng.normal(size=(2, 6, 3))
        np.testing.assert_array_equal(bn(x), layer()(x))
        np.testing.assert_allclose(
            bn.backward(dy), oracle.backward(dy, x, bn.weight.data).dx, **tol(np.float64, 6, "dx")
        )
        assert_unchanged(bn, before)
        assert "update_stats=False" in repr(bn)
        bn.update_stats = True
        bn(x)
        assert bn.num_batches_tracked == 1

    def test_evaluation_uses_the_running_statistics(self, rng):
        x = rng.normal(size=(6, 3))
        np.testing.assert_array_equal(layer(update_stats=False).eval()(x), layer().eval()(x))


BAD = {
    "nan": lambda x: x.__setitem__((1, 2), np.nan),
    "inf": lambda x: x.__setitem__((0, 0), np.inf),
    "both infinities": lambda x: x.__setitem__((slice(2), 1), [np.inf, -np.inf]),
    "variance beyond float64": lambda x: x.__setitem__((slice(2), 1), [1e200, -1e200]),
}
EVERY_BAD = pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the reference backend's NumPy says so
@pytest.mark.usefixtures("backend")
class TestNonfinite:
    @EVERY_BAD
    @pytest.mark.parametrize("momentum", [0.1, None])
    def test_skip(self, rng, spoil, momentum):
        bn, plain = layer(nonfinite="skip", momentum=momentum), layer(momentum=momentum)
        good, bad = rng.normal(size=(2, 6, 3))
        spoil(bad)
        before = bn.state_dict()
        y = bn(bad)
        assert_unchanged(bn, before)
        np.testing.assert_array_equal(y, layer()(bad))  # y is what it is
        bn.backward(good)
        # the next good batch counts, with the bits that it would have had
        np.testing.assert_array_equal(bn(good), plain(good))
        assert_unchanged(bn, plain.state_dict())
        assert bn.num_batches_tracked == 1

    @EVERY_BAD
    @pytest.mark.parametrize(
        "options", [{}, {"update_stats": False}, {"track_running_stats": False}, {"momentum": None}]
    )
    def test_raise(self, rng, spoil, options):
        bn = layer(nonfinite="raise", **options)
        good, bad = rng.normal(size=(2, 6, 3))
        bn(good)
        dx = bn.backward(good)
        before = bn.state_dict()
        spoil(bad)
        with pytest.raises(
            ValueError, match="BatchNorm1d: x has NaN, infinity or a variance beyond float64 in 1 of 3 c"
        ):
            bn(bad)
        assert_unchanged(bn, before)
        np.testing.assert_array_equal(bn.backward(good), dx)  # still of the last forward that went well

    @EVERY_BAD
    def test_propagate_is_pytorchs(self, rng, spoil):
        bn, bad = layer(), rng.normal(size=(6, 3))
        spoil(bad)
        bn(bad)
        assert not np.isfinite(bn.running_var).all()
        assert bn.num_batches_tracked == 1

    def test_a_variance_beyond_float32(self):
        bn = BatchNorm1d(1, nonfinite="skip")
        bn(np.array([[1e30], [-1e30]], np.float32))
        assert (bn.running_var, bn.num_batches_tracked) == (1, 0)

    def test_nothing_is_judged_where_statistics_are_constants(self):
        bad = np.full((2, 3), np.nan)
        for bn in (layer(nonfinite="raise").eval(), layer(nonfinite="raise").freeze()):
            assert np.isnan(bn(bad)).all()

    @pytest.mark.parametrize("nonfinite", ["skip", "raise"])
    def test_good_batches_have_the_same_bits(self, rng, nonfinite):
        for dtype, kind, shape in ((np.float32, BatchNorm2d, (4, 3, 2, 2)), (np.float64, BatchNorm1d, (7, 3))):
            guarded, plain = kind(3, nonfinite=nonfinite, dtype=dtype), kind(3, dtype=dtype)
            for _ in range(5):
                x = rng.normal(size=shape).astype(dtype)
                np.testing.assert_array_equal(guarded(x), plain(x))
            assert_unchanged(guarded, plain.state_dict())

    def test_behind_it_an_activation(self, rng):
        model = Sequential(layer(nonfinite="raise"), Tanh())
        bad = rng.normal(size=(6, 3))
        bad[0] = np.nan
        before = model.state_dict()
        with pytest.raises(ValueError, match="in 3 of 3 channels, the first of them 0"):
            model(bad)
        assert_unchanged(model, before)

    def test_its_names(self):
        with pytest.raises(
            ValueError, match="BatchNorm1d: nonfinite must be one of 'propagate', 'raise', 'skip', got 1"
        ):
            layer(nonfinite=1)
        assert "nonfinite='skip'" in repr(layer(nonfinite="skip"))


@given(st.lists(st.sampled_from(["good", "bad", "freeze", "unfreeze", "train", "eval"]), max_size=12))
def test_whatever_happens_the_running_statistics_are_those_of_the_good_training_batches(happenings):
    bn, rng = layer(nonfinite="skip", momentum=None), np.random.default_rng(0)
    bn.running_mean[...], bn.running_var[...] = 0, 1
    seen = []
    for what in happenings:
        if what in ("good", "bad"):
            x = rng.normal(size=(5, 3))
            if what == "bad":
                x[0, 0] = np.nan
            elif bn.training and not bn.frozen:
                seen.append(x)
            bn(x)
        else:
            getattr(bn, what)()
    assert bn.num_batches_tracked == len(seen)
    mean = np.mean([x.mean(axis=0) for x in seen], axis=0) if seen else np.zeros(3)
    var = np.mean([x.var(axis=0, ddof=1) for x in seen], axis=0) if seen else np.ones(3)
    np.testing.assert_allclose(bn.running_mean, mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(bn.running_var, var, rtol=1e-12)
