"""Modes for a while: nested, in several threads at once, and after Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from trainers import data, with_dropout

from normcore.nn import BatchNorm1d, Linear, Module, Sequential
from normcore.training._mode import _Evaluation, _evaluations, mode
from reliability.patience import patience

X, y = data(rows=300)


def modes(model):
    return [module.training for module in model.modules()]


@pytest.fixture
def model():
    found = Sequential(Linear(4, 3), BatchNorm1d(3), BatchNorm1d(3))
    found[1].eval()  # frozen
    return found


def test_what_an_evaluation_of_before_has_left_is_not_put_back(model):
    """Ctrl-C came while it ended, and since then the model was put into evaluation mode for good."""
    _evaluations.append(_Evaluation(model, [(module, True) for module in model.modules()]))
    model.eval()
    with mode(model, False):
        assert not any(modes(model))
    assert not any(modes(model))
    assert not _evaluations


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


def _in_a_fork(ok):
    """The exit code of a forked child: 0 if what it computes is true; 14 (SIGALRM) if it hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads, and JAX of any
        child = os.fork()
    if not child:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(patience(20))
            code = 0 if ok() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("nested", [False, True])
def test_a_fork_ends_what_other_threads_evaluate(model, nested):
    """The parent's threads are in evaluation; in the child, where they are not, the model has its own mode."""
    before = modes(model)
    inside, over = threading.Event(), threading.Event()

    def evaluate():
        with mode(model, training=False):
            if not nested:
                inside.set()
                over.wait(patience(60))
                return
            with mode(model, training=True), mode(model, training=False):
                inside.set()
                over.wait(patience(60))

    thread = threading.Thread(target=evaluate)
    thread.start()
    inside.wait(patience(60))
    assert _in_a_fork(lambda: modes(model) == before and not _evaluations) == 0

    def evaluates_on():
        with mode(model, training=False):
            assert not any(modes(model))
        return modes(model) == before

    assert _in_a_fork(evaluates_on) == 0
    if not nested:  # what the thread that forks evaluates itself goes on
        with mode(model, training=False):
            assert _in_a_fork(lambda: not any(modes(model)) and len(_evaluations) == 1) == 0
    over.set()
    thread.join()
    assert modes(model) == before
    assert not _evaluations


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_predicts_and_trains_while_threads_of_its_parent_predict():
    t = with_dropout()
    t.fit(X, y, epochs=1, seed=0)
    expected, over = t.predict(X), threading.Event()

    def predict():
        while not over.is_set():
            t.predict(X[:10])

    def works():
        if not all(modes(t.model)):
            return False
        np.testing.assert_array_equal(t.predict(X), expected)
        t.fit(X, y, epochs=2, resume=True)
        return all(modes(t.model))

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert [_in_a_fork(works) for _ in range(10)] == [0] * 10
    finally:
        over.set()
        for thread in threads:
            thread.join()


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
