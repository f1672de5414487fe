"""Batch normalisation layers: parameters and running statistics around `normcore.functional`."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from normcore.functional import batch_norm_backward, batch_norm_forward

from ._checks import (
    Array,
    as_bool,
    as_choice,
    as_float_dtype,
    as_input,
    as_number,
    as_size,
    check_fits_memory,
    wrong_channels,
)
from ._norm import Context, Norm

_Self = TypeVar("_Self", bound="_BatchNorm")
_LOOKED_AT = 256  # running variances, to tell whether the statistics have moved: all of them do, or none


class _BatchNorm(Norm):
    """What all ranks share. A subclass says which ranks it takes."""

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    _never_negative = ("running_var", "num_batches_tracked")
    _function = staticmethod(batch_norm_backward)
    _ranks: ClassVar[tuple[int, ...]]
    _layouts: ClassVar[str]
    frozen: bool = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        update_stats: bool = True,
        nonfinite: str = "propagate",
    ) -> None:
        name = type(self).__name__
        self.num_features = as_size(num_features, "num_features", name)
        check_fits_memory(name, num_features=self.num_features)
        self.eps = as_number(eps, "eps", name, "(0, inf)")
        self.momentum = None if momentum is None else as_number(momentum, "momentum", name, "[0, 1]")
        self.affine = as_bool(affine, "affine", name)
        self.track_running_stats = as_bool(track_running_stats, "track_running_stats", name)
        self.update_stats = as_bool(update_stats, "update_stats", name)
        self.nonfinite = as_choice(nonfinite, "nonfinite", name, ("propagate", "raise", "skip"))
        dtype = as_float_dtype(dtype, name)
        features = self.num_features
        self._make_parameters((features,), dtype, self.affine, as_bool(bias, "bias", name))
        self.running_mean: Array | None = np.zeros(features, dtype) if track_running_stats else None
        self.running_var: Array | None = np.ones(features, dtype) if track_running_stats else None
        self.num_batches_tracked: Array | None = np.zeros((), np.int64) if track_running_stats else None

    def freeze(self: _Self) -> _Self:
        """Normalise with the running statistics from now on, never change them, whatever `train()` says; return self.

        Weight and bias go on being trained. `unfreeze` undoes it.

        Raises
        ------
        ValueError
            If there are no running statistics.
        """
        if self.running_mean is None:
            raise ValueError(
                f"{type(self).__name__}.freeze: there are no running statistics to freeze; "
                "make the layer with track_running_stats=True."
            )
        self.frozen = True
        return self

    def unfreeze(self: _Self) -> _Self:
        """Follow `train()` and `eval()` again; return self."""
        self.frozen = False
        return self

    def check(self, x: Array) -> Array:
        """Return x as a plain array of the right rank and channel count, or raise."""
        x = as_input(x, type(self).__name__)
        if x.ndim not in self._ranks or x.shape[1] != self.num_features:
            raise wrong_channels(type(self).__name__, self.num_features, self._layouts, x.shape)
        return x

    def run(self, x: Array, activation: str | None) -> tuple[Array, Context]:
        """Normalise x, which is checked, and in training mode update the running statistics."""
        count, momentum = self.num_batches_tracked, self.momentum
        updates = count is not None and self.training and self.update_stats and not self.frozen
        if updates:
            self._check_writeable()
            if momentum is not None and self.nonfinite == "propagate":
                return self._run_and_count(x, momentum, activation)
        weight, bias = self._parameters()
        if count is not None and (self.frozen or not self.training):
            return batch_norm_forward(
                x, weight, bias, running_mean=self.running_mean, running_var=self.running_var, training=False,
                eps=self.eps, activation=activation,
            )  # fmt: skip
        if updates or (self.nonfinite == "raise" and self.training):
            # With momentum 1 the running statistics become those of the batch: looked at before they are taken in.
            mean, var = np.zeros(self.num_features), np.zeros(self.num_features)
            result = batch_norm_forward(
                x, weight, bias, running_mean=mean, running_var=var, training=True, momentum=1.0, eps=self.eps,
                activation=activation,
            )  # fmt: skip
            if self._is_welcome(mean, var) and updates:
                self._take_in(mean, var)
            return result
        return batch_norm_forward(x, weight, bias, training=True, eps=self.eps, activation=activation)

    def _run_and_count(self, x: Array, momentum: float, activation: str | None) -> tuple[Array, Context]:
        """In training: the kernel moves the running statistics, and the batch is counted if it did."""
        weight, bias = self._parameters()
        var, count = self.running_var, self.num_batches_tracked
        assert var is not None
        assert count is not None
        following = count.item() + 1  # a new number, for `+=` asks for memory
        before = var[:_LOOKED_AT].tobytes()
        try:
            result = batch_norm_forward(
                x, weight, bias, running_mean=self.running_mean, running_var=var, training=True, momentum=momentum,
                eps=self.eps, activation=activation,
            )  # fmt: skip
        except BaseException:
            # A batch that was refused is not counted. But Python looks for Ctrl-C when the kernel has done its work.
            if var[:_LOOKED_AT].tobytes() != before:
                count[()] = following
            raise
        count[()] = following
        return result

    def repeat(self, ctx: Context) -> tuple[Array, Context]:
        """Run the forward of a context again without its activation and without touching any statistics."""
        weight, bias = self._parameters()
        if ctx.plan.training:
            return batch_norm_forward(ctx.x, weight, bias, training=True, eps=self.eps)
        # The running statistics may have moved since; the context has what they were.
        with np.errstate(all="ignore"):
            var = np.maximum(1.0 / np.square(ctx.rstd) - self.eps, 0.0)
        return batch_norm_forward(
            ctx.x, weight, bias, running_mean=ctx.mean, running_var=var, training=False, eps=self.eps
        )

    def _check_writeable(self) -> None:
        """Somebody may have replaced a buffer by one that is read-only: seen before another one is written."""
        for name in self.buffer_names:
            if not getattr(self, name).flags.writeable:
                raise ValueError(
                    f"{type(self).__name__}: {name} is read-only, and training updates it in place; set it to a copy."
                )

    def _is_welcome(self, mean: Array, var: Array) -> bool:
        """Whether the running statistics may take in those of the batch; raises if that was asked for."""
        if self.nonfinite == "propagate":
            return True
        dtype = mean.dtype if self.running_mean is None else self.running_mean.dtype
        with np.errstate(over="ignore"):
            finite = np.isfinite(mean.astype(dtype)) & np.isfinite(var.astype(dtype))
        if finite.all():
            return True
        if self.nonfinite == "raise":
            wrong = np.flatnonzero(~finite)
            raise ValueError(
                f"{type(self).__name__}: x has NaN, infinity or a variance beyond {dtype} in {len(wrong)} of "
                f"{len(finite)} channels, the first of them {wrong[0]}; clean x, or pass nonfinite='skip' to leave "
                "such a batch out of the running statistics."
            )
        return False

    def _take_in(self, mean: Array, var: Array) -> None:
        """Move the running statistics towards those of a batch, as the kernels do."""
        running_mean, running_var, count = self.running_mean, self.running_var, self.num_batches_tracked
        assert running_mean is not None
        assert running_var is not None
        assert count is not None
        following = count.item() + 1
        momentum = 1.0 / following if self.momentum is None else self.momentum
        keep = 1.0 - momentum
        with np.errstate(all="ignore"):
            new_mean = keep * running_mean.astype(np.float64) + momentum * mean
            new_var = keep * running_var.astype(np.float64) + momentum * var
            # No call between these: neither Ctrl-C nor somebody's np.seterr stops there.
            running_mean[...] = new_mean
            running_var[...] = new_var
            count[()] = following

    def extra_repr(self) -> str:
        """The constructor's arguments; those that PyTorch does not have, where they are not the defaults."""
        own: dict[str, Any] = {"update_stats": True, "nonfinite": "propagate", "frozen": False}
        shown = [f", {name}={getattr(self, name)!r}" for name, default in own.items() if getattr(self, name) != default]
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}{''.join(shown)}"
        )


_DOC = """Batch normalisation of x with shape {layouts}, `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    In training mode, mean and var are those of the batch, one per channel (var is the population variance), and the
    running statistics move by `new = (1 - momentum) * old + momentum * batch`, the running variance with the unbiased
    batch variance, as in PyTorch. In evaluation mode, mean and var are the running statistics.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps : float
        Added to the variance. Positive.
    momentum : float or None
        Weight of the *new* value in the running statistics. None: the average over all batches so far.
    affine : bool
        Whether there are a trainable weight and bias, ones and zeros to begin with.
    track_running_stats : bool
        False: no running statistics; the batch's own are used in evaluation mode too.
    bias : bool
        With `affine`: False leaves out the bias.
    dtype : dtype
        Of parameters and running statistics.
    update_stats : bool
        False: training normalises with the batch's statistics as ever, but the running ones stay as they are. May be
        set at any time.
    nonfinite : {{"propagate", "raise", "skip"}}
        What a training batch does to the running statistics if its own are not finite: it has NaN or infinity, or a
        variance beyond their dtype. "propagate": as in PyTorch, they become so too, for ever. "raise": ValueError, and
        nothing has changed. "skip": y is NaN where it must be, but the batch is left out of the running statistics and
        of num_batches_tracked. Costs no pass over x.

    Attributes
    ----------
    weight, bias : Parameter of shape (C,), or None
    running_mean, running_var : ndarray of shape (C,), or None
    num_batches_tracked : 0-d int64 ndarray, or None
        Batches that went into the running statistics. A batch that was refused or skipped is not counted.
    frozen : bool
        True between `freeze()` and `unfreeze()`: running statistics normalise and never change, in training mode too.

    Raises
    ------
    ValueError
        If x has another rank or channel count, or, in training mode, only one value per channel.
    TypeError
        If x is not floating point.

    See Also
    --------
    normcore.functional.batch_norm_forward, normcore.functional.batch_norm_backward
    """


class BatchNorm1d(_BatchNorm):
    __doc__ = _DOC.format(layouts="(N, C) or (N, C, L)")
    _ranks = (2, 3)
    _layouts = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    __doc__ = _DOC.format(layouts="(N, C, H, W)")
    _ranks = (4,)
    _layouts = "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    __doc__ = _DOC.format(layouts="(N, C, D, H, W)")
    _ranks = (5,)
    _layouts = "(N, C, D, H, W)"
