"""How an answer is put together: rows of bytes, the envelope round them, the ways a last page ends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from poller.model import Json, dumps

from .switches import Switches


@dataclass(frozen=True, slots=True)
class Reply:
    """A body with its status."""

    body: bytes
    status: int = 200
    media: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def page(rows: Iterable[bytes], cursor: str | None, switches: Switches) -> Reply:
    """A page of v2; how the last one ends is up to the switches."""
    body = b'{"success":true,"data":[' + b",".join(rows) + b"]"
    if cursor is None and switches.last_page == "bare":
        return Reply(body + b"}")
    more = {} if cursor is None and switches.last_page == "absent" else {"next_cursor": cursor}
    return Reply(body + b',"additional_data":' + dumps(more) + b"}")


def single(row: bytes | None) -> Reply:
    """One thing of v2."""
    return Reply(b'{"success":true,"data":' + (row or b"null") + b"}")


def single_v1(row: Json) -> Reply:
    """One thing of v1, which says so little besides that it says null."""
    return Reply(dumps({"success": True, "data": row, "additional_data": None}))


def page_v1(rows: Iterable[bytes], *, start: int, limit: int, more: bool, **besides: Json) -> Reply:
    """A page of v1; where there is nothing, data is null."""
    held = b",".join(rows)
    pagination: dict[str, Json] = {"start": start, "limit": limit, "more_items_in_collection": more}
    if more:
        pagination["next_start"] = start + limit
    data = b"[" + held + b"]" if held else b"null"
    told = dumps({**besides, "pagination": pagination})
    return Reply(b'{"success":true,"data":' + data + b',"additional_data":' + told + b"}")


_WORDS = {
    400: "Bad request",
    401: "unauthorized access",
    402: "Payment required",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    410: "Gone: this endpoint is out of support",
    429: "request over limit",
}
_BANNED = (
    b"<!DOCTYPE html><html><head><title>Attention Required!</title></head>"
    b"<body><h1>Sorry, you have been blocked</h1></body></html>\n"
)


def error(status: int, message: str, mode: str) -> Reply:
    """An error of the API itself, in the shape that is switched on."""
    told = message or _WORDS[status]
    if mode == "html":
        return Reply(f"<html><body><h1>{status} {told}</h1></body></html>".encode(), status, "text/html")
    envelope: dict[str, Json] = {
        "success": False,
        "error": told,
        "errorCode": status,
        "error_info": "Please check developers.pipedrive.com",
    }
    if mode == "documented":
        envelope |= {"data": None, "additional_data": None}
    headers = {"x-401-by-gw": "true"} if status == 401 else {}
    return Reply(dumps(envelope), status, headers=headers)


def too_many(mode: str) -> Reply:
    """A 429: nobody wrote down what its body is."""
    if mode == "json":
        return error(429, "", "live")
    return Reply(b"Too Many Requests\n" if mode == "text" else b"", 429, "text/plain")


def banned() -> Reply:
    """What the guard in front of the API says to who ignored its 429s: HTML, and nothing of limits."""
    return Reply(_BANNED, 403, "text/html; charset=UTF-8")
