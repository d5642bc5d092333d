"""A socket to serve on, or one line that says why not."""

import socket

import pytest

from collector.model.errors import ConfigError
from collector.model.listening import listen


def test_a_port_in_use_is_named_with_the_option_that_changes_it() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            listen("127.0.0.1", port, "--otlp-port")
    assert str(caught.value) == f"127.0.0.1:{port} is in use; choose another with --otlp-port"


@pytest.mark.parametrize(("host", "reason"), [("192.0.2.1", "Cannot assign requested address"), ("no.invalid", "")])
def test_any_other_reason_is_told_as_it_is(host: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        listen(host, 0)
    assert str(caught.value).startswith(f"cannot listen on {host}:0: {reason}")
    assert "in use" not in str(caught.value)


def test_a_connection_is_taken() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        taken, _ = listener.accept()
        taken.close()
