"""What every request passes first: Host name, token or cookie, a limit on bodies, security headers."""

import time

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import session
from .context import Door
from .faults import TooLarge, fault, wants_page
from .session import Visitor

PROBES = frozenset({"/healthz", "/readyz"})
OPEN = frozenset({"/login", "/logout"})
MOST_BODY = 64 * 1024
MOST_HOOK = 1024 * 1024
FORWARDED = ("x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip")
HOW = 'set web.token (POLLER_WEB__TOKEN, or token = "${POLLER_WEB_TOKEN}" in [web]) and restart'

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Nothing to others; `no-referrer` would also blank the Origin by which our own forms are known.
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, *, door: Door) -> None:
        self._app = app
        self._door = door
        self._names = {door.host.strip("[]").lower(), *door.hosts}
        self._any_address = door.host in {"0.0.0.0", "::", "[::]"}  # noqa: S104 -- compared, not bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or pass on."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        visitor = self.visitor(request)
        scope.setdefault("state", {})["visitor"] = visitor
        secured = _secured(send, path=request.url.path)
        refusal = self._refusal(request, visitor)
        if refusal is not None:
            await refusal(scope, receive, secured)
            return
        await self._capped(scope, receive, secured)

    async def _capped(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = MOST_HOOK if scope["path"].startswith("/hooks/") else MOST_BODY
        told = Headers(scope=scope).get("content-length", "0")
        if told.isdigit() and int(told) <= most:
            await self._app(scope, _counting(receive, most), send)
            return
        await fault(413, "too_large", f"the body is larger than {most} bytes")(scope, receive, send)

    # --- who asks -----------------------------------------------------------------------------

    def visitor(self, request: Request) -> Visitor:
        """What the request may do."""
        token = self._door.token
        if session.same(session.bearer(request.headers.get("authorization", "")), token):
            return Visitor(reads=True, acts=True)
        if session.cookie_holds(request.cookies.get(session.COOKIE, ""), token, now=time.time()):
            return Visitor(reads=True, acts=True, by_cookie=True)
        return Visitor(reads=self._at_home(request), acts=False)

    def _at_home(self, request: Request) -> bool:
        """Whether only this machine can have asked: bound to loopback, by its name, with no proxy between."""
        name = session.host_name(request.headers.get("host", ""))
        forwarded = any(each in request.headers for each in FORWARDED)
        return self._door.loopback and session.is_loopback(name) and not forwarded

    def known_host(self, name: str) -> bool:
        """Whether the page may be asked under this Host name.

        Another name can be one that an attacker lets point here (DNS rebinding); an address cannot.
        """
        if session.is_loopback(name) or name in self._names:
            return True
        return self._any_address and session.literal(name) is not None

    def _refusal(self, request: Request, visitor: Visitor) -> Response | None:
        path = request.url.path
        if path in PROBES or path.startswith("/hooks/"):
            return None
        name = session.host_name(request.headers.get("host", ""))
        if not self.known_host(name):
            text = f"this service does not go by the name {name[:100]!r}: add it to web.hosts if it should"
            return fault(421, "unknown_host", text)
        if path == "/metrics":
            return self._metrics_refusal(request)
        if path.startswith("/static/"):
            return None
        return (
            self._acting_refusal(request, visitor)
            if _acts(request)
            else self._reading_refusal(request, visitor)
        )

    def _metrics_refusal(self, request: Request) -> Response | None:
        wanted = self._door.metrics_token
        if not wanted or session.same(session.bearer(request.headers.get("authorization", "")), wanted):
            return None
        text = "metrics need `Authorization: Bearer` with web.metrics_token"
        return fault(401, "unauthorized", text, headers={"www-authenticate": "Bearer"})

    def _reading_refusal(self, request: Request, visitor: Visitor) -> Response | None:
        if visitor.reads or request.url.path in OPEN:
            return None
        return self._log_in_first(request)

    def _acting_refusal(self, request: Request, visitor: Visitor) -> Response | None:
        ours = session.own_form(
            site=request.headers.get("sec-fetch-site"),
            origin=request.headers.get("origin"),
            host=request.headers.get("host", ""),
        )
        foreign = fault(
            403, "cross_site", "this form was not sent by a page of this service; nothing was done"
        )
        if request.url.path in OPEN:
            return None if ours else foreign
        if not visitor.acts:
            return self._log_in_first(request)
        return foreign if visitor.by_cookie and not ours else None

    def _log_in_first(self, request: Request) -> Response:
        if not self._door.token:
            return fault(403, "no_token", f"this needs a token, and none is set: {HOW}", request=request)
        if wants_page(request) and not _acts(request):
            asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?{QueryParams({'next': asked})}", status_code=303)
        text = "this needs `Authorization: Bearer` with web.token, or a log-in at /login"
        headers = {"www-authenticate": "Bearer"}
        return fault(401, "unauthorized", text, headers=headers, request=request)


def _acts(request: Request) -> bool:
    return request.method not in ("GET", "HEAD", "OPTIONS")


def _counting(receive: Receive, most: int) -> Receive:
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            msg = f"the body is larger than {most} bytes"
            raise TooLarge(msg)
        return message

    return counted


def _secured(send: Send, *, path: str) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-cache" if path.startswith("/static/") else "no-store")
        await send(message)

    return secured
