"""What the docstrings of the two perceptrons share."""

from __future__ import annotations

PARAMETERS = """hidden_layer_sizes : array-like of int, or int
        How many neurons each hidden layer has.
    activation : {"identity", "logistic", "tanh", "relu"}
        Behind every hidden layer and its normalisation.
    solver : {"lbfgs", "sgd", "adam"}
        "adam" (Kingma & Ba 2015) and "sgd" go through the rows in batches; "lbfgs" is SciPy's L-BFGS-B on all rows at
        once, in float64, for small data.
    alpha : float
        Strength of the L2 penalty on `coefs_`; intercepts and normalisation have none.
    batch_size : int or "auto"
        Rows in a step of "adam" or "sgd"; "auto" is `min(200, n_samples)`. A last batch of a single row joins the one
        before when `norm="batch"`, which needs two.
    learning_rate : {"constant", "invscaling", "adaptive"}
        For "sgd". "invscaling": `learning_rate_init / (t_ + 1)**power_t` after each epoch. "adaptive": divided by 5
        whenever there was no better epoch for `n_iter_no_change` epochs, until it is 1e-6.
    learning_rate_init : float
        The learning rate of "adam" and "sgd" to begin with.
    power_t : float
        The exponent of "invscaling".
    max_iter : int
        Epochs at most; for "lbfgs", iterations.
    shuffle : bool
        Whether "adam" and "sgd" go through the rows in a new order in every epoch.
    random_state : int, RandomState instance or None
        For starting values, rows that are held out, the order of rows and the masks of dropout. The same seed gives
        scikit-learn's starting values, and without dropout its order.
    tol : float
        By how much an epoch has to be better to count as better; for "lbfgs", the largest gradient to end with.
    verbose : bool
        Whether to print the loss of every epoch.
    warm_start : bool
        Whether `fit` goes on with the network that an earlier one left.
    momentum : float
        Of "sgd", from 0 to 1.
    nesterovs_momentum : bool
        Whether it is Nesterov's.
    early_stopping : bool
        Whether to stop when the score on held-out rows no longer gets better (instead of the training loss), and to
        go back to the best. The rows are `validation_data` if `fit` is given any, else `validation_fraction` of X.
    validation_fraction : float
        Of the rows, for `early_stopping`. Two classes are held out in equal shares.
    beta_1, beta_2 : float
        Decay of the two averages of "adam".
    epsilon : float
        Of "adam": added to the root of the second average.
    n_iter_no_change : int
        How many epochs without a better one end the training.
    max_fun : int
        How often "lbfgs" may compute the loss.
    norm : {"batch", "layer", "rms", "group", None}
        Between every hidden layer and its activation. None gives scikit-learn's network.
    dropout : float
        The probability with which each output of a hidden layer is left out of a training step; from 0 to below 1.
        Needs "adam" or "sgd".
    callbacks : list of normcore.training.Callback, optional
        Told of every epoch of `fit`, with the logs "loss" and, where there is validation, "val_loss" and "val_accuracy"
        or "val_r2". They get a `Trainer` whose `stop_training`, `optimizer` and `history` work as in `Trainer.fit`.
        `fit` uses these very objects; `clone` copies them. Needs "adam" or "sgd"."""

ATTRIBUTES = """model_ : normcore.MLP
        The network: layers, normalisation with its running statistics, dropout. In evaluation mode; it returns what
        comes before `out_activation_`.
    coefs_, intercepts_ : list of ndarray
        Weights of shape (in, out) and biases of shape (out,) of its fully connected layers. They are the network's own
        memory: what is written there, or put in their place, is predicted with. With a norm they are not all that
        the network computes.
    loss_ : float
        The loss of the last epoch, with the penalty.
    best_loss_ : float or None
        The smallest one; None with early stopping.
    loss_curve_ : list of float
        The loss of every epoch: the mean over its batches as they were trained on.
    validation_curve_ : list of float or None
        The loss on the validation rows after every epoch, without the penalty; None without validation.
    validation_scores_ : list of float or None
        The {score} on them.
    best_validation_score_ : float or None
        The largest one.
    t_ : int
        Rows trained on so far, epoch after epoch.
    n_iter_ : int
        Epochs of the last `fit`; for "lbfgs", iterations.
    n_layers_, n_outputs_ : int
        Layers, the input counted, and outputs.
    out_activation_ : str
        {output}.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of str
        Their names, where X had any."""

FIT = """Train the network.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            float32 or float64, which the network then has too; anything else is made float64. Sparse rows are made
            dense batch by batch ("lbfgs": all at once); prediction takes them as they are.
        {y}
        sample_weight : array of shape (n_samples,), optional
            How much each row counts, not negative. A weight of 2 is the row twice, for batch norm's statistics too.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Rows to validate with after every epoch: `validation_curve_`, `validation_scores_`, callbacks, and
            `early_stopping`. An argument of fit and not of the constructor, because they are data: `clone`, and so
            every search and cross-validation, would copy them, and parameters are compared and printed.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For parameters, data or weights that are not as above, or when the solver ran away. A network of before is
            still there then, unless training had begun.
        """


def documented(text: str, parameters: str, attributes: str) -> str:
    """A docstring with the shared parts put in."""
    return text.replace("{parameters}", parameters).replace("{attributes}", attributes)
