"""The pages that act: log-in, log-out, and for every action first what it is about to do, then doing it."""

import time
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from poller.model import pretty

from . import session
from .actions import HOOK_DOS, SOURCE_DOS, Plan, Refused
from .answers import Done, TestDone
from .render import SAID, page

Given = Mapping[str, str]
LONGEST = 1000
MOST_FIELDS = 20


async def fields(request: Request) -> Given:
    """What the address and the form say; of each text its beginning.

    Raises:
        TooLarge: the form is too large. Refused: it is none.
    """
    found = dict(request.query_params.items())
    if request.method == "POST":
        text = (await request.body()).decode("utf-8", "replace")
        try:
            found |= parse_qsl(text, max_num_fields=MOST_FIELDS)
        except ValueError as exc:
            msg = f"the form is not understood: {exc}"
            raise Refused(msg, status=422, code="invalid") from exc
    return {key: value[:LONGEST] for key, value in found.items()}


# --- log-in -------------------------------------------------------------------------------------


async def login(request: Request) -> Response:
    """GET, POST /login."""
    web, given = request.app.state.web, await fields(request)
    onward = _inside(given.get("next", "/"))
    if request.method == "GET":
        return page(request, "login.html", title="Log in", onward=onward, wrong=False)
    token = web.context.door.token
    if not session.same(given.get("token", ""), token):
        return page(request, "login.html", status=401, title="Log in", onward=onward, wrong=True)
    answer = RedirectResponse(onward, status_code=303)
    answer.set_cookie(
        session.COOKIE,
        session.cookie_for(token, now=time.time()),
        max_age=session.LIVES_S,
        httponly=True,
        samesite="strict",
        secure=request.headers.get("x-forwarded-proto", request.url.scheme) == "https",
    )
    return answer


def _inside(onward: str) -> str:
    """A path of ours; anything else is the overview."""
    parts = urlsplit(onward)
    good = onward.startswith("/") and not onward.startswith(("//", "/\\")) and onward.isprintable()
    return onward if good and not parts.netloc and not parts.scheme else "/"


async def logout(request: Request) -> Response:  # noqa: ARG001 -- Starlette hands it over
    """POST /logout."""
    answer = RedirectResponse("/", status_code=303)
    answer.delete_cookie(session.COOKIE, httponly=True, samesite="strict")
    return answer


# --- actions --------------------------------------------------------------------------------------


async def source_form(request: Request) -> Response:
    """GET, POST /sources/NAME/(poll|pause|resume|resync|release)."""
    name, do = request.path_params["name"], request.path_params["do"]
    if do not in SOURCE_DOS:
        raise Refused("there is no such action", status=404, code="not_found")
    given = await fields(request)
    plan = await request.app.state.web.actions.source(name, do, record=given.get("record", ""))
    return await _answer(request, plan, given, home=f"/sources/{name}")


async def webhook_form(request: Request) -> Response:
    """GET, POST /webhooks/NAME/(test|resend|recover|enable|disable)."""
    name, do = request.path_params["name"], request.path_params["do"]
    if do not in HOOK_DOS:
        raise Refused("there is no such action", status=404, code="not_found")
    given = await fields(request)
    plan = await request.app.state.web.actions.endpoint(name, do, given)
    return await _answer(request, plan, given, home=f"/webhooks/{name}")


async def _answer(request: Request, plan: Plan, given: Given, *, home: str) -> Response:
    if request.method == "GET":
        return page(request, "confirm.html", title=plan.title, plan=plan, given=given, home=home)
    done = await plan.perform()
    if isinstance(done, TestDone):
        body = pretty(done.body)
        return page(request, "tested.html", title=plan.title, done=done, body=body, home=home)
    return _onward(home, plan, done)


def _onward(home: str, plan: Plan, done: Done) -> Response:
    answer = RedirectResponse(home, status_code=303)
    said = f"Done: {plan.title}. {done.means}"
    answer.set_cookie(SAID, quote(said), max_age=30, httponly=True, samesite="strict", path="/")
    return answer


ROUTES = [
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/sources/{name}/{do}", source_form, methods=["GET", "POST"]),
    Route("/webhooks/{name}/{do}", webhook_form, methods=["GET", "POST"]),
]
