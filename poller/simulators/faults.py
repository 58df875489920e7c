"""Every way in which an answer can go wrong on the wire; each is one function that sends it."""

import asyncio
import gzip
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from starlette.types import Message, Receive, Send

from poller.model import Json, dumps, loads

_CHUNK = 64 * 1024
_BAD_GATEWAY = (
    b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
)
_BROKEN = b"<!DOCTYPE html><html><body><h1>We're sorry, but something went wrong (500)</h1></body></html>\n"
_LOGIN = b"<!DOCTYPE html><html><body><h1>Sign in to continue</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API itself would say."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def with_headers(self, *more: tuple[bytes, bytes]) -> "Answer":
        return replace(self, headers=self.headers + more)


@dataclass(frozen=True, slots=True)
class Line:
    """One exchange on the wire, and the answer that would be right."""

    answer: Answer
    receive: Receive
    send: Send
    hang_up: Callable[[bool], None]
    """End the connection: True resets it, False ends it in good order after what was written."""
    size: int
    """Bytes that an oversized body has, unpacked."""


Fault: TypeAlias = Callable[[Line], Awaitable[int]]
"""Sends its own kind of answer and returns the status it named; 0 where none was."""


def typed(kind: bytes, *more: tuple[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Headers with a content type."""
    return ((b"content-type", kind), *more)


async def deliver(send: Send, answer: Answer) -> int:
    """Send an answer whole."""
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
    return answer.status


async def gone(receive: Receive) -> None:
    """Wait until the peer has left."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def _html(line: Line, status: int, body: bytes) -> int:
    return await deliver(line.send, Answer(status, typed(b"text/html; charset=utf-8"), body))


async def _http502(line: Line) -> int:
    return await _html(line, 502, _BAD_GATEWAY)


async def _http500(line: Line) -> int:
    return await _html(line, 500, _BROKEN)


async def _http503(line: Line) -> int:
    headers = typed(b"text/plain", (b"retry-after", b"1"))
    return await deliver(line.send, Answer(503, headers, b"Service Unavailable\n"))


async def _html200(line: Line) -> int:
    return await _html(line, 200, _LOGIN)


async def _json(line: Line, body: bytes) -> int:
    return await deliver(line.send, Answer(200, typed(b"application/json; charset=utf-8"), body))


async def _truncated(line: Line) -> int:
    """Half of the body, as if it were all: the length agrees, the JSON does not end."""
    return await deliver(line.send, replace(line.answer, body=line.answer.body[: len(line.answer.body) // 2]))


async def _cut(line: Line) -> int:
    """The connection ends within the body, in good order."""
    headers = [*line.answer.headers, (b"content-length", str(len(line.answer.body)).encode())]
    await line.send({"type": "http.response.start", "status": line.answer.status, "headers": headers})
    half: Message = {
        "type": "http.response.body",
        "body": line.answer.body[: len(line.answer.body) // 2],
        "more_body": True,
    }
    await line.send(half)
    line.hang_up(False)
    await gone(line.receive)
    return line.answer.status


async def _reset(line: Line) -> int:
    line.hang_up(True)
    await gone(line.receive)
    return 0


async def _hang(line: Line) -> int:
    """Never an answer: until the peer gives up, or the simulator ends."""
    await gone(line.receive)
    return 0


async def _empty(line: Line) -> int:
    """A list without a row, as if nothing were there any more; in an envelope where the API has one."""
    value = _said(line)
    if not _enveloped(value):
        return await _json(line, b"[]")
    ends: dict[str, Json] = {"has_more": False, "additional_data": {"next_cursor": None}}
    end = {name: ends[name] for name in ends.keys() & value.keys()}
    return await _json(line, dumps({**value, "data": [], **end}))


def _said(line: Line) -> Json:
    """The right answer's value; None where it is no JSON, as a page of HTML."""
    try:
        return loads(line.answer.body)
    except ValueError:
        return None


def _enveloped(value: Json) -> bool:
    return isinstance(value, dict) and isinstance(value.get("data"), list)


async def _object(line: Line) -> int:
    """An object instead of an array, and the other way round."""
    body = line.answer.body
    return await _json(line, b"[" + body + b"]" if body[:1] == b"{" else b'{"data":' + body + b"}")


def _mistyped(value: Json) -> Json:
    """Every row with each of its fields of another type; what is null stays null."""
    if isinstance(value, list):
        return [_mistyped(item) for item in value]
    if isinstance(value, dict) and isinstance(value.get("data"), list | dict):
        return {**value, "data": _mistyped(value["data"])}
    if isinstance(value, dict):
        return {name: _of_another_type(item) for name, item in value.items()}
    return {"value": value}


def _of_another_type(value: Json) -> Json:
    if isinstance(value, str):
        return 7
    if isinstance(value, dict):
        return ["things"]
    if isinstance(value, list):
        return {"thing": True}
    return None if value is None else "one hundred"


async def _wrong_types(line: Line) -> int:
    return await _json(line, dumps(_mistyped(_said(line))))


async def _huge(line: Line) -> int:
    """A body without end, in chunks, that begins as the right one does."""
    await line.send({"type": "http.response.start", "status": 200, "headers": list(line.answer.headers)})
    head, row, tail = _frame(_said(line))
    chunk = (row + b",") * max(1, _CHUNK // (len(row) + 1))
    left = asyncio.ensure_future(gone(line.receive))
    await _pour(line, head, chunk, left)
    left.cancel()
    with suppress(asyncio.CancelledError):
        await left
    await line.send({"type": "http.response.body", "body": row + tail})
    return 200


def _frame(value: Json) -> tuple[bytes, bytes, bytes]:
    """How a list begins, one row of it, and how it ends."""
    rows = value["data"] if _enveloped(value) else value
    row = dumps(rows[0]) if isinstance(rows, list) and rows else b'{"id":1}'
    return (b'{"data":[', row, b"]}") if _enveloped(value) else (b"[", row, b"]")


async def _pour(line: Line, head: bytes, chunk: bytes, left: "asyncio.Future[None]") -> None:
    await line.send({"type": "http.response.body", "body": head, "more_body": True})
    for _ in range(0, line.size, len(chunk)):
        await line.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(0)
        if left.done():
            return


@lru_cache(maxsize=4)
def bomb(size: int) -> bytes:
    """A valid gzip stream, a thousandth of `size`, that unpacks to a JSON array of `size` blanks."""
    piece = b" " * (1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(b"[" + piece) + packer.flush(zlib.Z_FULL_FLUSH)
    # What is flushed fully refers to nothing before it: the same bytes can stand there many times.
    again = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    tail = packer.compress(b"]") + packer.flush(zlib.Z_FINISH)
    repeats = max(0, size // len(piece) - 1)
    check = zlib.crc32(b"[" + piece)
    for _ in range(repeats):
        check = zlib.crc32(piece, check)
    length = len(piece) * (repeats + 1) + 2
    trailer = struct.pack("<II", zlib.crc32(b"]", check), length & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + head + again * repeats + tail + trailer


async def _gzip_bomb(line: Line) -> int:
    headers = typed(b"application/json", (b"content-encoding", b"gzip"))
    return await deliver(line.send, Answer(200, headers, bomb(line.size)))


async def _gzip_twice(line: Line) -> int:
    """The bomb packed once more: a few kilobytes on the wire."""
    headers = typed(b"application/json", (b"content-encoding", b"gzip, gzip"))
    return await deliver(line.send, Answer(200, headers, gzip.compress(bomb(line.size))))


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "http502": _http502,
        "http500": _http500,
        "http503": _http503,
        "html200": _html200,
        "truncated": _truncated,
        "cut": _cut,
        "reset": _reset,
        "hang": _hang,
        "empty": _empty,
        "object": _object,
        "wrong_types": _wrong_types,
        "huge": _huge,
        "gzip_bomb": _gzip_bomb,
        "gzip_twice": _gzip_twice,
    }
)
"""Every fault by name; `hang` lasts as long as the caller's patience, the three last are large."""


def known(names: Any) -> tuple[str, ...]:
    """The names, checked.

    Raises:
        ValueError: one of them is no fault that we can make.
    """
    unknown = sorted(set(names) - set(FAULTS))
    if unknown:
        msg = f"no such fault: {', '.join(unknown)}. There are: {', '.join(FAULTS)}."
        raise ValueError(msg)
    return tuple(names)
