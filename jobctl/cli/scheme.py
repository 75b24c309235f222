"""Is it http or https that is spoken there? Asked only after the other one has failed."""

import http.client
import socket
import ssl
from typing import Final

from jobctl.client.address import Address

ANSWER_S: Final = 2.0


def speaks_tls(address: Address) -> bool:
    """Whether a TLS handshake succeeds, whatever the certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent; only its protocol is asked
    try:
        with (
            socket.create_connection((address.host, address.port), ANSWER_S) as plain,
            context.wrap_socket(plain, server_hostname=address.host),
        ):
            return True
    except (OSError, ValueError):
        return False


def speaks_http(address: Address) -> bool:
    """Whether plain HTTP is answered, with whatever status."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=ANSWER_S)
    try:
        connection.request("GET", f"{address.prefix}/healthz")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
