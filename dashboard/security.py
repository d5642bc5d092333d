"""Who may talk to the dashboard, and what its pages may load: one guard before every request, headers after it."""

from base64 import b64encode
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe

from flask import Flask, Request, Response, g, request

from dashboard.access import Access
from dashboard.answers import catalogue_of_request

CSRF_COOKIE = "_csrf_token"
CSRF_HEADER = "X-CSRFToken"
MAX_BODY_BYTES = 1_000_000


def protect(server: Flask, *, access: Access, open_path: str, script_hashes: list[str]) -> None:
    """Install guard and headers on ``server``.

    Every path but ``open_path`` (health) is for those whom ``access`` knows; who it is stands in ``flask.g.person``.
    Browsers ask their user for a token as the password of Basic authentication. A POST must return the CSRF cookie in
    a header, which Dash's own page does. ``script_hashes`` are those of the page's inline scripts, quoted as CSP wants.
    """
    policy = content_security_policy(script_hashes)
    server.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES

    @server.before_request
    def guard() -> Response | None:
        if request.path == open_path:
            return None
        person = access.who(request.remote_addr or "", request.headers)
        if person is None:
            challenge = {"WWW-Authenticate": 'Basic realm="Loadline", charset="UTF-8"'}
            return Response(_said("401: a token is needed"), 401, challenge, mimetype="text/plain")
        if request.method not in ("GET", "HEAD", "OPTIONS") and not _csrf_holds(request):
            why = _said("403: the request does not come from a page of this dashboard")
            return Response(why, 403, mimetype="text/plain")
        g.person = person
        return None

    @server.after_request
    def headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        if response.mimetype == "text/html" and CSRF_COOKIE not in request.cookies:
            response.set_cookie(CSRF_COOKIE, token_urlsafe(24), samesite="Strict", secure=request.is_secure)
        return response


def _said(text: str) -> str:
    return catalogue_of_request().of(text) + "\n"


def content_security_policy(script_hashes: list[str]) -> str:
    """Everything from this server, scripts also by hash; Plotly writes styles, so those may be inline."""
    return "; ".join(
        [
            "default-src 'self'",
            " ".join(["script-src 'self'", *script_hashes]),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "object-src 'none'",
        ]
    )


def script_hash(text: str) -> str:
    """CSP source for one inline script."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _csrf_holds(asked: Request) -> bool:
    cookie, header = asked.cookies.get(CSRF_COOKIE, ""), asked.headers.get(CSRF_HEADER, "")
    return bool(cookie) and compare_digest(cookie.encode(), header.encode())
