"""Tokens that are not quite ours, each made from one that is good."""

import base64
import hmac
import json
from typing import Any

from jobctl import auth

HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
"""What everybody may know is no secret, though it is more than 32 bytes (RFC 8725 section 2.1)."""


def b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


class Forger:
    """Knows the secret, and the present in seconds: what is wrong with a token of his is that one thing alone."""

    def __init__(self, secret: bytes, now: float) -> None:
        self.secret = secret
        self.now = now
        self.claims: dict[str, Any] = {
            "iss": "jobctl",
            "aud": "jobctl",
            "sub": "ann",
            "role": "user",
            "iat": int(now),
            "exp": int(now) + 900,
            "jti": "t1",
        }

    def signed(
        self, claims: object, header: object = HEADER, *, secret: bytes | None = None, digest: str = "sha256"
    ) -> str:
        """A token put together by hand, as a forger does."""
        parts = [
            each if isinstance(each, bytes) else json.dumps(each, separators=(",", ":")).encode()
            for each in (header, claims)
        ]
        head = b".".join(map(b64, parts))
        key = self.secret if secret is None else secret
        return (head + b"." + b64(hmac.new(key, head, digest).digest())).decode()

    def without(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.claims.items() if key != name}

    def unsigned(self, algorithm: object) -> str:
        head, body, _ = self.signed(self.claims, HEADER | {"alg": algorithm}).split(".")
        return f"{head}.{body}."

    @property
    def good(self) -> str:
        return self.signed(self.claims)

    def forgeries(self) -> dict[str, str]:
        """By what is wrong with each."""
        claims, now, good = self.claims, self.now, self.good
        signed, unsigned, without = self.signed, self.unsigned, self.without
        head, body, signature = good.split(".")
        return {
            **{f"alg {each}": unsigned(each) for each in ("none", "None", "NONE", "nOnE", "", "null", None, 0, [], {})},
            **{
                f"alg {each}, signed": signed(claims, HEADER | {"alg": each})
                for each in ("none", "hs256", "HS257", None, ["HS256"])
            },
            "alg HS512": signed(claims, HEADER | {"alg": "HS512"}, digest="sha512"),
            "alg RS256": signed(claims, HEADER | {"alg": "RS256"}),
            "alg ES256": signed(claims, HEADER | {"alg": "ES256"}),
            "no alg": signed(claims, {"typ": "JWT"}),
            "alg is a lone surrogate": signed(claims, b'{"alg":"\\ud800"}'),
            "another secret": signed(claims, secret=b"x" * 32),
            "an empty secret": signed(claims, secret=b""),
            "another's key offered": signed(claims, HEADER | {"jwk": {"kty": "oct", "k": "eA"}}, secret=b"x"),
            "a key from elsewhere": signed(claims, HEADER | {"jku": "https://evil.example", "kid": "1"}, secret=b"x"),
            "kid is a path": signed(claims, HEADER | {"kid": "../../dev/null"}, secret=b""),
            "kid is no text": signed(claims, HEADER | {"kid": 1}),
            "an unknown extension": signed(claims, HEADER | {"crit": ["x"], "x": 1}),
            "a detached payload": signed(claims, HEADER | {"crit": ["b64"], "b64": False}),
            "no signature": f"{head}.{body}.",
            "no last dot": f"{head}.{body}",
            "a cut signature": good[:-4],
            "another body": f"{head}.{signed(claims | {'role': 'admin'}).split('.')[1]}.{signature}",
            "a part too many": f"{good}.x",
            "an empty part": good.replace(".", "..", 1),
            "space before": f" {good}",
            "a line after": f"{good}\n",
            "the scheme": f"Bearer {good}",
            "not Base64": f"{head}.!!!.{signature}",
            "nothing": "",
            "dots": "..",
            "NUL": "\x00",
            "not ASCII": f"{good}ü",
            "a lone surrogate": "\ud800",
            "huge": "a" * 1_000_000,
            "huge, signed": signed(claims | {"x": "y" * auth.MAX_TOKEN}),
            "a body that is a list": signed([1]),
            "a body that is a number": signed(1),
            "a body that is no JSON": signed(b"{"),
            "a body that is no UTF-8": signed(b'{"sub":"\xff"}'),
            "a body of brackets": signed(b"[" * 2500 + b"]" * 2500),
            "a header of brackets": signed(claims, b"[" * 2500 + b"]" * 2500),
            "a header with brackets, not ours": signed(
                claims, b'{"alg":"HS256","x":' + b"[" * 2500 + b"]" * 2500 + b"}", secret=b"x" * 32
            ),
            "a header that is a list": signed(claims, []),
            "a header that is null": signed(claims, b"null"),
            **{f"without {each}": signed(without(each)) for each in claims},
            **{f"{each} is null": signed(claims | {each: None}) for each in claims},
            **{f"{each} is a list": signed(claims | {each: [claims[each]]}) for each in claims},
            **{f"{each} is an object": signed(claims | {each: {"a": 1}}) for each in claims},
            **{f"{each} is a number": signed(claims | {each: 1}) for each in ("iss", "aud", "sub", "role", "jti")},
            **{f"{each} is text": signed(claims | {each: str(claims[each])}) for each in ("iat", "exp")},
            **{f"{each} is true": signed(claims | {each: True}) for each in claims},
            **{f"{each} is NaN": signed(claims | {each: float("nan")}) for each in ("iat", "exp")},
            **{f"{each} is infinite": signed(claims | {each: float("inf")}) for each in ("iat", "exp")},
            **{f"{each} is negative": signed(claims | {each: -1}) for each in ("iat", "exp")},
            "exp has 400 digits": signed(claims | {"exp": 10**400}),
            "exp is far beyond": signed(claims | {"exp": 10**11}),
            "expired": signed(claims | {"exp": int(now) - 1}),
            "expired this second": signed(claims | {"exp": now}),
            "issued in the future": signed(claims | {"iat": int(now) + 60}),
            "not yet valid": signed(claims | {"nbf": 10**10}),
            "another issuer": signed(claims | {"iss": "other"}),
            "another audience": signed(claims | {"aud": "other"}),
            "an audience among others": signed(claims | {"aud": ["jobctl", "other"]}),
            "an unknown role": signed(claims | {"role": "root"}),
            "a role in capitals": signed(claims | {"role": "Admin"}),
            "an empty role": signed(claims | {"role": ""}),
            "an empty subject": signed(claims | {"sub": ""}),
            "a long subject": signed(claims | {"sub": "a" * 201}),
            "a schedule's subject": signed(claims | {"sub": "schedule:nightly"}),
            "a subject of two lines": signed(claims | {"sub": "a\nb"}),
            "a subject that turns round": signed(claims | {"sub": "a\u202eb"}),
            "a subject with a lone surrogate": signed(claims | {"sub": "\ud800"}),
            "an id with a lone surrogate": signed(claims | {"jti": "\ud800"}),
            **{
                f"sid is {each!r}": signed(claims | {"sid": each})
                for each in ("", 1, True, ["s"], {}, "a\nb", "\ud800", "a" * 201)
            },
            "an empty id": signed(claims | {"jti": ""}),
            "a long id": signed(claims | {"jti": "a" * 201}),
            "alg HS384": signed(claims, HEADER | {"alg": "HS384"}, digest="sha384"),
            "a certificate from elsewhere": signed(
                claims, HEADER | {"x5u": "https://evil.example/x", "kid": "1"}, secret=b"x"
            ),
            "a certificate of its own": signed(claims, HEADER | {"x5c": ["MIIB"], "alg": "RS256"}),
            "a public key as the secret": signed(claims, secret=PUBLIC_KEY.encode()),
            "a public key as the secret, offered": signed(
                claims, HEADER | {"jwk": {"kty": "RSA", "n": "x", "e": "AQAB"}}, secret=PUBLIC_KEY.encode()
            ),
            "kid is SQL": signed(claims, HEADER | {"kid": "' UNION SELECT 'x"}, secret=b"x"),
            "five parts, as of an encrypted one": f"{good}.{body}.{signature}",
            "a role twice, the last is admin": signed(
                json.dumps(claims).encode().replace(b'"role": "user"', b'"role": "user", "role": "root"')
            ),
            "a signature in ordinary Base64": f"{head}.{body}.+/{signature[2:]}",
            "another's head": f"{unsigned('none').split('.')[0]}.{body}.{signature}",
        }
