"""How a refusal is said: JSON for programs, a page for people."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .render import page

TITLES = {
    401: "Please log in",
    403: "Not allowed",
    404: "Not found",
    409: "Not now",
    413: "Too large",
    421: "Another name",
    422: "Not understood",
    503: "Redis is away",
}


class TooLarge(Exception):
    """The body is larger than it may be."""


def fault(
    status: int,
    code: str,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    request: Request | None = None,
) -> Response:
    """Say what is wrong and what to do; as a page if `request` is a browser's for a page."""
    if request is not None and wants_page(request):
        answer = page(
            request, "fault.html", status=status, title=TITLES.get(status, "Error"), message=message
        )
        answer.headers.update(headers or {})
        return answer
    told = {"error": {"code": code, "message": message}}
    return JSONResponse(told, status_code=status, headers=dict(headers or {}))


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer in a browser."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
