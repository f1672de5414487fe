"""The data sets that can be downloaded: where from, how large, and with which checksums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class File(NamedTuple):
    """A file as it is published.

    `contents` is the SHA-256 of what is in it, for copies that somebody has unpacked or packed again: of an IDX file
    as a whole, or of the files in an archive by name. Empty where nobody has published it.
    """

    name: str
    size: int
    sha256: str
    contents: dict[str, str]


@dataclass(frozen=True)
class Source:
    """A data set: its files, and what there is to know about it."""

    name: str
    title: str
    mirrors: tuple[str, ...]
    folders: tuple[str, ...]  # in which it lies below a data folder: ours, and torchvision's
    files: tuple[File, ...]
    sizes: tuple[int, int]  # images in the training and in the test part
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    describe: str


# Train images, train labels, test images, test labels. Names and layout are the same for all sets of this kind.
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

MNIST = Source(
    name="mnist",
    title="MNIST",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    folders=("mnist", "MNIST/raw"),
    files=(
        File(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            {"train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"},
        ),
        File(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            {"train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"},
        ),
        File(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            {"t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"},
        ),
        File(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            {"t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"},
        ),
    ),
    sizes=(60_000, 10_000),
    image_shape=(28, 28),
    class_names=tuple("0123456789"),
    describe="""\
MNIST: 70,000 images of handwritten digits
==========================================

Source   LeCun, Y., Cortes, C. and Burges, C. J. C., The MNIST database of handwritten digits; LeCun, Bottou, Bengio and
         Haffner (1998). Gradient-based learning applied to document recognition. Proceedings of the IEEE 86(11).
Licence  Creative Commons Attribution-ShareAlike 3.0, https://creativecommons.org/licenses/by-sa/3.0/; copyright
         Yann LeCun and Corinna Cortes.
Parts    60,000 images to train on and 10,000 to test with, written by different people, in the published order.
Contents 28 x 28 pixels, row by row, 0 for white paper to 255 for ink; here divided by 255.
""",
)

FASHION_MNIST = Source(
    name="fashion-mnist",
    title="Fashion-MNIST",
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    folders=("fashion-mnist", "FashionMNIST/raw"),
    files=(
        File(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            {},
        ),
        File(
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            {},
        ),
        File(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            {},
        ),
        File(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            {},
        ),
    ),
    sizes=(60_000, 10_000),
    image_shape=(28, 28),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    describe="""\
Fashion-MNIST: 70,000 images of articles of clothing
====================================================

Source   Xiao, H., Rasul, K. and Vollgraf, R. (2017). Fashion-MNIST: a novel image dataset for benchmarking machine
         learning algorithms. arXiv:1708.07747. https://github.com/zalandoresearch/fashion-mnist
Licence  MIT, copyright Zalando SE.
Parts    60,000 images to train on and 10,000 to test with, in the published order; as many of each class.
Contents 28 x 28 pixels, row by row, 0 for the background to 255; here divided by 255.
""",
)

CIFAR10 = Source(
    name="cifar10",
    title="CIFAR-10",
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    folders=("cifar10", "cifar-10"),
    files=(
        File(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            {
                "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            },
        ),
    ),
    sizes=(50_000, 10_000),
    image_shape=(3, 32, 32),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    describe="""\
CIFAR-10: 60,000 colour images of animals and vehicles
======================================================

Source   Krizhevsky, A. (2009). Learning multiple layers of features from tiny images. Technical report, University of
         Toronto. https://www.cs.toronto.edu/~kriz/cifar.html
Licence  None is stated; the authors ask for the report to be cited.
Parts    50,000 images to train on and 10,000 to test with, in the published order; as many of each class.
Contents 32 x 32 pixels in three planes, red, green and blue, each row by row, 0 to 255; here divided by 255.
""",
)

SOURCES = {source.name: source for source in (MNIST, FASHION_MNIST, CIFAR10)}
