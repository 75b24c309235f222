"""The server's certificate."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from jobctl import tls
from jobctl.errors import StartupError
from jobctl.settings import Settings


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    (tmp_path / "key.pem").write_bytes(locked)
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with pytest.raises(StartupError, match="has a passphrase"):
        tls.context(Settings(certfile=tmp_path / "cert.pem", keyfile=tmp_path / "key.pem"))
