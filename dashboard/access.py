"""Who a request comes from and what they may do: by token, or by what a trusted proxy says of its user.

Viewers see everything. Operators also change things beyond the dashboard: silences, responses, replays.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from ipaddress import IPv4Network, IPv6Network, ip_address

from werkzeug.datastructures import Headers

EVERYONE = "*"


class Role(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: the name that a proxy or Basic authentication gives, and a role."""

    name: str
    role: Role

    def may(self, needed: Role) -> bool:
        """Whether what needs ``needed`` is allowed."""
        return needed is Role.VIEWER or self.role is Role.OPERATOR


@dataclass(frozen=True, slots=True)
class Access:
    """How people are told apart. Without tokens and proxies, whoever reaches the server is its operator.

    ``proxies`` are the networks from which ``user_header`` is believed; their users are viewers but for those in
    ``operators`` (``*``: all). Where there is no ``operator_token``, the viewers' token is the operators' too.
    """

    viewer_token: str | None = None
    operator_token: str | None = None
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    user_header: str = "X-Forwarded-User"
    operators: frozenset[str] = frozenset()

    @property
    def open(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.viewer_token is None and self.operator_token is None and not self.proxies

    def who(self, remote: str, headers: Mapping[str, str] | Headers) -> Person | None:
        """Who sends these ``headers`` from the address ``remote``; None for a stranger."""
        if self.open:
            return Person("local", Role.OPERATOR)
        user = headers.get(self.user_header, "").strip()
        if user and self._is_proxy(remote):
            operates = user in self.operators or EVERYONE in self.operators
            return Person(user, Role.OPERATOR if operates else Role.VIEWER)
        name, token = credential(headers.get("Authorization", ""))
        if _same(token, self.operator_token):
            return Person(name or "operator", Role.OPERATOR)
        if _same(token, self.viewer_token):
            shared = self.operator_token is None and not self.proxies
            return Person(name or "viewer", Role.OPERATOR if shared else Role.VIEWER)
        return None

    def _is_proxy(self, remote: str) -> bool:
        try:
            address = ip_address(remote)
        except ValueError:
            return False
        return any(address in network for network in self.proxies)


def credential(authorization: str) -> tuple[str, str]:
    """(user, token) of an Authorization header: Bearer has no user, Basic has the token as its password."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return "", rest.strip()
    if scheme.lower() == "basic":
        try:
            user, _, token = b64decode(rest, validate=True).decode("utf-8").partition(":")
        except (Base64Error, UnicodeDecodeError):
            return "", ""
        return user, token
    return "", ""


def _same(given: str, wanted: str | None) -> bool:
    return wanted is not None and compare_digest(given.encode(), wanted.encode())
