"""What a call costs when there is hardly anything to do, and what the import costs."""

from __future__ import annotations

import normcore as nc

from .common import normal, vectors
from .shapes import SMALL


class Call:
    """Calls on an array so small that checking and dispatching is what takes time."""

    def setup(self) -> None:
        """Make arrays and a context."""
        self.x, self.dy = normal(SMALL), normal(SMALL, seed=1)
        self.weight, self.bias, self.mean, self.var = vectors(SMALL[1], 4)
        _, self.ctx = nc.batch_norm_forward(self.x, self.weight, self.bias)

    def time_forward(self) -> None:
        """Training mode, with a context."""
        nc.batch_norm_forward(self.x, self.weight, self.bias, running_mean=self.mean, running_var=self.var)

    def time_backward(self) -> None:
        """All three gradients."""
        nc.batch_norm_backward(self.dy, self.ctx)

    def time_inference(self) -> None:
        """With running statistics."""
        nc.batch_norm(self.x, self.mean, self.var, self.weight, self.bias)


class Import:
    """A fresh interpreter; asv runs the text that is returned."""

    def timeraw_import_normcore(self) -> str:
        """Everything `import normcore` loads."""
        return "import normcore"

    def timeraw_import_numpy(self) -> str:
        """The floor."""
        return "import numpy"
