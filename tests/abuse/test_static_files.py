"""Paths out of the dashboard's folder, as they come over the wire; the app's own are in ``test_rest_gate``."""

import pytest

from tests.abuse.target import Http, Target

WAYS_OUT = [
    "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/%2e%2e%2fapp.py",
    "/static/..;/app.py",
    "/static/....//app.py", "/static/..\\app.py", "/static/..%5capp.py", "/static/%252e%252e%252fapp.py",
    "/static/%c0%ae%c0%ae/app.py", "/static/%uff0e%uff0e/app.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd",
    "/static/index.html%00.py", "/static/./../../settings.py", "/../app.py", "/..%2f..%2fapp.py", "//app.py",
    "/static/__init__.py", "/static/.", "/static/..", "/static/%2e", "/static/session.js/..", "/static/session.js%2f..",
    "/static/SESSION.JS", "/static/session.js%20", "/static/session.js::$DATA", "/static/~root", "/static/C:/x",
    "http://x/static/../app.py", "/static/?/../../app.py", "/static/#/../app.py", "/.git/config", "/static/.git",
]  # fmt: skip


@pytest.mark.parametrize("path", WAYS_OUT)
def test_no_path_leads_out_of_the_pages_folder(unharmed: Target, path: str) -> None:
    with Http(unharmed) as http:
        http.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = http.answer()
    assert answer.status in (400, 404)
    assert b"import" not in answer.body
    assert b"root:" not in answer.body
