"""A page of figures and tables as one HTML file, which needs no network: for a laptop and a phone, light and dark.

Whatever is shown comes from files that others may have written: every text is escaped, in HTML and in figures, and the
page's own policy lets it load and send nothing.
"""

import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from alphard import __version__
from alphard.errors import masked

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FILE = "report.html"
UNDRAWN = "report: plotly draws it, which is not installed: pip install -c constraints.txt -e '.[report]'"
# Told apart with any kind of colour vision (Okabe and Ito 2008); a dark page has lighter ones.
BLUE, ORANGE, GREEN, PURPLE, SKY, GOLD = "#0072b2", "#d55e00", "#00876c", "#a3478c", "#6db3dc", "#b58900"
GREY, INK, LINE, PALE = "#98a1ab", "#1c2430", "#dfe4e9", "#f3f7fb"
DARK = {
    BLUE: "#5ab4ee",
    ORANGE: "#ff9a4d",
    GREEN: "#3fcfa7",
    PURPLE: "#e08fcb",
    SKY: "#2f78a6",
    GOLD: "#e6c25a",
    GREY: "#77828d",
    INK: "#e4e9ee",
    LINE: "#343d47",
    PALE: "#222a33",
}
MANY = (BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY)
# A page is sent around, and a config may hold more than its values: what has such a name is not shown.
SECRET = re.compile(r"(?i)(?:.*[_.\-/])?(?:password|passwd|pwd|secret|token|credentials?|(?:api|access|secret)_?key)")
SCRIPT = re.compile(r"[<>&\u2028\u2029]")


def drawable() -> bool:
    """Whether what draws is installed."""
    return find_spec("plotly") is not None


@dataclass(frozen=True)
class Drawing:
    """A figure with its title and a `note` below that: `name` on the page, the least `width` that it is readable at.

    alone: it has its row of the section for itself.
    """

    name: str
    figure: "Figure"
    title: str
    note: str = ""
    height: int = 360
    width: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, a line of words, drawings side by side where there is room, then `more`, HTML."""

    title: str
    words: str = ""
    drawings: Sequence[Drawing] = ()
    more: str = ""
    columns: int = 1


@dataclass(frozen=True)
class Page:
    """A whole page; `facts` are (what, value) and stand on top."""

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section] = field(default_factory=list)

    def to_html(self) -> bytes:
        """The file."""
        from plotly.offline import get_plotlyjs

        policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
        facts = "".join(f"<div><dt>{text(what)}</dt><dd>{text(value)}</dd></div>" for what, value in self.facts)
        parts = [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(self.title)}</title>\n<style>\n{_asset('page.css')}</style>",
            f"<script>{get_plotlyjs()}</script>\n</head>\n<body>",
            f"<header><h1>{text(self.title)}</h1><p>{text(self.lead)}</p>",
            f'<dl class="facts">{facts}</dl></header>\n<main>',
            *map(_section, self.sections),
            f"</main>\n<script>const DARK = {_json(json.dumps(DARK))};\n{_asset('page.js')}</script>",
            "</body>\n</html>\n",
        ]
        return "\n".join(parts).encode()


def versions() -> str:
    """The versions that draw a page; torch's is asked of its package, for importing it takes seconds."""
    return f"alphard {__version__}, torch {version('torch')}, plotly {version('plotly')}"


def text(value: Any) -> str:
    """A value as HTML, without the passwords of the URLs in it."""
    return html.escape(masked(str(value)))


def label(value: Any, most: int = 0) -> str:
    """A value as a figure shows it, which reads some HTML in texts too; cut in its middle to `most` characters."""
    said = masked(" ".join(str(value).split()))
    if most and len(said) > most:  # names that begin alike end unlike
        said = f"{said[: most // 2]}…{said[most // 2 + 1 - most :]}"
    return html.escape(said, quote=False) or "(empty)"


def number(value: Any) -> str:
    """A number as a person reads it; other values as they are."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], best: int = 0) -> str:
    """A table as HTML, its first `best` rows marked."""
    above = "".join(f"<th>{text(name)}</th>" for name in head)
    body = "".join(
        f"<tr{' class=best' if i < best else ''}>{''.join(f'<td>{text(number(cell))}</td>' for cell in row)}</tr>"
        for i, row in enumerate(rows)
    )
    return f'<div class="wide"><table><thead><tr>{above}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """Names and values as HTML."""
    return f'<dl class="pairs">{"".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in rows)}</dl>'


def folded(title: str, content: str) -> str:
    """A longer text as HTML, shown when it is asked for."""
    return f"<details><summary>{text(title)}</summary><pre>{text(content)}</pre></details>"


def unveiled(node: Any) -> Any:
    """A config without the values of keys that are called as a secret is; a reference to one stays."""
    if isinstance(node, dict):
        return {key: "***" if _secret(key, value) else unveiled(value) for key, value in node.items()}
    return [unveiled(item) for item in node] if isinstance(node, list) else node


def unveiled_override(said: str) -> str:
    """A command line's word likewise."""
    key, equals, value = said.partition("=")
    return f"{key}=***" if equals and _secret(key.lstrip("+~"), value) else said


def _secret(key: Any, value: Any) -> bool:
    return isinstance(value, str) and not value.startswith("${") and SECRET.fullmatch(str(key)) is not None


def _section(section: Section) -> str:
    words = f"<p>{text(section.words)}</p>" if section.words else ""
    drawn = "".join(map(_drawing, section.drawings))
    grid = f'<div class="grid" style="--columns:{section.columns}">{drawn}</div>' if drawn else ""
    return f"<section><h2>{text(section.title)}</h2>{words}{grid}{section.more}</section>"


def _drawing(drawing: Drawing) -> str:
    style = f"height:{drawing.height}px" + (f";min-width:{drawing.width}px" if drawing.width else "")
    names = f'id="{text(drawing.name)}" role="img" aria-label="{text(drawing.title)}"'
    note = f"<p>{text(drawing.note)}</p>" if drawing.note else ""
    return (
        f"<figure{' class=alone' if drawing.alone else ''}>"
        f"<figcaption><h3>{text(drawing.title)}</h3>{note}</figcaption>"
        f'<div class="wide"><div class="figure" {names} style="{style}"></div>'
        f'<script type="application/json">{_json(styled(drawing.figure).to_json())}</script></div></figure>'
    )


def styled(figure: "Figure") -> "Figure":
    """The figure in this page's dress, whoever drew it."""
    axis = {"gridcolor": LINE, "linecolor": LINE, "zeroline": False, "automargin": True, "ticks": ""}
    axis |= {"title_font_size": 13, "title_standoff": 8, "exponentformat": "e"}
    figure.update_layout(
        template="none",
        title=None,
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 12, "r": 16, "t": 28, "b": 12},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": INK},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"bgcolor": PALE, "bordercolor": GREY, "font": {"color": INK, "size": 13}, "namelength": -1},
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def _json(content: str | None) -> str:
    """JSON that ends no <script> which it stands in."""
    return SCRIPT.sub(lambda found: f"\\u{ord(found[0]):04x}", content or "null")


@cache
def _asset(name: str) -> str:
    return resources.files("alphard").joinpath(name).read_text()
