"""One example sent now, outside of every queue, and what is to be thought of the answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from poller.model import Event, dumps, rfc3339

from . import retry
from .formats import FORMATS
from .outbound import Answer
from .retry import Verdict
from .settings import EndpointSettings, outbound_for

TEST_TYPE = "poller.webhook.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was sent, what came back, and the verdict. Holds no secret."""

    headers: Mapping[str, str]
    body: bytes
    answer: Answer
    ok: bool
    verdict: str


def example(endpoint: str, *, now: float, chance: Callable[[], float], type_: str = TEST_TYPE) -> Event:
    """Make an example event; its id is new each time, so that no receiver takes it for a repeat."""
    event_id, at = f"evt_{int(chance() * 2**64):016x}{int(now * 1000):x}", rfc3339(now)
    body = dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/poller/{endpoint}",
            "type": type_,
            "subject": f"webhook/{endpoint}",
            "time": at,
            "datacontenttype": "application/json",
            "data": {
                "object": {"endpoint": endpoint, "message": "A test from poller: nothing has changed."},
                "previous": {},
                "changed": [],
                "observed": {"not_before": at, "not_after": at},
                "revision": 1,
            },
        }
    )
    return Event(id=event_id, type=type_, subject=f"webhook/{endpoint}", time=at, body=body)


async def send(settings: EndpointSettings, event: Event, *, now: float) -> Trial:
    """Send `event` once, by the endpoint's own format, secrets and guard."""
    request = FORMATS[settings.format](
        event, secrets=settings.secrets, at=now, content_type=settings.content_type
    )
    headers = {**settings.headers, **request.headers}
    outbound = outbound_for(settings)
    try:
        answer = await outbound.post(body=request.body, headers=headers)
    finally:
        await outbound.close()
    # The signature proves this one body and tells nothing of the secret; what the settings add may be one.
    shown = {**dict.fromkeys(settings.headers, "(set)"), **request.headers}
    judged = retry.judge(answer.status, retry_after=answer.retry_after, now=now)
    return Trial(
        headers=shown,
        body=request.body,
        answer=answer,
        ok=judged.verdict is Verdict.TAKEN,
        verdict=_verdict(answer, judged),
    )


_FAULTS = {
    "blocked": "not sent: {detail}",
    "dns": "its name does not resolve ({detail}); check the host in `url`",
    "connect": "nothing listens there ({detail}); is the receiver running, and is the port right?",
    "tls": "no secure connection ({detail}); does the certificate name this host?",
    "reset": "the connection was cut ({detail})",
    "timeout": "{detail}; answer first and work afterwards",
}


def _verdict(answer: Answer, judged: retry.Judgement) -> str:
    if answer.status is None:
        return _FAULTS.get(answer.fault, "no usable answer ({detail})").format(detail=answer.detail)
    if judged.verdict is Verdict.TAKEN:
        return f"delivered: {answer.status} in {answer.ms:.0f} ms"
    if judged.verdict is Verdict.GONE:
        return "410: a real event would disable the endpoint"
    if 300 <= answer.status < 400:
        return f"{answer.status}: redirects are not followed; put the final address into `url`"
    if judged.pause_s:
        return f"{answer.status}: asks to be left alone for {judged.pause_s:g} s"
    if answer.status in {401, 403}:
        return f"{answer.status}: refused; does the receiver know this endpoint's secret?"
    return f"{answer.status}: a failure, it would be tried again; only 2xx counts as delivered"
