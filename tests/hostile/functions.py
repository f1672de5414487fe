"""The calls of the functions."""

from __future__ import annotations

from hostile.calls import Call, positive, random

import normcore as nc

IMAGES = (4, 6, 3, 2)


def norm_arguments(shape=IMAGES, parameters=(6,), running=False, dy=False, bias=True):
    def make():
        arguments = {"x": random(*shape), "weight": positive(*parameters)}
        if bias:
            arguments["bias"] = random(*parameters, seed=2)
        if running:
            arguments |= {"running_mean": random(6, seed=3), "running_var": positive(6, seed=4)}
        if dy:
            arguments["dy"] = random(*shape, seed=5)
        return arguments

    return make


def forward_of(name, *told, **options):
    """A forward call: what it returns, with the context's statistics in place of the context."""

    def run(x, **arrays):
        y, ctx = getattr(nc, f"{name}_forward")(x, *told, **arrays, **options)
        return y, ctx.mean, ctx.rstd

    return run


def backward_of(name, *told, **options):
    """A forward call and the backward of its context."""

    def run(dy, x, out=None, **arrays):
        ctx = getattr(nc, f"{name}_forward")(x, *told, **arrays, **options)[1]
        return getattr(nc, f"{name}_backward")(dy, ctx, out=out)

    return run


def row_norm(name, *told, parameters=(6,), bias=True):
    """The three calls of a norm over rows."""
    reads = ("x", "weight", "bias") if bias else ("x", "weight")
    make, with_dy = (
        norm_arguments(parameters=parameters, bias=bias),
        norm_arguments(IMAGES, parameters, False, True, bias),
    )
    function = getattr(nc, name)
    return {
        name: [Call(lambda x, **arrays: function(x, *told, **arrays), make, reads, ("out",))],
        f"{name}_forward": [
            Call(forward_of(name, *told), make, reads, ("out",)),
            Call(forward_of(name, *told, activation="gelu"), make, reads, ("out",)),
        ],
        f"{name}_backward": [
            Call(backward_of(name, *told), with_dy, (*reads, "dy"), ("out",)),
            Call(backward_of(name, *told, activation="silu"), with_dy, (*reads, "dy"), ("out",)),
        ],
    }


STATISTICS = ("running_mean", "running_var")
_running, _channels = norm_arguments(running=True), norm_arguments()
_reads = ("x", "weight", "bias")

FUNCTIONS = {
    "batch_norm": [
        Call(nc.batch_norm, _running, (*_reads, *STATISTICS), ("out",)),
        Call(lambda **a: nc.batch_norm(training=True, **a), _running, _reads, (*STATISTICS, "out")),
    ],
    "batch_norm_forward": [
        Call(forward_of("batch_norm"), _running, _reads, (*STATISTICS, "out")),
        Call(forward_of("batch_norm", activation="tanh"), _channels, _reads, ("out",)),
        Call(forward_of("batch_norm", axis=-3), _channels, _reads, ("out",)),
    ],
    "batch_norm_backward": [
        Call(backward_of("batch_norm"), norm_arguments(dy=True), (*_reads, "dy"), ("out",)),
        Call(backward_of("batch_norm", activation="relu"), norm_arguments(dy=True), (*_reads, "dy"), ("out",)),
        Call(
            backward_of("batch_norm", training=False), norm_arguments(running=True, dy=True),
            (*_reads, "dy", *STATISTICS), ("out",),
        ),
    ],
    "batch_stats": [Call(nc.batch_stats, lambda: {"x": random(*IMAGES)}, ("x",))],
    "explain": [
        Call(lambda x, **a: nc.explain(nc.batch_norm_forward, x, **a).kernel, _channels, _reads),
    ],
    **row_norm("layer_norm", (3, 2), parameters=(3, 2)),
    **row_norm("rms_norm", 2, parameters=(2,), bias=False),
    **row_norm("group_norm", 3),
    **row_norm("instance_norm"),
}  # fmt: skip
FUNCTIONS["instance_norm"] = [
    Call(nc.instance_norm, _running, _reads, (*STATISTICS, "out")),
    Call(lambda **a: nc.instance_norm(use_input_stats=False, **a), _running, (*_reads, *STATISTICS), ("out",)),
]
