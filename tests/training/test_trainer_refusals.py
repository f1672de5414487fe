"""Trainer: every way in which fit, evaluate and predict refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest
from processes import python
from trainers import Record, bits, data, trainer

from normcore import nn
from normcore.nn import MLP, BatchNorm1d, BatchNorm2d, Flatten, Linear, MSELoss, Sequential
from normcore.optim import Adam, StepLR
from normcore.training import Callback, Trainer


class Unwilling:
    """Somebody's array, with a mistake of its own."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")


class TestRefusals:
    """All of them before anything is trained."""

    X, y = data(20)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"epochs": 0}, ValueError, "epochs must be a positive int, got 0."),
            ({"epochs": 1.5}, TypeError, "epochs must be a positive int, got 1.5."),
            ({"batch_size": True}, ValueError, "batch_size must be a positive int, got True."),
            ({"batch_size": "32"}, TypeError, "batch_size must be a positive int, got '32'."),
            ({"seed": "x"}, TypeError, "seed must be None, an int or a numpy.random.Generator, got str."),
            ({"X": X[:10]}, ValueError, "X has 10 rows but y has 20 rows; pass one target for each row."),
            ({"y": 3}, ValueError, "X has 20 rows but y has no rows; pass one target for each row."),
            ({"X": X[:0], "y": y[:0]}, ValueError, "X has no rows; pass at least one."),
            (
                {"X": X[0]},
                ValueError,
                "X must have shape (rows, features, ...), got (4,); for a single row pass X[None].",
            ),
            ({"X": np.ones((20, 4), int)}, TypeError, "X must be floating point, got int64; convert it with X.astype"),
            (
                {"X": np.ma.array(X)},
                TypeError,
                "X is a masked array, whose mask would be ignored; pass X.filled(value).",
            ),
            (
                {"y": np.ma.array(y)},
                TypeError,
                "y is a masked array, whose mask would be ignored; pass y.filled(value).",
            ),
            (
                {"X": np.full((20, 4), np.nan)},
                ValueError,
                "X has NaN or infinite values; remove those rows or fill them in.",
            ),
            (
                {"y": np.full((20, 3), np.inf)},
                ValueError,
                "y has NaN or infinite values; remove those rows or fill them in.",
            ),
            (
                {"X": np.where(np.eye(20, 4) > 0, 1e39, X.astype(float))},
                ValueError,
                "X has values beyond float32, such as 1e+39, and the model is float32; scale X, or make the model with "
                "dtype=np.float64.",
            ),
            (
                {"validation_data": (np.full((20, 4), np.nan), y)},
                ValueError,
                "validation_data's X has NaN or infinite values; remove those rows or fill them in.",
            ),
            (
                {"validation_data": (X, np.full((20, 3), np.inf))},
                ValueError,
                "validation_data's y has NaN or infinite values; remove those rows or fill them in.",
            ),
            (
                {"validation_data": (np.full((20, 4), -1e300), y)},
                ValueError,
                "validation_data's X has values beyond float32, such as 1e+300, and the model is float32; scale",
            ),
            (
                {"X": X[:, :3]},
                ValueError,
                "X does not fit the model: Linear: x has shape (2, 3), but its last dimension must be",
            ),
            (
                {"y": y + 1},
                ValueError,
                "y does not fit the loss and the model's output: CrossEntropyLoss: target has classes from 1",
            ),
            (
                {"y": y.astype(str)},
                TypeError,
                "y does not fit the loss and the model's output: CrossEntropyLoss: target must be",
            ),
            (
                {"callbacks": Callback()},
                TypeError,
                "callbacks must be a list of Callback objects, got Callback; put it into a list.",
            ),
            (
                {"callbacks": [Callback]},
                TypeError,
                "callbacks must hold Callback objects, got the class Callback; derive",
            ),
            (
                {"callbacks": [print]},
                TypeError,
                "callbacks must hold Callback objects, got builtin_function_or_method; ",
            ),
            ({"validation_data": X}, TypeError, "validation_data must be a pair (X, y), got ndarray."),
            ({"validation_data": (X, y, y)}, TypeError, "validation_data must be a pair (X, y), got tuple of 3."),
            ({"X": [[1.0, 2.0], [1.0]]}, ValueError, "X must be an array, got a list with rows of unequal length."),
            ({"y": [[1.0, 2.0], [1.0]]}, ValueError, "y must be an array, got a list with rows of unequal length."),
            ({"X": None}, TypeError, "X must be an array, got NoneType."),
            ({"y": None}, TypeError, "y must be an array, got NoneType."),
            ({"y": Unwilling()}, TypeError, "y must be an array, got"),
            (
                {"y": y[:, None]},
                ValueError,
                f"but output has {len(y)} rows; pass one class for each row, target.reshape({len(y)}).",
            ),
            ({"validation_data": (X[:0], y[:0])}, ValueError, "validation_data's X has no rows; pass at least one."),
            (
                {"validation_data": (X, y[:1])},
                ValueError,
                "validation_data's X has 20 rows but validation_data's y has 1 rows",
            ),
            (
                {"validation_data": (X[:, :2], y)},
                ValueError,
                "validation_data's X has rows of shape (2,), but X has rows of shape (4,).",
            ),
            (
                {"validation_data": (X > 0, y)},
                TypeError,
                "validation_data's X must be floating point, got bool; convert it with X.astype(np.float32).",
            ),
            (
                {"validation_data": (X, y - 1)},
                ValueError,
                "validation_data's y does not fit the loss and the model's output: ",
            ),
            (
                {"X": X[:1], "y": y[:1]},
                ValueError,
                "there is one row to train on, and this model cannot be trained on a single row: x has shape (1, 8): "
                "one value per channel",
            ),
            (
                {"batch_size": 1},
                ValueError,
                "batch_size is 1, and this model cannot be trained on a single row: x has shape (1, 8): one value per",
            ),
        ],
    )
    def test_fit(self, arguments, error, message):
        t = trainer()
        before = bits(t)
        record = Record()
        with pytest.raises(error, match=re.escape(message)):
            t.fit(**{"X": self.X, "y": self.y, "callbacks": [record], **arguments})
        assert bits(t) == before
        assert t.optimizer.state_dict()["state"] == {}
        assert record.events == []
        assert t.model.training

    def test_a_layer_that_was_replaced_under_the_optimizer(self):
        t = trainer()
        t.model[-1] = Linear(8, 3, rng=5)
        before = bits(t)
        for name, call in (("fit", t.fit), ("partial_fit", t.partial_fit)):
            with pytest.raises(ValueError, match=f"^{name}: optimizer has parameters that are not in model; make it "):
                call(self.X, self.y)
        assert bits(t) == before
        t.evaluate(self.X, self.y)
        t.optimizer = Adam(t.model.parameters())
        t.fit(self.X, self.y)
        t.scheduler = StepLR(Adam(t.model.parameters()), 3)
        with pytest.raises(ValueError, match="scheduler is of another optimizer, whose learning rate it would set; "):
            t.fit(self.X, self.y)

    def test_a_batch_of_one_row_leaves_no_trace_in_any_layer(self, rng):
        X = rng.normal(size=(4, 2, 3, 3)).astype(np.float32)
        # BatchNorm2d takes one image, BatchNorm1d behind it does not
        t = Trainer(Sequential(BatchNorm2d(2), Flatten(), BatchNorm1d(18), Linear(18, 2)))
        before = bits(t)
        with pytest.raises(ValueError, match="one value per channel"):
            t.fit(X, [0, 1, 0, 1], batch_size=1)
        assert bits(t) == before

    def test_a_nan_far_down_is_found(self):
        X = np.zeros((300_000, 4), np.float32)
        X[299_999, 3] = np.nan
        with pytest.raises(ValueError, match="X has NaN"):
            trainer().fit(X, np.zeros(300_000, int))

    def test_a_target_beyond_the_models_dtype(self):
        t = Trainer(MLP([4, 1], seed=0), loss="mse")
        before = bits(t)
        with pytest.raises(ValueError, match="y has values beyond float32, such as 1e\\+300, and the model is float32"):
            t.fit(self.X, np.full((20, 1), 1e300))
        assert bits(t) == before

    def test_a_wrong_backend_is_no_fault_of_the_data(self):
        code = (
            "import numpy as np, normcore as nc; X = np.ones((4, 3), np.float32)\n"
            "nc.Trainer(nc.MLP([3, 4, 2])).{}(X, [0, 1, 0, 1])"
        )
        for method in ("fit", "evaluate"):
            assert python(code.format(method), NORMCORE_BACKEND="foo") == (
                "ValueError: NORMCORE_BACKEND must be one of cython, numba, reference, got 'foo'"
            )

    def test_mse_says_how_to_reshape(self):
        model = MLP([4, 1])
        with pytest.raises(
            ValueError,
            match=re.escape("target has shape (20,), but output has shape (20, 1); reshape it, target.reshape(20, 1)."),
        ):
            Trainer(model, loss="mse").fit(self.X, self.X[:, 0])

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"model": MLP}, TypeError, "Trainer: model must be a normcore.nn.Module, got the class MLP."),
            (
                {"optimizer": "adam"},
                TypeError,
                "Trainer: optimizer must be an optimizer object, got 'adam'; pass for instance",
            ),
            ({"optimizer": Adam}, TypeError, "Trainer: optimizer must be an optimizer object, got the class Adam; "),
            (
                {"optimizer": Adam(MLP([4, 3]).parameters())},
                ValueError,
                "Trainer: optimizer has parameters that are not in model; make it from this model's parameters().",
            ),
            (
                {"loss": "hinge"},
                ValueError,
                "Trainer: loss must be one of 'cross_entropy', 'mse', 'bce_with_logits' or a loss object, got 'hinge'.",
            ),
            (
                {"loss": MSELoss},
                TypeError,
                "Trainer: loss must be one of 'cross_entropy', 'mse', 'bce_with_logits' or a loss object with "
                "backward()",
            ),
            ({"loss": len}, TypeError, "or a loss object with backward(), got builtin_function_or_method."),
            (
                {"loss": MSELoss("none")},
                ValueError,
                "Trainer: loss has reduction='none', but training needs one number; ",
            ),
            ({"model": nn.ReLU()}, ValueError, "Adam: params is empty"),
            (
                {"scheduler": StepLR(Adam(MLP([4, 3]).parameters()), 2)},
                ValueError,
                "Trainer: scheduler is of another optimizer, whose learning rate it would set; make it from the one",
            ),
        ],
    )
    def test_constructor(self, options, error, message):
        with pytest.raises(error, match=re.escape(message)):
            Trainer(**{"model": MLP([4, 3]), **options})

    def test_evaluate_and_predict(self):
        t = trainer()
        with pytest.raises(ValueError, match="X has 20 rows but y has 3 rows"):
            t.evaluate(self.X, self.y[:3])
        with pytest.raises(ValueError, match="batch_size must be a positive int, got 0"):
            t.evaluate(self.X, self.y, batch_size=0)
        with pytest.raises(ValueError, match="batch_size must be a positive int, got -1"):
            t.predict(self.X, batch_size=-1)
        with pytest.raises(TypeError, match="X must be floating point, got object"):
            t.predict([[None]])
