"""Access control of the dashboard: no request reaches a page unless this middleware admits it.

Decides on ``scope["path"]``, the path that the routes are matched against. ``request.url`` is unsuitable: Starlette
builds it from the Host header, which the client chooses.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    import jinja2
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "rlm_cachetrack_token"
_COOKIE_AGE_S = 30 * 24 * 3600
_MAX_FORM_BYTES = 10_000
_LOGIN = "/login"
_WITHOUT_TOKEN = frozenset({"/static/app.css"})
"""Paths that are served without a token, because the login page needs them."""

# Scripts and style sheets load from this server only. Style attributes have shares of bars, data: the empty icon.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class AccessControl:
    """ASGI middleware: the token, the accepted hosts, the login page, and the security headers of every response.

    Args:
        app: The application that receives admitted requests.
        token: Required from every client; None: every client that can connect has access.
        hosts: Accepted values of the Host header, without a port; None: any.
        templates: Contains the login page.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: frozenset[str] | None, templates: jinja2.Environment
    ) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts
        self._form = templates.get_template("login.html")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection: forward it if it is admitted, otherwise respond to it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            respond = await self._own_response(Request(scope, receive)) or self._app
            await respond(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # there are none; before accept: HTTP status 403

    async def _own_response(self, request: Request) -> Response | None:
        """Return the response to a request that is not forwarded; None if it is admitted."""
        if self._hosts is not None and not self._is_known_host(request):
            return JSONResponse({"detail": "the Host header names another server"}, 421)
        if self._token is None:
            return None
        path = request.scope["path"]
        if path == _LOGIN:
            return await self._login(request, self._token)
        if path in _WITHOUT_TOKEN or _is_authenticated(request, self._token):
            return None
        given = request.query_params.get("token", "")
        if request.method == "GET" and _is_equal(given, self._token):
            return self._redirect_without_token(request, self._token)
        if path.startswith("/api/"):
            return JSONResponse({"detail": "a token is required"}, 401, {"WWW-Authenticate": "Bearer"})
        return self._login_page(401, is_wrong=bool(given))

    def _is_known_host(self, request: Request) -> bool:
        given = request.headers.getlist("host")
        if len(given) != 1 or self._hosts is None:
            return False
        name, _, port = given[0].rpartition(":")
        return (name if port.isdigit() else given[0]).lower() in self._hosts

    async def _login(self, request: Request, token: str) -> Response:
        """Return the login form, or check the one that was sent."""
        if request.method in ("GET", "HEAD"):
            return self._login_page(200, is_wrong=False)
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "GET, HEAD, POST"})
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_FORM_BYTES:
                return self._login_page(413, is_wrong=True)
        given = dict(parse_qsl(body.decode("utf-8", "replace"))).get("token", "")
        if _is_equal(given, token):
            return _with_cookie(RedirectResponse("/", 303), token)
        return self._login_page(401, is_wrong=True)

    def _login_page(self, status: int, *, is_wrong: bool) -> Response:
        return HTMLResponse(self._form.render(is_wrong=is_wrong), status)

    @staticmethod
    def _redirect_without_token(request: Request, token: str) -> Response:
        """Redirect to an address without the token, which would stay in the history and in copied links."""
        rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
        # Two leading slashes, or a slash and a backslash, would be the address of another server.
        path = "/" + quote(request.scope["path"].lstrip("/\\"))
        return _with_cookie(RedirectResponse(f"{path}?{rest}" if rest else path, 303), token)


def _is_authenticated(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _is_equal(given.strip(), token):
        return True
    return _is_equal(request.cookies.get(_COOKIE, ""), _cookie_value(token))


def _cookie_value(token: str) -> str:
    """Return the value of the cookie, which grants access but does not reveal the token."""
    return hashlib.sha256(f"rlm_cachetrack dashboard\0{token}".encode()).hexdigest()


def _is_equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


def _with_cookie(response: Response, token: str) -> Response:
    response.set_cookie(_COOKIE, _cookie_value(token), httponly=True, samesite="strict", max_age=_COOKIE_AGE_S)
    return response


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
