"""Build the dashboard's application and serve it, without loading FastAPI before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm_cachetrack.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .source import DashboardStore

__all__ = [
    "create_app",
    "is_loopback",
    "serve",
]

_MISSING = "the dashboard needs some packages more: pip install 'rlm_cachetrack[dashboard]'"


def create_app(source: DashboardStore, *, token: str | None = None, hosts: frozenset[str] | None = None) -> FastAPI:
    """The ASGI application.

    Args:
        source: What it reads from.
        token: Who does not know it sees nothing; None: everybody who can connect.
        hosts: The names under which it answers; None: any. It guards a server without token against pages of other
            sites that let their name point to this machine.

    Raises:
        ConfigError: The extra is not installed.
    """
    try:
        from .application import build
    except ImportError as exc:
        raise ConfigError(_MISSING) from exc
    return build(source, token=token, hosts=hosts)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to the address."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def serve(app: FastAPI, host: str, port: int, *, started: object = None) -> None:
    """Serve until interrupted. Blocks.

    Args:
        app: Of :func:`create_app`.
        host: The address to listen on.
        port: 0 takes a free one.
        started: Called with the port once the server listens, where it is a function.

    Raises:
        ConfigError: The address or port cannot be had.
    """
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as exc:
        listening.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {exc.strerror}; --port 0 takes a free one") from exc
    with listening:
        listening.listen(128)
        if callable(started):
            started(listening.getsockname()[1])
        # No access log: an address may hold a token or the name of a query. Open event streams end with the server.
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listening])
