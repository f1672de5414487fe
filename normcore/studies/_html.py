"""The report: all results in one HTML file that needs nothing else, neither from the disk nor from the network."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import NamedTuple

from ._result import Outcome
from ._table import Table

_FOLDED_FROM = 16  # rows: a longer table is opened by a click

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #fff; --soft: #595959; --line: #d5d5d5; --box: #f5f6f7;
  --link: #0060a8 }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --back: #16181a; --soft: #a9adb2; --line: #3a3e42;
  --box: #202326; --link: #7cbcf2 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--text); background: var(--back);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0 }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 .5rem; border-top: 2px solid var(--line); padding-top: 1.2rem }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem }
p, ul, ol { max-width: 50rem }
a { color: var(--link) }
section { margin-top: 2.5rem }
.question { font-size: 1.1rem; font-style: italic }
.soft, figcaption { color: var(--soft); font-size: .92rem }
.failed { border-left: 4px solid #d55e00; padding-left: .8rem }
.scroll { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--soft) }
.number { text-align: right }
figure { margin: 1.2rem 0 }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px }
pre, code { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; font-size: .85rem }
pre { background: var(--box); padding: .7rem; border-radius: 6px; overflow-x: auto; line-height: 1.4 }
summary { cursor: pointer; padding: .3rem 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .92rem; margin: .3rem 0 }
dt { color: var(--soft) } dd { margin: 0; min-width: 0 }
"""


class Section(NamedTuple):
    """A study in the report.

    Attributes
    ----------
    name : str
        The study's.
    command : str
        What gives the same numbers.
    result : Outcome or None
        None if the study failed.
    images : dict of str to bytes
        Content of each picture that was drawn, by its name.
    error : str
        Why it failed.
    """

    name: str
    command: str
    result: Outcome | None
    images: Mapping[str, bytes]
    error: str = ""

    @property
    def title(self) -> str:
        """The heading."""
        return self.name if self.result is None else self.result.title


def report(sections: Iterable[Section], note: str = "") -> str:
    """Return the HTML file; `note` is a sentence for its head, such as why a study is missing."""
    sections = list(sections)
    contents = "\n".join(
        f'<li><a href="#{_anchor(section.name)}">{escape(section.title)}</a>'
        f"{' (failed)' if section.result is None else ''}</li>"
        for section in sections
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # The browser itself refuses whatever would come from elsewhere.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        '<link rel="icon" href="data:,">',
        "<title>normcore: what normalisation does</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<header>",
        "<h1>What normalisation does: studies run with normcore</h1>",
        *([f'<p class="failed">{escape(note)}</p>'] if note else []),
        f'<nav aria-label="Studies"><h2>Studies</h2><ol>\n{contents}\n</ol></nav>',
        "</header>",
        "<main>",
        *(_section(section) for section in sections),
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _section(section: Section) -> str:
    anchor = _anchor(section.name)
    parts = [f'<section id="{anchor}" aria-labelledby="{anchor}-title">', f'<h2 id="{anchor}-title">']
    parts[-1] += f"{escape(section.title)}</h2>"
    result = section.result
    if result is None:
        parts.append(f'<p class="failed">This study failed: {escape(section.error)}</p>')
        parts.append(_command(section.command))
    else:
        parts.append(f'<p class="question">{escape(result.question)}</p>')
        if result.interrupted:
            parts.append(f'<p class="failed">{escape(result.interrupted)}</p>')
        parts.append("<h3>What the numbers say</h3>")
        parts += _list(result.conclusions)
        parts.append("<h3>How it was done</h3>")
        parts += _list(result.notes)
        parts.append(_folded("All settings", _pairs({key: _setting(value) for key, value in result.config.items()})))
        parts += [_figure(section, picture.name, picture.caption, picture.mime) for picture in result.pictures]
        parts += [_table(table) for table in result.tables if table.where != "file"]
        for heading, body in result.texts.items():
            parts.append(f'<h3>{escape(heading)}</h3>\n<pre tabindex="0">{escape(body)}</pre>')
        parts.append("<h3>To run it again</h3>")
        parts.append(_command(section.command))
        parts.append(f'<p class="soft">Took {result.seconds:.1f} s here.</p>')
        parts.append(_folded("What it ran on", _pairs(result.environment)))
    return "\n".join([*parts, "</section>"])


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _list(sentences: Iterable[str]) -> list[str]:
    sentences = list(sentences)
    if len(sentences) == 1:
        return [f"<p>{escape(sentences[0])}</p>"]
    return ["<ul>", *(f"<li>{escape(sentence)}</li>" for sentence in sentences), "</ul>"] if sentences else []


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _pairs(pairs: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs.items()) + "</dl>"


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def _command(command: str) -> str:
    return f'<pre tabindex="0"><code>{escape(command)}</code></pre>'


def _figure(section: Section, name: str, caption: str, mime: str) -> str:
    content = section.images.get(name)
    if content is None:
        return ""
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img src="data:{mime};base64,{data}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    kinds = [' class="number"' if table.is_number(index) else "" for index in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{kind}>{escape(column.heading)}</th>'
        for column, kind in zip(table.columns, kinds, strict=True)
    )
    rows = []
    for row in table.cells():
        first, *others = (f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        first = f'<th scope="row"{kinds[0]}>{escape(row[0])}</th>'
        rows.append("<tr>" + "".join([first, *others]) + "</tr>")
    title = escape(table.title)
    text = (
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )
    folded = table.where == "report" or len(table.rows) > _FOLDED_FROM
    return _folded(table.title, text) if folded else f"<h3>{title}</h3>\n{text}"
