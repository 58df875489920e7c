"""Stands for Slack, or for a receiver of yours: prints what it is sent, and takes it.

    python print_receiver.py [PORT]      # 9000, needs nothing but Python

In poller's environment, as this one is on the same machine:

    POLLER_SLACK_URL=http://127.0.0.1:9000/
    POLLER_WEBHOOKS__SLACK__ALLOW_PRIVATE='["127.0.0.0/8"]'
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    """Takes every POST."""

    def do_POST(self) -> None:
        """Print the body and say 200."""
        print(self.rfile.read(int(self.headers["content-length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        """The body says it all."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 9000), Receiver) as server:
        print(f"listening on http://127.0.0.1:{server.server_address[1]}/", flush=True)
        server.serve_forever()
