"""Who opens files: a list, so that every reader and writer of the package is one that is fuzzed and broken off."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import normcore

PACKAGE = Path(normcore.__file__).parent

# Where files are opened, read, written, moved or removed, by what. `reliability.files` fuzzes what reads, and
# `reliability.saves` breaks off what writes.
PLACES = {
    "_reading.py": {"os.open", "os.fdopen"},  # all files that a user names are opened for reading here
    "_npz.py": {"zipfile.ZipFile", "archive.open", "self._archive.open"},
    "_threads.py": {"open"},  # /sys/fs/cgroup/cpu.max
    "cli/__init__.py": {"os.open"},  # /dev/null, when standard output is gone
    "cli/_errors.py": {"folder.mkdir"},
    "cli/_study.py": {"folder.mkdir", "folder.rmdir", "(self.folder / 'index.html').unlink"},
    "data/digits.py": {"(folder / 'digits.npz').open", "(folder / 'digits.txt').read_text"},  # the package's own
    "data/download.py": {
        "open",
        "part.unlink",
        "part.parent.mkdir",
        "_remains(target).unlink",
        "os.rename",
        "os.replace",
        "urllib.request.urlopen",
    },
    "data/unpack.py": {"gzip.GzipFile"},  # of what _reading opened
    "studies/_environment.py": {"Path('/proc/cpuinfo').read_text"},
    "studies/_picture.py": {  # in memory
        "Image.open",
        "figure.savefig",
        "images[0].save",
        "image.quantize(256, dither=Image.Dither.NONE).save",
    },
    "training/_files.py": {"open", "os.open", "os.fdopen", "os.replace", "temporary.unlink", "left.unlink"},
    "training/csv_logger.py": {"Path(self.path).parent.mkdir"},
    "training/model_checkpoint.py": {"Path(path).parent.mkdir"},
    "training/_archive.py": {"np.savez", "save"},  # to memory
}
TOUCHES = {
    "open", "fdopen", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "makedirs", "rename",
    "replace", "remove", "rmdir", "rmtree", "touch", "symlink_to", "urlopen", "urlretrieve", "savefig", "save",
    "savez", "savetxt", "tofile", "savez_compressed", "fromfile", "loadtxt", "genfromtxt", "memmap", "open_memmap",
    "GzipFile", "ZipFile", "TarFile", "BZ2File", "LZMAFile", "mkstemp", "mkdtemp", "NamedTemporaryFile",
    "TemporaryFile", "TemporaryDirectory", "copyfile", "move", "extractall", "extract", "truncate", "chmod", "link",
    "symlink", "sendfile",
}  # fmt: skip
NO_FILES = {  # that remove axes and hooks, open windows, and save by a function of the list
    "studies/_window.py",
    "studies/inference.py",
    "training/_checkpoint.py",
    "training/diagnostics.py",
    "training/trainer.py",
}
RUNS_WHAT_IS_IN_A_FILE = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "dbm",
    "copyreg",
    "yaml",
}


def calls(tree):
    """The name of each function that is called, and its call."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@functools.cache
def trees():
    return {
        str(path.relative_to(PACKAGE).as_posix()): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))
    }


def touches(name):
    last = name.rsplit(".", 1)[-1]
    if last == "replace":  # that of strings and dataclasses moves nothing
        return name == "os.replace"
    return last in TOUCHES


def test_files_are_touched_where_the_list_says_and_nowhere_else():
    found = {path: {name for name, _ in calls(tree) if touches(name)} for path, tree in trees().items()}
    found = {path: names for path, names in found.items() if names and path not in NO_FILES}
    assert found == PLACES


def test_nothing_is_run_that_was_read():
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                )
                assert not {module.split(".")[0] for module in modules} & RUNS_WHAT_IS_IN_A_FILE, path
        for name, call in calls(tree):
            assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), f"{path}: {name}"
            assert name.split(".")[0] not in ("np", "numpy") or name.split(".")[-1] != "load", f"{path}: {name}"
            assert not any(keyword.arg == "allow_pickle" for keyword in call.keywords), f"{path}: {name}"


def test_the_compiled_code_opens_nothing():
    for path in [*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxi"), *PACKAGE.rglob("*.c"), *PACKAGE.rglob("*.h")]:
        if path.suffix == ".c" and (path.with_suffix(".pyx").exists() or path.with_suffix(".pxd").exists()):
            continue  # Cython's
        for word in ("fopen", " open(", "pickle", "np.load"):
            assert word not in path.read_text(), f"{path.name}: {word}"
