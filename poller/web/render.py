"""Templates: where they lie, what every page gets, and how a page becomes an answer."""

import hashlib
from importlib import resources
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from poller._version import __version__
from poller.model import rfc3339

from . import words
from .session import Visitor

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
    rfc3339=rfc3339,
    plural=words.plural,
    full=words.full,
    line=words.line_of,
    tone=words.tone_of,
    source_sentence=words.source_sentence,
    endpoint_sentence=words.endpoint_sentence,
)


def render(template: str, **context: Any) -> str:
    """A template as text."""
    return ENVIRONMENT.get_template(template).render(**context)


def page(request: Request, template: str, *, status: int = 200, title: str, **context: Any) -> HTMLResponse:
    """A whole page."""
    visitor: Visitor = request.state.visitor
    text = render(
        template,
        title=title,
        visitor=visitor,
        path=request.url.path,
        has_token=bool(request.app.state.web.house.door.token),
        said=request.query_params.get("said", "")[:300],
        **context,
    )
    return HTMLResponse(text, status_code=status)
