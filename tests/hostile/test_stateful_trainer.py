"""A training in pieces, with failed calls, checkpoints and other work in between: the bits of one never stopped."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from hostile.outcomes import Refusal, outcome
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trainers import PerStep, bits, data, with_dropout

from normcore.training import Callback

MOST = 6  # epochs
X, Y = data(rows=20)
OPTIONS = {"batch_size": 8, "seed": 3, "validation_split": 0.25}


class Interrupt(Callback):
    """Ctrl-C in the middle of an epoch."""

    def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - a hook's arguments
        if batch == 1:
            raise KeyboardInterrupt


def new(clip):
    made = with_dropout(seed=1, clip_norm=0.5 if clip else None)
    made.scheduler = PerStep(made.optimizer)
    return made


@cache
def uninterrupted(epochs, clip):
    """Bits, history and outputs of a training of so many epochs in one go."""
    t = new(clip)
    history = t.fit(X, Y, epochs=epochs, **OPTIONS).history if epochs else {}
    return bits(t), {name: list(values) for name, values in history.items()}, t.predict(X)


WRONG = [
    {"X": X[:, :3]},
    {"X": np.where(X > 1, np.nan, X)},
    {"X": X.astype(complex)},
    {"X": np.ma.masked_array(X)},
    {"X": X[:0], "y": Y[:0]},
    {"y": Y[:-1]},
    {"y": Y + 1},
    {"y": np.array(["a"] * len(Y))},
    {"sample_weight": -np.ones(len(Y))},
    {"class_weight": {7: 1.0}},
    {"validation_split": 1.5},
    {"validation_data": (X, Y)},
    {"batch_size": 0},
    {"callbacks": [Callback]},
    {"seed": -1},
]


class Training(RuleBasedStateMachine):
    """A trainer, and how many epochs it has gone."""

    @initialize(clip=st.booleans())
    def make(self, clip):
        self.clip, self.done, self.saved = clip, 0, None
        self.trainer = new(clip)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "checkpoint.npz"

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @precondition(lambda self: self.done < MOST)
    @rule(more=st.integers(1, 2), layout=st.sampled_from(["C", "F"]))
    def fit(self, more, layout):
        self.done = min(MOST, self.done + more)
        rows = np.array(X, order=layout)
        rows.flags.writeable = False
        self.trainer.fit(rows, Y, epochs=self.done, resume=True, **OPTIONS)

    @rule(wrong=st.sampled_from(WRONG), resume=st.booleans())
    def fail_to_fit(self, wrong, resume):
        arguments = {"X": X, "y": Y, "epochs": MOST, "resume": resume, **OPTIONS, **wrong}
        assert isinstance(outcome(self.trainer.fit, **arguments), Refusal)

    @rule(wrong=st.sampled_from(WRONG[:8]))
    def fail_to_evaluate(self, wrong):
        got = outcome(self.trainer.evaluate, **{"X": X, "y": Y, **wrong})
        assert isinstance(got, Refusal) or np.isnan(wrong["X"]).any()

    @rule()
    def fail_to_go_on_otherwise(self):
        """The training had a validation split, and other rows."""
        if self.done:
            assert isinstance(outcome(self.trainer.fit, X, Y, MOST, 8, resume=True), Refusal)
            assert isinstance(outcome(self.trainer.fit, X[:12], Y[:12], MOST, resume=True, **OPTIONS), Refusal)

    @rule()
    def evaluate(self):
        self.trainer.evaluate(X, Y, batch_size=7)

    @rule()
    def predict(self):
        np.testing.assert_array_equal(self.trainer.predict(X), uninterrupted(self.done, self.clip)[2])

    @rule()
    def save(self):
        self.trainer.save_checkpoint(self.path)
        self.saved = self.done

    @precondition(lambda self: self.saved is not None)
    @rule(fresh=st.booleans())
    def load(self, fresh):
        if fresh:
            self.trainer = new(self.clip)
        self.trainer.load_checkpoint(self.path)
        self.done = self.saved

    @precondition(lambda self: self.saved is not None and self.done < MOST)
    @rule()
    def interrupt_and_load(self):
        try:
            self.trainer.fit(X, Y, epochs=MOST, resume=True, callbacks=[Interrupt()], **OPTIONS)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("it was not interrupted")
        assert len(self.trainer.history) == self.done
        self.load(fresh=False)

    @precondition(lambda self: self.saved is not None)
    @rule(at=st.floats(0.1, 0.9))
    def fail_to_load(self, at):
        content = self.path.read_bytes()
        damaged = self.path.with_name("damaged.npz")
        damaged.write_bytes(content[: int(len(content) * at)])
        assert isinstance(outcome(self.trainer.load_checkpoint, damaged), Refusal)

    @invariant()
    def is_as_if_never_stopped(self):
        if not hasattr(self, "trainer"):
            return
        expected, history, _ = uninterrupted(self.done, self.clip)
        assert bits(self.trainer) == expected
        assert {name: list(values) for name, values in self.trainer.history.history.items()} == history
        assert self.trainer.model.training


TestTraining = Training.TestCase
TestTraining.settings = settings(stateful_step_count=12)
