"""Normalisation as functions on NumPy arrays, forward and backward, spelled as in ``torch.nn.functional``.

Conventions, for every function here:

* The **population variance** (divided by n) normalises. The running variance takes in the **unbiased** batch variance
  (n - 1), as in PyTorch; Keras and ONNX keep the population variance there.
* ``momentum`` is the weight of the **new** batch: ``new = (1 - momentum) * old + momentum * batch``. Keras's 0.99
  is 0.01 here.
* ``eps`` is added to the variance, inside the square root.
* Statistics are float64, whatever the dtype of ``x``.
* ``activation`` of the ``_forward`` functions is applied to ``xhat * weight + bias`` as that is written; the
  definitions are PyTorch's (`normcore._activation`).
* bfloat16 arrays are those of the package ml_dtypes.
"""

from normcore.functional.batch import batch_norm, batch_norm_backward, batch_norm_forward, batch_stats
from normcore.functional.explanation import explain
from normcore.functional.group import group_norm, group_norm_backward, group_norm_forward
from normcore.functional.instance import instance_norm, instance_norm_backward, instance_norm_forward
from normcore.functional.layer import layer_norm, layer_norm_backward, layer_norm_forward
from normcore.functional.rms import rms_norm, rms_norm_backward, rms_norm_forward

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_stats",
    "explain",
    "group_norm",
    "group_norm_backward",
    "group_norm_forward",
    "instance_norm",
    "instance_norm_backward",
    "instance_norm_forward",
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_forward",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_forward",
]
