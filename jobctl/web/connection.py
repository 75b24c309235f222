"""From ASGI's messages to a request and back, for the requests of one app."""

from typing import Any, Final

import trio
from quart.utils import encode_headers
from quart_trio.asgi import TrioASGIHTTPConnection

from jobctl.web.request import ApiRequest, Disconnected

ALONE: Final = frozenset({("POST", "/api/jobs")})
"""What is asked so often that it is answered in one task.

The second task of all others waits for the client to leave, to cancel whoever works for it. Enqueueing a job cannot
be cancelled once it has begun, and until then it waits for nothing but the client.
"""


class Connection(TrioASGIHTTPConnection):
    """One request."""

    async def __call__(self, receive: Any, send: Any) -> None:
        """Answer it."""
        if (self.scope["method"], self.scope["path"]) not in ALONE:
            await super().__call__(receive, send)
            return
        request = self._create_request_from_scope(send)
        assert isinstance(request, ApiRequest)  # noqa: S101 - the app's class
        request.body.receive = receive
        try:
            response = await self.app.handle_request(request)
        except Disconnected:
            return
        with trio.move_on_after(self.app.config["RESPONSE_TIMEOUT"]):
            await self._send_response(send, response)

    async def _send_response(self, send: Any, response: Any) -> None:
        """All of it, as one message beside its head: every answer here is one piece."""
        head = {"type": "http.response.start", "status": response.status_code}
        await send(head | {"headers": encode_headers(response.headers)})
        await send({"type": "http.response.body", "body": response.response.data})
