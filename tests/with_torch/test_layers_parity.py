"""Every layer, activation and loss against PyTorch: once, over hundreds of steps, and state dicts both ways."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from tolerances import tol

from normcore import nn, optim

# torch.nn, not torch: without PyTorch a folder of that name on sys.path would do for a package.
tnn = pytest.importorskip("torch.nn", reason="PyTorch, the peer compared with, is not installed")
torch = pytest.importorskip("torch", reason="PyTorch, the peer compared with, is not installed")

# In float32 a rounding beside a kink or in a small variance is soon another trajectory.
STEPS = {np.float32: 100, np.float64: 300}


@pytest.fixture(autouse=True)
def _one_thread_for_pytorch():
    """Its idle threads spin and keep the others off the cores of a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EVERY_ACTIVATION = pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("ReLU", ()), ("LeakyReLU", ()), ("LeakyReLU", (0.2,)), ("Sigmoid", ()), ("Tanh", ()), ("GELU", ()),
        ("GELU", ("tanh",)), ("SiLU", ()), ("Identity", ()),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)  # fmt: skip

# name: (arguments, shape of x)
NORMS = {
    "BatchNorm1d": [((6,), (9, 6)), ((6,), (4, 6, 5)), ((6, 1e-3, None), (9, 6)), ((6, 1e-5, 0.3, False), (9, 6))],
    "BatchNorm2d": [((3,), (4, 3, 5, 2))],
    "BatchNorm3d": [((3,), (4, 3, 5, 2, 3)), ((3, 1e-5, 0.1, True, False), (2, 3, 5, 2, 3))],
    "LayerNorm": [
        ((6,), (9, 6)), (((4, 6), 1e-3), (3, 5, 4, 6)), ((6, 1e-5, False), (9, 6)), ((6, 1e-5, True, False), (9, 6)),
    ],
    "RMSNorm": [((6,), (9, 6)), (((4, 6), 1e-3), (3, 5, 4, 6)), ((6, None, False), (9, 6))],
    "GroupNorm": [((2, 6), (9, 6)), ((3, 6, 1e-3), (4, 6, 5, 2)), ((2, 6, 1e-5, False), (4, 6, 5))],
    "InstanceNorm1d": [((3,), (4, 3, 7)), ((3, 1e-3, 0.3, True, True), (4, 3, 7)), ((3, 1e-5, 0.1, True), (3, 7))],
    "InstanceNorm2d": [((3,), (4, 3, 5, 2)), ((3, 1e-3, 0.3, True, True), (4, 3, 5, 2)), ((3,), (3, 5, 2))],
    "InstanceNorm3d": [((3,), (2, 3, 5, 2, 3)), ((3, 1e-3, 0.3, False, True), (2, 3, 5, 2, 3))],
}  # fmt: skip
EVERY_NORM = pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [(name, arguments, shape) for name, cases in NORMS.items() for arguments, shape in cases],
)


def both(name, arguments, dtype):
    return (
        getattr(nn, name)(*arguments, **({} if name not in NORMS else {"dtype": dtype})),
        getattr(tnn, name)(*arguments).to(getattr(torch, np.dtype(dtype).name)),
    )


def run(peer, x, dy):
    tx = torch.from_numpy(x).requires_grad_()
    peer.zero_grad()
    y = peer(tx)
    y.backward(torch.from_numpy(dy))
    return y.detach().numpy(), tx.grad.numpy()


@EVERY_NORM
@DTYPES
def test_norms(rng, name, arguments, shape, dtype):
    layer, peer = both(name, arguments, dtype)
    assert repr(layer) == repr(peer)
    assert list(layer.state_dict()) == list(peer.state_dict())
    count = int(np.prod(shape))
    for p, q in zip(layer.parameters(), peer.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.detach().numpy())
        p.data += rng.normal(size=p.shape).astype(dtype) / 3
    peer.load_state_dict({key: torch.from_numpy(np.asarray(v)) for key, v in layer.state_dict().items()})
    for mode in (True, True, False, True):
        layer.train(mode), peer.train(mode)
        x, dy = (rng.normal(size=(2, *shape)) * 2 + 1).astype(dtype)
        y, dx = run(peer, x, dy)
        # PyTorch sums float32 in float32
        np.testing.assert_allclose(layer(x), y, **tol(dtype, count, "dx", scale=8))
        np.testing.assert_allclose(layer.backward(dy), dx, **tol(dtype, count, "dx", scale=16))
        for p, q in zip(layer.parameters(), peer.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), **tol(dtype, count, "dx", scale=64))
    for key, value in layer.state_dict().items():
        theirs = peer.state_dict()[key].numpy()
        assert (value.shape, value.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(value, theirs, **tol(dtype, count, "dx"))


@EVERY_ACTIVATION
@DTYPES
def test_activations(rng, kind, arguments, dtype):
    layer, peer = both(kind, arguments, dtype)
    assert repr(layer) == repr(peer)
    for shape in ((), (7,), (60, 50)):
        x, dy = (np.asarray(v, dtype) for v in (3 * rng.normal(size=shape), rng.normal(size=shape)))
        y, dx = run(peer, x, dy)
        np.testing.assert_allclose(layer(x), y, **tol(dtype, kind="dx"))
        np.testing.assert_allclose(layer.backward(dy), dx, **tol(dtype, kind="dx", scale=2))


def network(lib, norm, activation, arguments, **kind):
    """Two hidden layers, images in front of batch, group and instance norm's spatial kinds."""

    def features(n):
        if norm is None:
            return []
        if norm == "GroupNorm":
            return [lib.GroupNorm(2, n, **kind)]
        return [getattr(lib, norm)(n, **kind)]

    def act():
        return getattr(lib, activation)(*arguments)

    return lib.Sequential(
        lib.Linear(6, 16, **kind), *features(16), act(),
        lib.Sequential(lib.Linear(16, 12, bias=False, **kind), *features(12), act(), lib.Dropout(0.0)),
        lib.Linear(12, 4, **kind),
    )  # fmt: skip


def image_network(lib, norm, activation, arguments, **kind):
    dims = int(norm[-2])
    told = {} if norm.startswith("Batch") else {"affine": True, "track_running_stats": True}
    return lib.Sequential(
        getattr(lib, norm)(3, **told, **kind), getattr(lib, activation)(*arguments), lib.Flatten(),
        lib.Linear(3 * 2**dims, 4, **kind),
    )  # fmt: skip


def trained(rng, build, options, dtype, steps, criterion, shape, targets):
    """Both after `steps` steps, every loss compared on the way; from PyTorch's starting values."""
    torch.manual_seed(1)
    peer = build(tnn, *options, dtype=getattr(torch, np.dtype(dtype).name))
    model = build(nn, *options, dtype=dtype)
    model.load_state_dict(peer.state_dict())
    ours, theirs = criterion(nn), criterion(tnn)
    optimizer = optim.SGD(model.parameters(), 0.05, 0.9)
    peer_optimizer = torch.optim.SGD(peer.parameters(), 0.05, 0.9)
    for step in range(steps):
        x = (rng.normal(size=shape) * 2 + 1).astype(dtype)
        target = targets(rng, x)
        loss = ours(model(x), target)
        model.backward(ours.backward())
        optimizer.step()
        peer_optimizer.zero_grad()
        peer_loss = theirs(peer(torch.from_numpy(x)), torch.from_numpy(target))
        peer_loss.backward()
        peer_optimizer.step()
        np.testing.assert_allclose(loss, float(peer_loss.detach()), **long(dtype), err_msg=f"step {step}")
    return model, peer


def long(dtype):
    # hundreds of steps: ten times what tens of them may differ by; 1e-9 in float64
    return {key: 10 * value for key, value in tol(dtype, kind="trajectory").items()}


def assert_same_state(model, peer, dtype):
    assert list(model.state_dict()) == list(peer.state_dict())
    for key, value in model.state_dict().items():
        np.testing.assert_allclose(value, peer.state_dict()[key].numpy(), **long(dtype), err_msg=key)


def classes(rng, x):
    # something to learn, with some noise, so that the gradients stay away from rounding
    return np.where(
        rng.uniform(size=len(x)) < 0.8, x.reshape(len(x), -1)[:, :4].argmax(1), rng.integers(4, size=len(x))
    )


@DTYPES
@pytest.mark.parametrize("norm", [None, "BatchNorm1d", "LayerNorm", "RMSNorm", "GroupNorm"])
@EVERY_ACTIVATION
def test_norms_and_activations_over_hundreds_of_steps(rng, norm, kind, arguments, dtype):
    model, peer = trained(
        rng, network, (norm, kind, arguments), dtype, STEPS[dtype],
        lambda lib: lib.CrossEntropyLoss(label_smoothing=0.1), (32, 6), classes,
    )  # fmt: skip
    assert_same_state(model, peer, dtype)
    x = rng.normal(size=(20, 6)).astype(dtype)
    expected = peer.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(model.eval()(x), expected, **long(dtype))


@DTYPES
@pytest.mark.parametrize("norm", ["BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"])
def test_image_norms_over_hundreds_of_steps(rng, norm, dtype):
    shape = (16, 3, *[2] * int(norm[-2]))
    model, peer = trained(
        rng, image_network, (norm, "SiLU", ()), dtype, STEPS[dtype],
        lambda lib: lib.CrossEntropyLoss(), shape, classes,
    )  # fmt: skip
    assert_same_state(model, peer, dtype)


LOSSES = {
    "weights": (
        lambda lib: lib.CrossEntropyLoss(weight=vector(lib, [1, 2, 0.5, 1])),
        classes,
    ),
    "ignored": (
        lambda lib: lib.CrossEntropyLoss(ignore_index=2),
        classes,
    ),
    "probabilities": (
        lambda lib: lib.CrossEntropyLoss(label_smoothing=0.2),
        lambda rng, x: rng.dirichlet(np.ones(4), len(x)).astype(x.dtype),
    ),
    "bce": (
        lambda lib: lib.BCEWithLogitsLoss(),
        lambda _, x: (x[:, :4] > 1).astype(x.dtype),
    ),
    "bce weights": (
        lambda lib: lib.BCEWithLogitsLoss(weight=vector(lib, [1, 2, 0.5, 1]), pos_weight=vector(lib, [3, 1, 1, 0.5])),
        lambda rng, x: rng.uniform(size=(len(x), 4)).astype(x.dtype),
    ),
    "mse": (
        lambda lib: lib.MSELoss(),
        lambda _, x: np.sin(x[:, :4]),
    ),
}


def vector(lib, values):
    return torch.tensor(values, dtype=torch.float64) if lib is tnn else values


@pytest.mark.parametrize(("criterion", "targets"), LOSSES.values(), ids=LOSSES)
def test_losses_over_hundreds_of_steps(rng, criterion, targets):
    model, peer = trained(
        rng, network, ("BatchNorm1d", "Tanh", ()), np.float64, STEPS[np.float64], criterion, (32, 6), targets
    )
    assert_same_state(model, peer, np.float64)


@pytest.mark.parametrize(
    "name",
    [*NORMS, "ReLU", "LeakyReLU", "GELU", "SiLU", "Dropout", "Flatten", "CrossEntropyLoss", "BCEWithLogitsLoss"],
)
def test_arguments_and_defaults(name):
    ours = inspect.signature(getattr(nn, name)).parameters
    theirs = inspect.signature(getattr(tnn, name)).parameters
    own = {"dtype", "rng", "update_stats", "nonfinite"}  # dtype=None of PyTorch is its default, float32
    for argument, parameter in ours.items():
        if argument not in own:
            assert parameter.default == theirs[argument].default, argument
    if not name.endswith("Loss"):  # theirs have deprecated arguments in between
        missing = set(theirs) - set(ours) - {"device"}
        assert not missing
        positional = [key for key, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == list(theirs)[: len(positional)]


def test_repr_of_layers():
    for build in (
        lambda lib: lib.ReLU(inplace=True),
        lambda lib: lib.SiLU(True),
        lambda lib: lib.LeakyReLU(0.2, True),
        lambda lib: lib.Dropout(0.1, True),
        lambda lib: lib.Identity(3),
        lambda lib: lib.LayerNorm((3, 4), bias=False),
        lambda lib: lib.GroupNorm(2, 4, bias=False),
    ):
        assert repr(build(nn)) == repr(build(tnn))


def test_dropout_is_scaled_alike():
    layer, peer = nn.Dropout(0.3, rng=0), tnn.Dropout(0.3)
    x = np.ones(1000)
    torch.manual_seed(0)
    ours, theirs = set(np.unique(layer(x))), set(np.unique(peer(torch.from_numpy(x)).numpy()))
    np.testing.assert_allclose(sorted(ours), sorted(theirs), rtol=1e-15)
    np.testing.assert_array_equal(layer.eval()(x), peer.eval()(torch.from_numpy(x)).numpy())
