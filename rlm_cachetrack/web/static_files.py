"""The static files: compressed once, and addressed by their content, so that a browser loads each version once."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

FOLDER = Path(__file__).parent / "static"
CHART_LIBRARY = "chart.umd.min.js"
"""Chart.js, unchanged: 210 KB, 71 KB compressed.

Source: https://www.npmjs.com/package/chart.js, version 4.6.1 of 2026-10-22, read 2026-12-02.
"""
SCRIPTS = (CHART_LIBRARY, "charts.js", "app.js")
"""The scripts of a page with charts, in the order in which they run."""

_MEDIA_TYPES = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "live.js": "text/javascript",
    "charts.js": "text/javascript",
    CHART_LIBRARY: "text/javascript",
}
_DIGEST_LENGTH = 12
_LONG = "private, max-age=31536000, immutable"


@dataclass(frozen=True)
class StaticFile:
    """One file of the folder. Its content is read at first use and kept."""

    name: str
    media_type: str

    @cached_property
    def body(self) -> bytes:
        """The content."""
        return (FOLDER / self.name).read_bytes()

    @cached_property
    def compressed(self) -> bytes:
        """The content in gzip format."""
        return gzip.compress(self.body, 9, mtime=0)

    @cached_property
    def digest(self) -> str:
        """A hash of the content."""
        return hashlib.sha256(self.body).hexdigest()[:_DIGEST_LENGTH]

    def respond(self, request: Request) -> Response:
        """Return the file, compressed if the client accepts that; cached for a year if addressed by its content."""
        accepted = request.headers.get("accept-encoding", "")
        is_packed = "gzip" in accepted
        headers = {
            "Cache-Control": _LONG if request.query_params.get("v") == self.digest else "no-cache",
            "Vary": "Accept-Encoding",
            "ETag": f'"{self.digest}{"-gzip" if is_packed else ""}"',
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if is_packed:
            headers["Content-Encoding"] = "gzip"
        return Response(self.compressed if is_packed else self.body, media_type=self.media_type, headers=headers)


FILES = {name: StaticFile(name, media_type) for name, media_type in _MEDIA_TYPES.items()}


@cache
def static_url(name: str) -> str:
    """Return the address of a static file, which changes with its content."""
    return f"/static/{name}?v={FILES[name].digest}"


def router() -> APIRouter:
    """Return the routes of the static files."""
    routes = APIRouter(include_in_schema=False)
    for file in FILES.values():
        routes.add_api_route(f"/static/{file.name}", file.respond, name=f"static-{file.name}", response_class=Response)
    return routes
