"""Modes for a while: nested, in several threads at once, and after Ctrl-C."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from trainers import data, with_dropout

from normcore.nn import BatchNorm1d, Linear, Module, Sequential
from normcore.training._mode import _evaluations, mode
from reliability.patience import patience

X, y = data(rows=300)


def modes(model):
    return [module.training for module in model.modules()]


@pytest.fixture
def model():
    found = Sequential(Linear(4, 3), BatchNorm1d(3), BatchNorm1d(3))
    found[1].eval()  # frozen
    return found


def test_each_layer_gets_back_the_mode_that_it_had(model):
    before = modes(model)
    assert len(set(before)) == 2
    with mode(model, training=False):
        assert not any(modes(model))
        with mode(model, training=True):
            assert all(modes(model))
            with mode(model, training=False):
                assert not any(modes(model))
            assert all(modes(model))
        assert not any(modes(model))
        with mode(model, training=False):
            pass
        assert not any(modes(model))
    assert modes(model) == before
    assert not _evaluations


def test_who_ends_first_leaves_the_others_their_mode(model):
    before = modes(model)
    inside, first_is_gone = threading.Barrier(2, timeout=patience(60)), threading.Event()
    seen = []

    def second():
        inside.wait()  # the first is in
        with mode(model, training=False):
            inside.wait()
            first_is_gone.wait(patience(60))
            seen.append(modes(model))

    thread = threading.Thread(target=second)
    thread.start()
    with mode(model, training=False):
        inside.wait()
        inside.wait()  # the second is in, too
    first_is_gone.set()
    thread.join()
    assert seen == [[False] * 4]
    assert modes(model) == before


def test_threads_predict_with_one_trainer():
    """Its model is in training mode by itself: batch norm and dropout would show a mode put back too soon."""
    t = with_dropout()
    t.fit(X, y, epochs=1, seed=0)
    expected, state = t.predict(X), t.model.state_dict()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(16) as pool:
            for found in pool.map(lambda _: t.predict(X, batch_size=32), range(64)):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # products of 32 rows, not of 256
    finally:
        sys.setswitchinterval(interval)
    assert all(modes(t.model))
    for name, value in t.model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize("training", [True, False])
def test_an_interrupt_while_a_mode_is_set_puts_back_what_was_set(model, training):
    class Interrupted(Module):
        @property
        def training(self):
            return not training

        @training.setter
        def training(self, value):
            if value == training:
                raise KeyboardInterrupt

    before = modes(model)
    whole = Sequential(model, Interrupted())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), mode(whole, training=training):
            pytest.fail("was not interrupted")
        assert modes(model) == before
        assert not _evaluations
