"""Where the server listens and who may come: checked before anything heavy is loaded."""

import errno
import ipaddress
import socket
from pathlib import Path

from probe_engine.errors import SettingsError

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening-to-be socket; ``SettingsError`` in one line where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"{in_url(host)}:{port} is in use; choose another with --port") from error
        raise SettingsError(f"{in_url(host)}:{port} cannot be bound: {error.strerror or error}") from error
    return listener


def read_token(host: str, path: Path | None) -> str | None:
    """The token that callers must show, None when nobody must; ``SettingsError`` where one is needed and missing."""
    if path is not None:
        return read_secret(path)
    if not is_loopback(host):
        raise SettingsError(f"--host {host} is reachable from other machines; give --auth-token-file")
    return None


def read_secret(path: Path) -> str:
    """The one token that the file ``path`` holds; ``SettingsError`` where it holds none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the token cannot be read: {error}") from error
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise SettingsError(f"{path}: holds no token; one line of ASCII without spaces is expected")
    return token


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def in_url(host: str) -> str:
    """``host`` as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
