"""A socket to serve on."""

import errno
import socket

from collector.model.errors import ConfigError

BACKLOG = 2048


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens; ConfigError with one line that says why it cannot, and ``option`` where the port is taken.

    Its protocol is named, since asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it every answer
    waits about 40 ms for the client's delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"{where} is in use; choose another with {option}") from error
        raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from error
    return listener
