"""Parameter and Module: what every layer is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from ._checks import Array, as_bool, as_input, as_state, check_state

_Self = TypeVar("_Self", bound="Module")


class Parameter:
    """A trainable array and its gradient.

    Parameters
    ----------
    data : ndarray
        Floating point; kept, not copied.

    Attributes
    ----------
    data : ndarray
        The values. Optimisers and `load_state_dict` write into this array, so a view of it stays valid.
    grad : ndarray or None
        The gradient of the last `backward`, of the shape and dtype of `data`; None before the first one and
        after `zero_grad`. Layers may reuse its memory in the next `backward`: copy it to keep it.
    """

    __slots__ = ("_buffer", "data", "grad")

    def __init__(self, data: Array) -> None:
        self.data: Array = as_input(data, "Parameter", "data")
        self.grad: Array | None = None
        self._buffer: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of `data`."""
        return self.data.dtype

    def zero_grad(self) -> None:
        """Forget the gradient: `grad` becomes None, and optimisers leave this parameter alone."""
        self.grad = None

    def new_grad(self) -> Array:
        """Make `grad` an array to be overwritten, the same memory in every step, and return it."""
        buffer = self._buffer
        if buffer is None or buffer.shape != self.data.shape or buffer.dtype != self.data.dtype:
            # In the parameter's order of memory: an optimiser walks through both side by side.
            buffer = self._buffer = np.empty_like(self.data)
        self.grad = buffer
        return buffer

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        # Scratch memory is not worth pickling or copying.
        return None, {"data": self.data, "grad": self.grad, "_buffer": None}

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class HookHandle:
    """What `register_forward_hook` returns.

    Parameters
    ----------
    module : Module
        The one that has the hook.
    """

    def __init__(self, module: Module) -> None:
        self._module = module

    def remove(self) -> None:
        """Take the hook away. A second time does nothing."""
        hooks = self._module._forward_hooks
        if hooks is not None and hooks.pop(self, None) is not None and not hooks:
            del self._module._forward_hooks


def _run_hooks(module: Module, hooks: dict[HookHandle, Any], x: Array, y: Array) -> Array:
    for hook in tuple(hooks.values()):
        changed = hook(module, (x,), y)
        if changed is not None:
            y = changed
    return y


def _value(state_dict: Mapping[str, Any], name: str, owner: str) -> Any:
    """An entry. What np.load returns reads the file only now, and says in many classes of error that it is damaged."""
    try:
        return state_dict[name]
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{owner}.load_state_dict: nothing was loaded; {name} cannot be read "
            f"({type(error).__name__}: {_plain(str(error)[:200])})."
        ) from error


def _plain(text: str) -> str:
    """Words from a file, which may be damaged, on one line."""
    return text if text.isprintable() else ascii(text)[1:-1]


class Module:
    """A layer, or several: maps an array to an array, and the gradient of its output to the gradient of its input.

    A layer of your own has a `forward(x)` that keeps in `self._saved` what its backward needs, and a `backward(dy)`
    that sets the `grad` of its parameters and returns dx. Attributes that are a `Parameter` or a `Module` are found by
    themselves; the names of attributes that are buffers (arrays that belong to the state but are not trained) go
    into the class attribute `buffer_names`. To hold a list of layers, use `Sequential`.

    There is no tape: `backward` belongs to the last `forward`, in training or evaluation mode.

    Attributes
    ----------
    training : bool
        True after `train()` (the default), False after `eval()`.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ()
    _never_negative: ClassVar[tuple[str, ...]] = ()  # of the buffers
    training: bool = True
    _saved: Any = None
    _forward_hooks: dict[HookHandle, Any] | None = None  # None, not empty: Sequential looks here for each layer

    def forward(self, x: Array) -> Array:
        """Return the output for `x` and keep what `backward` needs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(x)")

    def backward(self, dy: Array) -> Array:
        """Return the gradient of the input, given the gradient `dy` of the output of the last forward.

        The `grad` of every parameter is *set*, not added to, so a training loop needs no `zero_grad()`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward(dy)")

    def backward_parameters(self, dy: Array) -> None:
        """Set the gradients of the parameters, as `backward` does, where nobody asks for the gradient of the input.

        The input of a network is data: a training loop saves what its first layer would spend on it.
        """
        self.backward(dy)

    def __call__(self, x: Array) -> Array:
        y = self.forward(x)
        hooks = self._forward_hooks
        return y if hooks is None else _run_hooks(self, hooks, x, y)

    def register_forward_hook(self, hook: Callable[[Any, tuple[Array], Array], Array | None]) -> HookHandle:
        """Call `hook(module, (x,), y)` after every forward; what it returns, if not None, is passed on in place of y.

        For looking, as in PyTorch. A hook that returns something else than y is not part of `backward`.

        Parameters
        ----------
        hook : callable

        Returns
        -------
        HookHandle
            Its `remove()` takes the hook away again.
        """
        if not callable(hook):
            raise TypeError(f"{type(self).__name__}: hook must be callable, got {type(hook).__name__}.")
        if self._forward_hooks is None:
            self._forward_hooks = {}
        handle = HookHandle(self)
        self._forward_hooks[handle] = hook
        return handle

    def _recall(self) -> Any:
        """What the last forward kept."""
        if self._saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward was called before forward: call the layer on an input first."
            )
        return self._saved

    # The tree of modules

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs of name and direct submodule."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Pairs of dotted name and module: this one (named `prefix`), then all below it."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Pairs of dotted name and `Parameter`, in the order of PyTorch's state dict."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters."""
        for _, parameter in self.named_parameters():
            yield parameter

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """Pairs of dotted name and buffer, such as `1.running_mean`; the arrays themselves, not copies."""
        for prefix, module in self.named_modules():
            for name in module.buffer_names:
                value = getattr(module, name)
                if value is not None:
                    yield (f"{prefix}.{name}" if prefix else name), value

    def buffers(self) -> Iterator[Array]:
        """All buffers."""
        for _, buffer in self.named_buffers():
            yield buffer

    # Modes and gradients

    def train(self: _Self, mode: bool = True) -> _Self:
        """Put this module and all below it into training mode (`mode=False`: evaluation mode) and return it."""
        mode = as_bool(mode, "mode", f"{type(self).__name__}.train")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: _Self) -> _Self:
        """Put this module and all below it into evaluation mode and return it."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set the `grad` of every parameter to None. Not needed between steps, since `backward` sets gradients."""
        for parameter in self.parameters():
            parameter.zero_grad()

    # State

    def _named_state(self) -> Iterator[tuple[str, Array]]:
        for prefix, module in self.named_modules():
            dot = f"{prefix}." if prefix else ""
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield dot + name, value.data
            for name in module.buffer_names:
                value = getattr(module, name)
                if value is not None:
                    yield dot + name, value

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, with PyTorch's keys, order and shapes.

        Returns
        -------
        dict of str to ndarray
            `{k: torch.from_numpy(v) for k, v in model.state_dict().items()}` loads into the same network in PyTorch,
            and `np.savez(file, **model.state_dict())` keeps it.
        """
        return {name: value.copy() for name, value in self._named_state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy parameters and buffers from `state_dict` into this module, in place.

        Parameters
        ----------
        state_dict : mapping of str to array
            Anything `np.asarray` takes will do, such as the tensors of a PyTorch state dict on the CPU. Values are
            converted to the dtype that the module has, and have to fit into it.
        strict : bool
            Whether a missing or unexpected key is an error. A wrong shape, kind or value always is.

        Returns
        -------
        LoadResult
            `missing_keys` and `unexpected_keys`, both empty when `strict`.

        Raises
        ------
        ValueError
            With all that is wrong in one message. Nothing has been written then.
        TypeError
            If `state_dict` is not a mapping.
        """
        new, result = self._taken(state_dict, strict, as_state)
        own = dict(self._named_state())
        for name, value in new.items():
            own[name][...] = value
        return result

    def _check_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raise what `load_state_dict` would for names, shapes and dtypes; no number of an array is read."""
        self._taken(state_dict, True, check_state)

    def _taken(
        self, state_dict: Mapping[str, Any], strict: bool, take: Callable[..., Array]
    ) -> tuple[dict[str, Array], LoadResult]:
        """What is to be written, each value as `take` makes it, or all that is wrong in one message."""
        owner = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{owner}.load_state_dict: state_dict must be a mapping, got {type(state_dict).__name__}.")
        strict = as_bool(strict, "strict", f"{owner}.load_state_dict")
        own = dict(self._named_state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [str(name) for name in state_dict if name not in own]
        problems: list[str] = []
        if strict and missing:
            problems.append(f"missing keys: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected keys: {', '.join(map(_plain, unexpected))}")

        never_negative = {
            f"{prefix}.{name}" if prefix else name
            for prefix, module in self.named_modules()
            for name in module._never_negative
        }
        new: dict[str, Array] = {}
        for name, target in own.items():
            if name in state_dict:
                value = _value(state_dict, name, owner)
                try:
                    new[name] = take(value, target.shape, target.dtype, name in never_negative)
                except (TypeError, ValueError, RuntimeError) as error:
                    problems.append(f"{name}: {error}")
                if not target.flags.writeable:
                    problems.append(f"{name}: the array of this module is read-only")
        if problems:
            hint = (
                ""
                if not (strict and (missing or unexpected))
                else " (strict=False passes over missing and unexpected keys)"
            )
            raise ValueError(f"{owner}.load_state_dict: nothing was loaded; " + "; ".join(problems) + hint + ".")
        return new, LoadResult(missing, unexpected)

    # Plumbing

    def __getstate__(self) -> dict[str, Any]:
        # A pickle or deepcopy keeps the layer, not the last batch that went through it nor who looked at it.
        return {name: value for name, value in vars(self).items() if name not in ("_saved", "_forward_hooks")}

    def extra_repr(self) -> str:
        """The arguments shown between the brackets of `repr`."""
        return ""

    def __repr__(self) -> str:
        head = f"{type(self).__name__}({self.extra_repr()}"
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        return head + "".join(f"\n  {line}" for line in lines) + ("\n)" if lines else ")")
