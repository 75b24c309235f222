"""The server's certificate: read at the start, and again at a SIGHUP, when it was renewed."""

import hashlib
import ssl

from jobctl.errors import StartupError
from jobctl.settings import Settings


def context(settings: Settings) -> ssl.SSLContext | None:
    """What TLS is served with; None where it is not.

    Raises:
        StartupError: the certificate or its key cannot be used.
    """
    if settings.certfile is None or settings.keyfile is None:
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load(made, settings)
    return made


def load(into: ssl.SSLContext, settings: Settings) -> None:
    """Use what stands in the files now, for connections from now on.

    Raises:
        StartupError: it cannot be used; ``into`` is as it was.
    """
    if settings.certfile is None:
        return
    try:
        for each in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), into):  # first see whether the two fit
            each.load_cert_chain(settings.certfile, settings.keyfile, password=_none_is_asked_for)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"cannot use the certificate {settings.certfile}: {error}") from None


def contents(settings: Settings) -> bytes | None:
    """A digest of what stands in the files now, to see whether they were renewed; None without TLS, or unreadable."""
    if settings.certfile is None or settings.keyfile is None:
        return None
    try:
        return hashlib.sha256(settings.certfile.read_bytes() + settings.keyfile.read_bytes()).digest()
    except OSError:
        return None


def _none_is_asked_for() -> str:
    """OpenSSL would ask the terminal for a passphrase, and the whole server wait for it, at a SIGHUP too."""
    raise StartupError("the certificate's key has a passphrase; give the server one without, that only it can read")
