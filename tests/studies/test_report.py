"""The HTML report needs nothing from elsewhere, says everything, and opens in a browser."""

from __future__ import annotations

import base64
import functools
import http.server
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser

import pytest

from normcore.studies._estimate import Estimate
from normcore.studies._html import Section, report
from normcore.studies._picture import Picture
from normcore.studies._result import Result
from normcore.studies._table import Column, Table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
TABLE = Table(
    "numbers", "Numbers <of> all", [Column("network"), Column("loss", "nats", ".2f")],
    [["no norm", Estimate.over([1.0, 2.0])], ["batch & norm", "a <b> c"]],
)  # fmt: skip
LONG = Table("long", "Long", [Column("n")], [[n] for n in range(40)])
FILE = Table("raw", "Raw numbers", [Column("n")], [[12345]], "file")


def result(**changes):
    given = dict(
        study="made-up", title="Made up <study>", question="Is it?", notes=("A note.", "Another."),
        config={"rates": (0.1, 0.2)}, tables=(TABLE, LONG, FILE), conclusions=("It & is.",), seconds=1.5,
        environment={"numpy": "2.0"}, texts={"A log": "a < b"},
        pictures=(Picture("p", 'A "picture"', lambda: None),),
    )  # fmt: skip
    return Result(**{**given, **changes})


SECTION = Section("made-up", "normcore study made-up --seed 1", result(), {"p": PNG})
FAILED = Section("broken", "normcore study broken", None, {}, "ValueError: no <data>")
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects elements with their attributes, and checks that they are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.elements = []
        self.open = []
        self.words = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "\n".join(self.words)


def needs(page):
    """Everything that a browser would fetch, or go to."""
    found = [
        value
        for _, attributes in Reader(page).elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "background", "ping", "formaction")
    ]
    return found + re.findall(r"url\(([^)]*)\)|@import\s+([^;]+)", page)


def test_the_page_needs_nothing_from_elsewhere():
    page = report([SECTION, FAILED])
    assert all(value.startswith(("data:", "#")) for value in needs(page))
    reader = Reader(page)
    assert not {"script", "iframe", "object", "embed", "form"} & {tag for tag, _ in reader.elements}
    (policy,) = [meta["content"] for meta in reader.all("meta") if "http-equiv" in meta]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_page_says_everything():
    page = report([SECTION, FAILED], "Interrupted.")
    reader = Reader(page)
    for text in (
        "Made up <study>", "Is it?", "A note.", "It & is.", "0.1, 0.2", "Numbers <of> all", "loss (nats)",
        "1.50 ± 0.71", "batch & norm", "a <b> c", "A log", "a < b", "normcore study made-up --seed 1", "1.5 s", "2.0",
        "ValueError: no <data>", "Interrupted.",
    ):  # fmt: skip
        assert text in reader.text, text
    assert "12345" not in reader.text  # for the CSV alone
    (image,) = reader.all("img")
    assert image["src"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert image["alt"] == 'A "picture"'


def test_the_contents_lead_to_every_study():
    reader = Reader(report([SECTION, FAILED]))
    targets = [link["href"] for link in reader.all("a")]
    assert targets == ["#made-up", "#broken"]
    assert {section["id"] for section in reader.all("section")} == {"made-up", "broken"}
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for section in reader.all("section"):
        assert section["aria-labelledby"] in ids


def test_the_page_is_for_phones_dark_rooms_and_screen_readers():
    page = report([SECTION])
    reader = Reader(page)
    assert reader.all("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in reader.all("meta"))
    assert "prefers-color-scheme: dark" in page
    assert len(reader.all("h1")) == len(reader.all("main")) == len(reader.all("nav")) == 1
    assert all(cell["scope"] in ("col", "row") for cell in reader.all("th"))
    for box in (attributes for _, attributes in reader.elements if attributes.get("class") == "scroll"):
        assert box["tabindex"] == "0"
        assert box["aria-label"]


def test_a_long_table_is_folded():
    reader = Reader(report([SECTION]))
    folded = "".join(reader.words)
    assert folded.index("Long") < folded.index("39")
    # All settings, the long table, what it ran on.
    assert len(reader.all("details")) == 3


def test_an_interrupted_study_says_so():
    page = report([SECTION._replace(result=result(interrupted="Interrupted: 1 of 2 trainings."))])
    assert "Interrupted: 1 of 2 trainings." in Reader(page).text


def test_a_result_without_pictures_is_a_page_too():
    assert Reader(report([SECTION._replace(images={})])).all("img") == []


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to render the page with")
def test_a_browser_renders_it_and_asks_for_nothing_else(tmp_path):
    """Served here, so that a request for anything but the page is seen."""
    (tmp_path / "index.html").write_text(report([SECTION, FAILED]), encoding="utf-8")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):  # noqa: ARG002 - the signature of what it overrides
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    picture = tmp_path / "page.png"
    try:
        for size in ("390,800", "1200,800"):
            done = subprocess.run(
                [
                    BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
                    f"--window-size={size}", f"--screenshot={picture}", "--virtual-time-budget=2000",
                    f"http://127.0.0.1:{server.server_port}/index.html",
                ],
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert picture.is_file(), done.stderr
            assert picture.read_bytes().startswith(b"\x89PNG")
            picture.unlink()
    finally:
        server.shutdown()
        server.server_close()
    assert set(asked) == {"/index.html"}
