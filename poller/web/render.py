"""Templates: where they lie, what every page gets, and how a page becomes an answer."""

import hashlib
import re
from importlib import resources
from typing import Any
from urllib.parse import unquote

import jinja2
import msgspec
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from poller._version import __version__
from poller.model import dumps, pretty

from . import words
from .search import opened
from .session import Visitor

SAID = "poller_said"
"""The cookie with what the last action did, shown once."""
ASSETS = ("poller.css", "poller.js", "icon.svg")
_FILES = resources.files("poller.web")


def asset(name: str) -> bytes:
    """The bytes of one of our own files."""
    return _FILES.joinpath("static", name).read_bytes()


VERSIONS = {name: hashlib.sha256(asset(name)).hexdigest()[:12] for name in ASSETS}


def static(name: str) -> str:
    """Where a file of ours is; another content has another address."""
    return f"/static/{name}?v={VERSIONS[name]}"


def _source(name: str) -> str:
    return _FILES.joinpath("templates", name).read_text("utf-8")


def _whole(value: Any) -> str:
    """A value in a table: text as it is, the name first of what has one, what is nested deeper as JSON."""
    if isinstance(value, list) and value and all(map(_named, value)):
        return ", ".join(map(_whole, value))
    if _named(value):
        rest = ", ".join(f"{key} {words.full(item)}" for key, item in value.items() if key != "name")
        return f"{value['name']} ({rest})" if rest else str(value["name"])
    if isinstance(value, list) and value and not any(map(_nested, value)):
        return words.full(value)
    if _nested(value):
        return pretty(value) if len(value) > 3 else msgspec.json.format(dumps(value), indent=0).decode()
    return words.full(value)


def _named(value: Any) -> bool:
    return isinstance(value, dict) and bool(value.get("name")) and not any(map(_nested, value.values()))


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _dotted(type_: str) -> Markup:
    """An event type that may be folded after its dots."""
    return Markup("<wbr>").join(part for part in re.split(r"(?<=[._])", type_))


def _coded(text: str) -> Markup:
    """A sentence whose `commands` are shown as such."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts)
    )


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FunctionLoader(_source),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    auto_reload=False,
)
ENVIRONMENT.globals.update(static=static, version=__version__)
ENVIRONMENT.filters.update(
    span=words.span,
    moment=words.moment,
    number=words.number,
    plural=words.plural,
    many=words.many,
    dotted=_dotted,
    coded=_coded,
    whole=_whole,
    opened=opened,
    line=words.line_of,
    source_sentence=words.source_sentence,
    endpoint_sentence=words.endpoint_sentence,
)


def warm() -> None:
    """Compile every template, so that no page pays for it."""
    for each in _FILES.joinpath("templates").iterdir():
        if each.name.endswith(".html"):
            ENVIRONMENT.get_template(each.name)


def render(template: str, **context: Any) -> str:
    """A template as text."""
    return ENVIRONMENT.get_template(template).render(**context)


def _here(request: Request) -> str:
    """The address of a page that can be come back to."""
    if request.method != "GET" or request.url.path == "/login":
        return "/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def page(request: Request, template: str, *, status: int = 200, title: str, **context: Any) -> HTMLResponse:
    """A whole page."""
    visitor: Visitor = request.state.visitor
    said = unquote(request.cookies.get(SAID, ""))[:500] if request.method == "GET" else ""
    text = render(
        template,
        title=title,
        visitor=visitor,
        path=request.url.path,
        here=_here(request),
        has_token=bool(request.app.state.web.context.door.token),
        said=said,
        **context,
    )
    answer = HTMLResponse(text, status_code=status)
    if said:
        answer.delete_cookie(SAID, httponly=True, samesite="strict")
    return answer
