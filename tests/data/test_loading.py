"""The published sets, small: found, downloaded, compared, scaled, and refused with the file's name."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from servers import serving
from small_data import ARCHIVE, IDX_FILES, idx_bytes, publish, small_cifar10, small_mnist, tar_bytes, write

from normcore import data
from normcore.data import DATASETS, DataError, DataNotFoundError, Split, load, load_digits, split
from normcore.data import download as downloading
from normcore.data.catalog import SOURCES

LOADERS = {"mnist": data.load_mnist, "fashion-mnist": data.load_fashion_mnist, "cifar10": data.load_cifar10}
SMALL = {"mnist": small_mnist(seed=1), "fashion-mnist": small_mnist(seed=2), "cifar10": small_cifar10(seed=3)}
PUBLISHED = dict(SOURCES)  # before any test puts small ones in their place
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, the small sets published by nobody, and no waiting."""
    monkeypatch.delenv("NORMCORE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(downloading, "PAUSE", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    for name, small in SMALL.items():
        publish(monkeypatch, name, small)
    return tmp_path / "cache" / "normcore"


@pytest.fixture
def mnist(tmp_path):
    """A folder with the small MNIST."""
    return write(tmp_path / "mine" / "mnist", SMALL["mnist"].files)


def check(found, name):
    """The arrays are those that were written."""
    assert isinstance(found, Split)
    source = SOURCES[name]
    for dataset, (images, labels) in zip(found, SMALL[name][1:], strict=True):
        features = int(np.prod(source.image_shape))
        assert (dataset.X.dtype, dataset.X.shape) == (np.float32, (len(labels), features))
        assert (dataset.y.dtype, dataset.y.shape) == (np.int64, (len(labels),))
        # correctly rounded: the quotient in float64 has more than twice float32's bits
        np.testing.assert_array_equal(dataset.X, (images.reshape(len(labels), -1) / 255.0).astype(np.float32))
        np.testing.assert_array_equal(dataset.y, labels)
        assert dataset.X.flags.c_contiguous
        assert dataset.X.flags.writeable
        assert dataset.name == name
        assert dataset.image_shape == source.image_shape
        assert len(dataset.feature_names) == len(set(dataset.feature_names)) == features
        assert len(dataset.class_names) == 10
        for word in ("Source", "Licence", source.title):
            assert word in dataset.describe


def test_the_names_and_the_table_agree():
    assert ("digits", *SOURCES) == DATASETS
    for name, source in SOURCES.items():
        assert source.name == name


@pytest.mark.parametrize("seed", [0])
def test_digits_are_cut_as_split_does(seed):
    digits = load_digits()
    parts = load("digits", download=False)
    assert isinstance(parts, Split)
    for dataset, part in zip(parts, split(digits.X, digits.y, 0.25, seed, stratify=True), strict=True):
        np.testing.assert_array_equal(dataset.X, part.X)
        np.testing.assert_array_equal(dataset.y, part.y)
        assert (dataset.name, dataset.image_shape) == ("digits", (8, 8))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name must be one of digits, mnist, fashion-mnist, cifar10, got 'emnist'; pa"):
        load("emnist")
    with pytest.raises(TypeError, match=r"data_dir must be None or a path, got 3\.0"):
        load("mnist", data_dir=3.0)


@pytest.mark.parametrize("name, folder", [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("given", ["data_dir", "NORMCORE_DATA", "cache"])
def test_idx_sets_are_found(tmp_path, cache, monkeypatch, name, folder, packed, given):
    root = cache if given == "cache" else tmp_path / "mine"
    options = {"data_dir": root} if given == "data_dir" else {}
    if given == "NORMCORE_DATA":
        monkeypatch.setenv("NORMCORE_DATA", str(root))
    for place in (root, root / folder, root / name):
        for old in [path for path in root.rglob("*ubyte*") if path.is_file()]:
            old.unlink()
        write(place, SMALL[name].files, packed)
        check(LOADERS[name](download=False, **options), name)
        check(load(name, download=False, **options), name)


def test_the_spelling_of_other_sites_is_known(tmp_path):
    files = {name.replace("-idx", ".idx"): content for name, content in SMALL["mnist"].files.items()}
    check(load("mnist", data_dir=write(tmp_path / "mine", files), download=False), "mnist")


@pytest.mark.parametrize("place", ["", "cifar10", "cifar-10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_cifar10_is_found_as_a_folder(tmp_path, place):
    write(tmp_path / place, SMALL["cifar10"].files)
    check(data.load_cifar10(data_dir=tmp_path, download=False), "cifar10")


@pytest.mark.parametrize("name, mode", [(ARCHIVE, "w:gz"), ("cifar-10-binary.tar", "w")])
@pytest.mark.parametrize("place", [".", "cifar10"])
def test_cifar10_is_found_as_an_archive(tmp_path, name, mode, place):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / name).write_bytes(tar_bytes(SMALL["cifar10"].files, mode=mode))
    check(data.load_cifar10(data_dir=tmp_path, download=False), "cifar10")


def test_planes_of_a_colour_image_have_names(tmp_path):
    write(tmp_path, SMALL["cifar10"].files)
    names = load("cifar10", data_dir=tmp_path).train.feature_names
    assert (names[0], names[1024 + 33], names[3071]) == ("red_0_0", "green_1_1", "blue_31_31")


def test_another_sets_files_of_the_same_name_are_passed_over(tmp_path, cache):
    flat = write(tmp_path / "flat", SMALL["mnist"].files)
    with pytest.raises(DataNotFoundError, match=re.escape(", ".join(f"{name}.gz" for name in IDX_FILES))):
        load("fashion-mnist", data_dir=flat, download=False)
    write(cache, SMALL["fashion-mnist"].files)
    check(load("fashion-mnist", data_dir=flat, download=False), "fashion-mnist")
    check(load("mnist", data_dir=flat, download=False), "mnist")


def test_every_call_gives_arrays_of_its_own(mnist):
    first = load("mnist", data_dir=mnist)
    first.train.X[:] = -1
    first.train.y[:] = -1
    check(load("mnist", data_dir=mnist), "mnist")


def test_offline_the_message_says_which_file_to_put_where(tmp_path, cache, mnist, monkeypatch):
    (mnist / TEST_LABELS).unlink()
    monkeypatch.setenv("NORMCORE_DATA", str(tmp_path / "shared"))
    with pytest.raises(DataNotFoundError) as caught:
        load("mnist", data_dir=mnist.parent, download=False)
    assert str(caught.value) == (
        f"MNIST was not found: put t10k-labels-idx1-ubyte.gz into {mnist}, or name the folder with it by data_dir or "
        f"NORMCORE_DATA; looked in {mnist.parent}, {tmp_path / 'shared'}, {cache}, and download=False was passed"
    )
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(DataNotFoundError) as caught:
        load("fashion-mnist", download=False)
    assert f"put {TRAIN_LABELS}.gz" not in str(caught.value)
    for name in IDX_FILES:
        assert f"{name}.gz" in str(caught.value)
    assert f"into {tmp_path / 'shared' / 'fashion-mnist'}, or name the folder with them by" in str(caught.value)
    with pytest.raises(DataNotFoundError, match=r"CIFAR-10 was not found: put cifar-10-binary\.tar\.gz into .*cifar10"):
        load("cifar10", download=False)


@pytest.mark.parametrize("name", LOADERS)
def test_what_is_not_there_is_downloaded_once_and_then_found(cache, monkeypatch, capsys, name):
    with serving() as server:
        files = publish(monkeypatch, name, SMALL[name], mirrors=[server.url("gone/"), server.url("here/")])
        server.files = {f"here/{file}": content for file, content in files.items()}
        check(LOADERS[name](), name)
        assert {path.name: path.read_bytes() for path in (cache / name).iterdir()} == files
        asked = len(server.requests)
        assert asked == 2 * len(files)
        check(load(name), name)
        assert len(server.requests) == asked
    assert capsys.readouterr() == ("", "")


def test_only_what_is_missing_is_downloaded_and_to_the_folder_given(mnist, monkeypatch, capsys):
    (mnist / TEST_LABELS).unlink()
    with serving() as server:
        server.files = publish(monkeypatch, "mnist", SMALL["mnist"], mirrors=[server.url("")])
        check(load("mnist", data_dir=mnist.parent, progress=True), "mnist")
        assert [path for path, _ in server.requests] == [f"{TEST_LABELS}.gz"]
    assert (mnist / f"{TEST_LABELS}.gz").exists()
    assert f"{TEST_LABELS}.gz: 100" in capsys.readouterr().err


def test_a_failed_download_says_why_and_what_to_do(cache, monkeypatch):
    with serving() as server:
        publish(monkeypatch, "cifar10", SMALL["cifar10"], mirrors=[server.url("a/"), server.url("b/")])
        with pytest.raises(DataNotFoundError) as caught:
            load("cifar10")
    message = str(caught.value)
    assert f"put {ARCHIVE} into {cache / 'cifar10'}, or name the folder with it" in message
    for mirror in ("a/", "b/"):
        assert f"{server.url(mirror)}{ARCHIVE}: HTTP 404 Not Found" in message
    assert not cache.exists()


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"no folder")
    with serving() as server:
        server.files = publish(monkeypatch, "cifar10", SMALL["cifar10"], mirrors=[server.url("")])
        with pytest.raises(DataNotFoundError, match=r"and the download could not be written \(.*file"):
            load("cifar10", data_dir=tmp_path / "file")


IMAGES, LABELS = SMALL["mnist"].train


@pytest.mark.parametrize(
    "name, content, message",
    [
        (TRAIN_IMAGES, idx_bytes(LABELS), r"must hold images of 28 x 28 bytes, got an array of uint8, shape \(30,\)"),
        (TRAIN_LABELS, idx_bytes(IMAGES), r"must hold labels, got an array of uint8, shape \(30, 28, 28\)"),
        (TRAIN_IMAGES, idx_bytes(IMAGES.transpose(0, 2, 1)[:, :14]), r"must hold images .* shape \(30, 14, 28\)"),
        (TRAIN_LABELS, idx_bytes(LABELS.astype(np.int32)), r"must hold labels, got an array of int32, shape \(30,\)"),
        (TRAIN_IMAGES, idx_bytes(IMAGES[:7]), "must hold 30 images of 28 x 28 bytes, got 7; .* or pass verify=False"),
        (TEST_LABELS, idx_bytes(LABELS), "must hold 12 labels, got 30; .* or pass verify=False"),
        (TRAIN_LABELS, idx_bytes(LABELS[::-1]), "is not the file of MNIST as it is published, its SHA-256 is [0-9a-f]"),
        (TRAIN_IMAGES, idx_bytes(IMAGES ^ (IMAGES == 77)), "is not the file of MNIST as it is published"),
        (TRAIN_IMAGES, idx_bytes(IMAGES)[:-1], "ends after 23535 bytes, 1 bytes too early"),
        (TRAIN_IMAGES, gzip.compress(idx_bytes(IMAGES))[:-9], "is damaged or cut short"),
        (TRAIN_LABELS, b"\x80\x02]q\x00.", "is no IDX file: it begins with 80 02 5d 71"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_and_left_alone(mnist, name, content, message):
    (mnist / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load("mnist", data_dir=mnist.parent)
    assert str(caught.value).startswith(str(mnist / name))
    assert (mnist / name).read_bytes() == content


def test_without_verify_any_set_of_this_kind_is_taken(mnist):
    small = small_mnist(train=7, test=3, seed=9)
    write(mnist, small.files)
    train, test = load("mnist", data_dir=mnist, verify=False)
    assert (train.X.shape, test.X.shape) == ((7, 784), (3, 784))
    np.testing.assert_array_equal(test.y, small.test[1])


@pytest.mark.parametrize(
    "name, content, message",
    [
        (TEST_LABELS, idx_bytes(np.arange(11, dtype=np.uint8) % 10), "holds 12 images, but .* 11 labels; put a compl"),
        (TEST_LABELS, idx_bytes(np.arange(12, dtype=np.uint8)), "must hold labels from 0 to 9, got 11; put a compl"),
        (TEST_LABELS, idx_bytes(LABELS)[:-1], "ends after 37 bytes"),
    ],
)
def test_without_verify_damage_is_still_refused(mnist, name, content, message):
    (mnist / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load("mnist", data_dir=mnist, verify=False)
    assert str(mnist / name) in str(caught.value)


def test_another_cifar10_is_refused_by_the_name_of_the_batch(tmp_path):
    other = small_cifar10(seed=4)
    write(tmp_path, {**SMALL["cifar10"].files, "data_batch_5.bin": other.files["data_batch_5.bin"]})
    with pytest.raises(DataError, match=r"^data_batch_5\.bin in .* is not the file of CIFAR-10 as it is published"):
        load("cifar10", data_dir=tmp_path)
    train, _ = load("cifar10", data_dir=tmp_path, verify=False)
    np.testing.assert_array_equal(train.y[8:], other.train[1][8:])


def test_the_published_files_are_named_once_and_completely():
    for source in PUBLISHED.values():
        assert source.mirrors
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in source.mirrors)
        for file in source.files:
            assert file.size > 4000
            sums = [file.sha256, *file.contents.values()]
            assert all(re.fullmatch("[0-9a-f]{64}", value) for value in sums)
    files = [file for source in PUBLISHED.values() for file in source.files]
    assert len({file.sha256 for file in files}) == len(files) == 9
    # as Yann LeCun's page had it, and the one of CIFAR-10
    assert sum(file.size for file in PUBLISHED["mnist"].files) == 9912422 + 28881 + 1648877 + 4542
    assert PUBLISHED["cifar10"].files[0].size == 170052171
