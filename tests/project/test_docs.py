"""Every example that a reader may copy runs: README.md, docs/ and the docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
MODULES = [
    "normcore.functional",
    "normcore._dispatch",
    "normcore._threads",
    "normcore._config",
    "normcore.moments",
    "normcore.covariance",
    "normcore.data",
    "normcore.data.digits",
    "normcore.data.splitting",
    "normcore.nn",
    "normcore.optim",
    "normcore.training",
    "normcore.estimators",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    sybil = pytest.importorskip("sybil", reason="sybil, which finds the examples, is not installed")
    from sybil.parsers.markdown import PythonCodeBlockParser

    monkeypatch.chdir(tmp_path)
    document = sybil.Document.parse(str(page), PythonCodeBlockParser())
    assert page.name != "README.md" or list(document.examples())
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name):
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module)
    if hasattr(module, "__path__"):
        for thing in vars(module).values():
            if getattr(thing, "__module__", "").startswith(name):
                found += doctest.DocTestFinder(exclude_empty=True).find(thing)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in found:
        runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_text_tells_anyone_to_install_somebody_elses_package():
    """The name normcore on PyPI is taken; ours is normcore-cpu."""
    for path in [*PAGES, ROOT / "CHANGELOG.md", *ROOT.glob("normcore/**/*.py"), ROOT / "setup.py"]:
        assert not re.search(r"pip install [\"']?normcore(?!-cpu)", path.read_text()), path.name
