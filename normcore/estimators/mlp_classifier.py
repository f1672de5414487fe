"""MLPClassifier: scikit-learn's, with normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_class_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from normcore._shown import shown
from normcore.nn._checks import Array
from normcore.training import Callback

from ._descent import Data
from ._masked import refuse_masks
from ._mlp import FLOATS, BaseMLP, has_partial_fit
from ._mlp_docs import ATTRIBUTES, FIT, PARAMETERS, documented
from ._objective import Objective, of_classifier


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc] # sklearn has no types
    __doc__ = documented(
        """Multilayer perceptron that classifies: scikit-learn's `MLPClassifier` with normalisation between its layers.

    All arguments, attributes and methods of scikit-learn's are here and mean the same, so that changing the import is
    all it takes; with `norm=None` it learns the same network, epoch by epoch. What is added: `norm`, `dropout`,
    `class_weight`, `callbacks`, `validation_curve_`, `model_`, and `validation_data` in `fit`.

    The loss of a row is `-log(p)` of its class, with softmax behind the last layer; of two classes, and of labels that
    are each there or not, the logistic loss, added up over labels. The penalty `alpha / 2 * sum(coefs_**2)` is divided
    by the number of rows in the batch, or by their weights added up.

    Parameters
    ----------
    {parameters}
    class_weight : dict, "balanced" or None
        How much each class counts, multiplied into sample_weight; 1 for classes that the dict leaves out. "balanced"
        is `rows / (classes * rows of the class)`, of the rows that are trained on. It does not count in validation.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes; of labels, their numbers.
    {attributes}

    Raises
    ------
    ValueError, TypeError
        By `fit`, as scikit-learn: for parameters and data that are not as above, for NaN and infinity, or when the
        solver ran away.
    sklearn.exceptions.NotFittedError
        By the other methods before `fit`.

    See Also
    --------
    MLPRegressor, normcore.MLP, normcore.Trainer

    Notes
    -----
    The loss is computed from logits: where scikit-learn cuts probabilities off at the machine's epsilon, here a row
    that is wrong without doubt costs what it costs. Starting values are those of Glorot & Bengio (2010), batch norm
    that of Ioffe & Szegedy (2015).

    Examples
    --------
    >>> from normcore.data import load_digits, split
    >>> from normcore.estimators import MLPClassifier
    >>> digits = load_digits()
    >>> train, test = split(digits.X, digits.y, 0.25, seed=0)
    >>> clf = MLPClassifier((32,), early_stopping=True, random_state=0).fit(train.X, train.y)
    >>> clf.score(test.X, test.y) > 0.9
    True
    >>> clf.model_[1]
    BatchNorm1d(32, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """,
        parameters=PARAMETERS,
        attributes=ATTRIBUTES.format(
            score="accuracy", output='"softmax", or "logistic" for two classes and for labels'
        ),
    )

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    _score_name = "accuracy"
    loss = "log_loss"

    classes_: Array
    _label_binarizer: Any

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        norm: str | None = "batch",
        dropout: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
        callbacks: Iterable[Callback] | None = None,
    ) -> None:
        self._take(locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> MLPClassifier:
        self._fit(X, y, sample_weight, validation_data)
        return self

    fit.__doc__ = FIT.replace("{y}", "y : array of shape (n_samples,), or of shape (n_samples, n_labels) with 0 and 1")

    @available_if(has_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Go once through these rows, from where the network is.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            The rows.
        y : array of shape (n_samples,), or of shape (n_samples, n_labels) with 0 and 1
            The classes of rows.
        sample_weight : array of shape (n_samples,), optional
            How much each row counts.
        classes : array of shape (n_classes,), optional
            All classes there will ever be; needed in the first call.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer().fit(y if type_of_target(y).startswith("multilabel") else classes)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each row; of labels, those that are more probable than not.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
        """
        output = self._outputs(X)
        found = self._decided(output)
        if output.shape[1] > 1 and self.out_activation_ == "logistic":
            # As sparse as the labels were.
            return self._label_binarizer.inverse_transform(found)  # type: ignore[no-any-return] # scikit-learn has no types
        return self.classes_[found.reshape(-1)]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, or of each label, for each row.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`, in the network's dtype.
        """
        z = self._outputs(X)
        if self.out_activation_ == "softmax":
            z -= np.maximum.reduce(z, axis=1, keepdims=True)
            np.exp(z, out=z)
            z /= np.add.reduce(z, axis=1, keepdims=True)
            return z
        p = _sigmoid(z)
        return np.concatenate([1 - p, p], axis=1) if p.shape[1] == 1 else p

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba(X)`; -inf where a probability has rounded to 0.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)

    # What BaseMLP asks for

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        refuse_masks(X=X, y=y)
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=FLOATS, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                        f"Previously got {self.classes_}, `y` has {classes}"
                    )
            else:
                self._check_known(classes)
        return X, self._label_binarizer.transform(y)

    def _check_known(self, classes: Array) -> None:
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _validation_target(self, y: Any) -> Array:
        self._check_known(unique_labels(y))
        found: Array = self._label_binarizer.transform(y)
        return found

    def _make_objective(self) -> Objective:
        self.out_activation_ = "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"
        return of_classifier(self.out_activation_)

    def _as_target(self, y: Array, dtype: np.dtype[Any]) -> Array:
        return y.argmax(axis=1) if self.out_activation_ == "softmax" else y.astype(dtype)

    def _class_weights(self, y: Array, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return None
        if self._label_binarizer.y_type_.startswith("multilabel"):
            raise ValueError(
                "class_weight is for rows of one class each, but y has labels, any number in a row; pass sample_weight."
            )
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' is not supported by partial_fit, which does not know how many rows of each "
                "class will come; pass a dict, such as dict(zip(classes, compute_class_weight('balanced', "
                "classes=classes, y=y)))."
            )
        labels = self.classes_[y.argmax(axis=1) if self.out_activation_ == "softmax" else y[:, 0]]
        # A dict may name classes that are not among these rows; counting can only those that are.
        classes = np.unique(labels) if isinstance(self.class_weight, str) else self.classes_
        weights: Array = compute_class_weight(self.class_weight, classes=classes, y=labels)
        if not (weights >= 0).all():
            raise ValueError(f"class_weight must hold weights that are not negative, got {shown(self.class_weight)}.")
        return weights[np.searchsorted(classes, labels)]

    def _decided(self, output: Array) -> Array:
        """The number of the class, shape (N,), or for each column whether it is there."""
        if self.out_activation_ == "softmax":
            return output.argmax(axis=1)  # type: ignore[no-any-return] # NumPy's stubs say Any
        if len(self.classes_) == 1:
            return np.zeros(output.shape, np.intp)  # there is no other to choose
        # Of the probability, so that it never disagrees with predict_proba.
        return (_sigmoid(output) > 0.5).astype(np.intp)

    def _score_outputs(self, output: Array, data: Data) -> float:
        right = self._decided(output) == data.target
        if right.ndim == 2:
            right = right.all(axis=1)
        return float(np.average(right, weights=data.weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _sigmoid(z: Array) -> Array:
    # exp overflows to inf for very negative z, and 1/inf is the 0 wanted.
    with np.errstate(over="ignore", under="ignore"):
        found: Array = 1 / (1 + np.exp(-z))
    return found
