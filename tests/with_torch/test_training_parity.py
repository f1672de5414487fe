"""Networks, losses, optimisers and state dicts against PyTorch: the same weights and batches, tens of steps."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from tolerances import tol

from normcore import nn, optim

# torch.nn, not torch: without PyTorch a folder of that name on sys.path would do for a package.
tnn = pytest.importorskip("torch.nn", reason="PyTorch, the peer compared with, is not installed")
torch = pytest.importorskip("torch", reason="PyTorch, the peer compared with, is not installed")

STEPS = 40


@pytest.fixture(autouse=True)
def _one_thread_for_pytorch():
    """Its idle threads spin and keep the others off the cores of a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors(state):
    """A state dict of ours as one of PyTorch's."""
    return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}


def optimizer_tensors(state):
    """An optimiser's state dict of ours as one of PyTorch's."""
    as_tensor = torch.as_tensor
    return {
        "state": {i: {k: as_tensor(v) for k, v in entry.items()} for i, entry in state["state"].items()},
        "param_groups": state["param_groups"],
    }


def close(ours, theirs, dtype, what, scale=1.0):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    if isinstance(ours, np.ndarray):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), what
    np.testing.assert_allclose(ours, theirs, **tol(dtype, kind="trajectory", scale=scale), err_msg=what)


def compare_states(model, peer, dtype):
    ours, theirs = model.state_dict(), peer.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        close(value, theirs[name], dtype, name)


def compare_optimizers(optimizer, peer, dtype):
    ours, theirs = optimizer.state_dict(), peer.state_dict()
    assert list(ours["state"]) == list(theirs["state"])
    for i, entry in ours["state"].items():
        assert list(entry) == list(theirs["state"][i])
        for name, value in entry.items():
            close(value, theirs["state"][i][name], dtype, f"{name} of {i}")
    for name, value in ours["param_groups"][0].items():
        assert value == theirs["param_groups"][0][name], name


def mlp_pair(dtype, activation=("ReLU", "Tanh"), momentum=0.1, **options):
    """The same network twice. Batch norm with options; the second hidden layer without parameters."""

    def build(lib, **kind):
        return lib.Sequential(
            lib.Linear(6, 16, **kind),
            lib.BatchNorm1d(16, momentum=momentum, **options, **kind),
            getattr(lib, activation[0])(),
            lib.Sequential(lib.Linear(16, 12, bias=False, **kind), lib.BatchNorm1d(12, eps=1e-3, affine=False, **kind)),
            getattr(lib, activation[1])(),
            lib.Linear(12, 4, **kind),
        )

    model = build(nn, dtype=dtype)
    peer = build(tnn, dtype=getattr(torch, np.dtype(dtype).name))
    model.load_state_dict(peer.state_dict())  # from PyTorch to here: starts from its weights
    return model, peer


def train(model, peer, optimizer, peer_optimizer, criterion, peer_criterion, batches, dtype):
    """One step for each batch on both sides, every loss and every gradient compared."""
    for x, target in batches:
        loss = criterion(model(x), target)
        dx = model.backward(criterion.backward())
        optimizer.step()

        tx = torch.from_numpy(x).requires_grad_()
        peer_optimizer.zero_grad()
        peer_loss = peer_criterion(peer(tx), torch.from_numpy(target))
        peer_loss.backward()
        peer_optimizer.step()

        close(loss, float(peer_loss.detach()), dtype, "loss")
        close(dx, tx.grad, dtype, "dx")
        for (name, p), q in zip(model.named_parameters(), peer.parameters(), strict=True):
            close(p.grad, q.grad, dtype, f"gradient of {name}")


def batches(rng, dtype, target="classes", count=STEPS, shape=(32, 6)):
    for _ in range(count):
        x = (rng.normal(size=shape) * 2 + 1).astype(dtype)
        if target == "classes":
            yield x, rng.integers(4, size=len(x))
        elif target == "probabilities":
            yield x, rng.dirichlet(np.ones(4), size=len(x)).astype(dtype)
        else:
            yield x, rng.normal(size=(len(x), 4)).astype(dtype)


OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "decay": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.01}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_over_a_training(rng, kind, options, dtype):
    if kind == "Adam":
        # Adam divides by the gradient's size: where that is rounding noise (the bias in front of batch norm) two
        # implementations take steps of lr in unrelated directions. eps above that noise makes them comparable.
        options = {**options, "eps": 1e-4 if dtype == np.float32 else 1e-6}
    torch.manual_seed(1)
    model, peer = mlp_pair(dtype)
    optimizer = getattr(optim, kind)(model.parameters(), **options)
    peer_optimizer = getattr(torch.optim, kind)(peer.parameters(), **options)
    train(
        model, peer, optimizer, peer_optimizer,
        nn.CrossEntropyLoss(), tnn.CrossEntropyLoss(), batches(rng, dtype), dtype,
    )  # fmt: skip
    compare_states(model, peer, dtype)
    compare_optimizers(optimizer, peer_optimizer, dtype)
    x = rng.normal(size=(50, 6)).astype(dtype)
    close(model.eval()(x), peer.eval()(torch.from_numpy(x)), dtype, "evaluation", scale=5)


@pytest.mark.parametrize(
    ("target", "reduction"), [("classes", "mean"), ("classes", "sum"), ("probabilities", "mean"), ("numbers", "mean")]
)
@pytest.mark.parametrize("activation", [("Sigmoid", "Sigmoid"), ("Tanh", "ReLU"), ("ReLU", "ReLU")], ids="-".join)
def test_losses_and_activations_over_a_training(rng, target, reduction, activation):
    torch.manual_seed(2)
    model, peer = mlp_pair(np.float64, activation)
    lr = 0.05 if reduction == "mean" else 0.001
    name = "MSELoss" if target == "numbers" else "CrossEntropyLoss"
    train(
        model, peer,
        optim.SGD(model.parameters(), lr, 0.9), torch.optim.SGD(peer.parameters(), lr, 0.9),
        getattr(nn, name)(reduction), getattr(tnn, name)(reduction=reduction),
        batches(rng, np.float64, target, count=20), np.float64,
    )  # fmt: skip
    compare_states(model, peer, np.float64)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "options",
    [{"momentum": None}, {"track_running_stats": False}, {"affine": False}, {"momentum": 0.9}],
    ids=lambda o: "-".join(o),
)
def test_options_of_batch_norm(rng, options):
    model, peer = mlp_pair(np.float64, **options)
    optimizers = optim.SGD(model.parameters(), 0.1), torch.optim.SGD(peer.parameters(), 0.1)
    for mode in (True, False, True):
        model.train(mode)
        peer.train(mode)
        train(
            model, peer, *optimizers,
            nn.CrossEntropyLoss(), tnn.CrossEntropyLoss(), batches(rng, np.float64, count=8), np.float64,
        )  # fmt: skip
        compare_states(model, peer, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_with_its_defaults(rng, dtype):
    def build(lib, **kind):
        return lib.Sequential(lib.Linear(6, 16, **kind), lib.Tanh(), lib.Linear(16, 4, **kind))

    model, peer = build(nn, dtype=dtype), build(tnn, dtype=getattr(torch, np.dtype(dtype).name))
    model.load_state_dict(peer.state_dict())
    optimizer, peer_optimizer = optim.Adam(model.parameters()), torch.optim.Adam(peer.parameters())
    train(
        model, peer, optimizer, peer_optimizer,
        nn.CrossEntropyLoss(), tnn.CrossEntropyLoss(), batches(rng, dtype), dtype,
    )  # fmt: skip
    compare_states(model, peer, dtype)
    compare_optimizers(optimizer, peer_optimizer, dtype)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images(rng, dtype):
    def build(lib, **kind):
        return lib.Sequential(lib.BatchNorm2d(3, **kind), lib.Tanh(), lib.Flatten(), lib.Linear(60, 4, **kind))

    model, peer = build(nn, dtype=dtype), build(tnn, dtype=getattr(torch, np.dtype(dtype).name))
    model.load_state_dict(peer.state_dict())
    train(
        model, peer,
        optim.SGD(model.parameters(), 0.05, 0.9), torch.optim.SGD(peer.parameters(), 0.05, 0.9),
        nn.CrossEntropyLoss(), tnn.CrossEntropyLoss(), batches(rng, dtype, shape=(16, 3, 4, 5), count=20), dtype,
    )  # fmt: skip
    compare_states(model, peer, dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unreduced_losses(rng, reduction, dtype):
    y = rng.normal(size=(9, 4)).astype(dtype)
    for name, target in (
        ("CrossEntropyLoss", rng.integers(4, size=9)),
        ("CrossEntropyLoss", rng.uniform(size=(9, 4)).astype(dtype)),  # rows that do not add up to 1
        ("MSELoss", rng.normal(size=(9, 4)).astype(dtype)),
    ):
        criterion = getattr(nn, name)(reduction)
        ty = torch.from_numpy(y).requires_grad_()
        loss = getattr(tnn, name)(reduction=reduction)(ty, torch.from_numpy(target))
        loss.sum().backward()
        np.testing.assert_allclose(criterion(y, target), loss.detach().numpy(), **tol(dtype, 9, "dx", scale=4))
        np.testing.assert_allclose(criterion.backward(), ty.grad.numpy(), **tol(dtype, 9, "dx"))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_options_of_losses(rng, reduction, dtype, weighted):
    y = rng.normal(size=(9, 4)).astype(dtype)
    weight = rng.uniform(size=4).astype(dtype) if weighted else None
    cases = [
        ("CrossEntropyLoss", target, {"weight": weight, "label_smoothing": smoothing, "ignore_index": ignore})
        for target, ignores in (
            (rng.integers(4, size=9), (-100, 2)),
            (np.where(rng.integers(3, size=9) == 1, -100, rng.integers(4, size=9)), (-100,)),
            (np.full(9, 2), (2,)),
            (rng.uniform(size=(9, 4)).astype(dtype), (-100,)),
        )
        for ignore in ignores
        for smoothing in (0.0, 0.2)
    ]
    yes = rng.uniform(size=(9, 4)).astype(dtype)
    cases += [
        ("BCEWithLogitsLoss", yes, {"weight": weight}),
        ("BCEWithLogitsLoss", yes, {"weight": weight, "pos_weight": np.arange(4, dtype=dtype)}),
    ]
    for name, target, options in cases:
        criterion = getattr(nn, name)(reduction, **options)
        theirs = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        ty = torch.from_numpy(y).requires_grad_()
        loss = getattr(tnn, name)(reduction=reduction, **theirs)(ty, torch.from_numpy(target))
        loss.sum().backward()
        np.testing.assert_allclose(criterion(y, target), loss.detach().numpy(), **tol(dtype, 9, "dx", scale=4))
        np.testing.assert_allclose(criterion.backward(), np.nan_to_num(ty.grad.numpy()), **tol(dtype, 9, "dx"))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(4,), (5, 4, 3), (5, 4, 2, 3), (2, 4, 1, 3, 2)], ids=str)
def test_cross_entropy_of_places(rng, reduction, dtype, weighted, shape):
    places = shape[:1] + shape[2:] if len(shape) > 1 else ()
    y = rng.normal(size=shape).astype(dtype)
    weight = rng.uniform(size=4).astype(dtype) if weighted else None
    classes = rng.integers(4, size=places)
    for target in (
        classes,
        np.where(rng.integers(3, size=places) == 1, -100, classes),
        np.full(places, -100),
        rng.uniform(size=shape).astype(dtype),
    ):
        for smoothing, ignore in ((0.0, -100), (0.2, -100), (0.0, 2), (0.3, 2)):
            if ignore == 2 and (np.asarray(target).dtype.kind == "f" or (target == -100).any()):
                continue
            options = {"weight": weight, "label_smoothing": smoothing, "ignore_index": ignore}
            criterion = nn.CrossEntropyLoss(reduction, **options)
            theirs = {**options, "weight": None if weight is None else torch.from_numpy(weight)}
            ty = torch.from_numpy(y).requires_grad_()
            loss = tnn.CrossEntropyLoss(reduction=reduction, **theirs)(ty, torch.as_tensor(target))
            loss.sum().backward()
            got = criterion(y, target)
            assert np.shape(got) == tuple(loss.shape)
            np.testing.assert_allclose(got, loss.detach().numpy(), **tol(dtype, y.size, "dx", scale=4))
            np.testing.assert_allclose(criterion.backward(), np.nan_to_num(ty.grad.numpy()), **tol(dtype, y.size, "dx"))


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_training_is_handed_over_and_back(rng, kind, options):
    """Ours, then PyTorch's from our state dicts, then ours again from PyTorch's: as if PyTorch had done it all."""
    options = {**options, "eps": 1e-6} if kind == "Adam" else options
    criterion, peer_criterion = nn.CrossEntropyLoss(), tnn.CrossEntropyLoss()
    _, whole = mlp_pair(np.float64)
    model, peer = mlp_pair(np.float64)
    model.load_state_dict(whole.state_dict())
    all_batches = list(batches(rng, np.float64, count=30))
    optimizer = getattr(optim, kind)(model.parameters(), **options)
    whole_optimizer = getattr(torch.optim, kind)(whole.parameters(), **options)

    def ours(chunk):
        for x, target in chunk:
            criterion(model(x), target)
            model.backward(criterion.backward())
            optimizer.step()

    def theirs(net, opt, chunk):
        for x, target in chunk:
            opt.zero_grad()
            peer_criterion(net(torch.from_numpy(x)), torch.from_numpy(target)).backward()
            opt.step()

    theirs(whole, whole_optimizer, all_batches)
    ours(all_batches[:10])
    result = peer.load_state_dict(tensors(model.state_dict()))
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    peer_optimizer = getattr(torch.optim, kind)(peer.parameters(), lr=9.0)
    peer_optimizer.load_state_dict(optimizer_tensors(optimizer.state_dict()))
    theirs(peer, peer_optimizer, all_batches[10:20])

    model, _ = mlp_pair(np.float64)
    model.load_state_dict(peer.state_dict())
    optimizer = getattr(optim, kind)(model.parameters(), lr=9.0)
    optimizer.load_state_dict(peer_optimizer.state_dict())
    ours(all_batches[20:])
    compare_states(model, whole, np.float64)
    compare_optimizers(optimizer, whole_optimizer, np.float64)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 30


def test_an_optimizer_state_before_its_first_step():
    model, peer = mlp_pair(np.float32)
    for kind in ("SGD", "Adam"):
        optimizer, other = getattr(optim, kind)(model.parameters()), getattr(torch.optim, kind)(peer.parameters())
        optimizer.load_state_dict(other.state_dict())
        other.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("name", ["Linear", "BatchNorm1d", "BatchNorm2d", "Flatten", "CrossEntropyLoss", "MSELoss"])
def test_defaults_of_layers(name):
    # dtype=None of PyTorch is its default, float32
    compare_defaults(getattr(nn, name), getattr(tnn, name), ignore={"dtype", "rng", "update_stats", "nonfinite"})


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_defaults_of_optimizers(name):
    compare_defaults(getattr(optim, name), getattr(torch.optim, name), ignore=set())


def compare_defaults(ours, theirs, ignore):
    mine, peers = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    for name, parameter in mine.items():
        if name not in ignore:
            assert name in peers, name
            assert parameter.default == peers[name].default, name
    positional = [name for name, p in mine.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if ours.__name__ not in ("CrossEntropyLoss", "MSELoss"):  # theirs have deprecated arguments in front
        assert positional == list(peers)[: len(positional)]


def test_starting_values_have_pytorchs_distribution():
    torch.manual_seed(0)
    ours = nn.Linear(50, 2000, rng=0)
    theirs = tnn.Linear(50, 2000)
    for name in ("weight", "bias"):
        a = np.sort(getattr(ours, name).data.ravel())
        b = np.sort(getattr(theirs, name).detach().numpy().ravel())
        # two-sample Kolmogorov-Smirnov, at a level of one in a thousand for seeds that are fixed
        at = np.concatenate([a, b])
        distance = np.abs(np.searchsorted(a, at, "right") / a.size - np.searchsorted(b, at, "right") / b.size).max()
        assert distance < 1.95 * math.sqrt(2 / a.size)
        assert abs(a).max() <= 1 / math.sqrt(50)
    state, peer_state = nn.BatchNorm2d(7).state_dict(), tnn.BatchNorm2d(7).state_dict()
    assert list(state) == list(peer_state)
    for name, value in state.items():
        np.testing.assert_array_equal(value, peer_state[name].numpy())
        assert value.dtype == peer_state[name].numpy().dtype
        assert value.shape == tuple(peer_state[name].shape)


def test_repr_of_layers():
    for build in (
        lambda lib: lib.Linear(3, 4, bias=False),
        lambda lib: lib.BatchNorm1d(3, momentum=None),
        lambda lib: lib.BatchNorm2d(3, affine=False),
        lambda lib: lib.Flatten(),
        lambda lib: lib.Sequential(lib.Linear(3, 4), lib.Sequential(lib.ReLU(), lib.Sigmoid()), lib.Tanh()),
    ):
        assert repr(build(nn)) == repr(build(tnn))
