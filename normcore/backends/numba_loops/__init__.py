"""The loops of the Numba backend by concept; ``normcore.backends.numba_kernels`` is their face, with the reasons.

``jit``         how a function is compiled, serial and parallel
``cut``         how an array is cut into tasks, from its shape alone
``scalars``     one statistics group: moments from sums, numbers in the dtype of storage
``activation``  the activations and their derivatives over contiguous values
``runs``        inner loops where contiguous values share their parameters
``columns``     inner loops where neighbours have parameters of their own
``channels``    the channels walk over long runs
``matrices``    the channels walk over short runs
``rows``        the rows walk over segments that share weight and bias
``weighted``    the rows walk where each value has its own
"""
