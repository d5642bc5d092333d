"""How a target is spoken to: credentials, TLS, proxy, redirects, and the connections for that.

Files of passwords and tokens are read at every request, so that they may be changed under a running collector;
certificates are read when the configuration is.
"""

import base64
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from collector.model.errors import ConfigError
from collector.scrape.document import Fields
from collector.scrape.oauth2 import OAuth2, Tokens
from collector.scrape.secret import Secret

CREDENTIAL_KEYS = ("basic_auth", "authorization", "bearer_token", "bearer_token_file", "oauth2")
KEYS = (*CREDENTIAL_KEYS, "tls_config", "proxy_url", "follow_redirects")
BASIC_KEYS = ("username", "username_file", "password", "password_file")
AUTHORIZATION_KEYS = ("type", "credentials", "credentials_file")
OAUTH2_KEYS = (
    "client_id",
    "client_secret",
    "client_secret_file",
    "token_url",
    "scopes",
    "endpoint_params",
    "tls_config",
    "proxy_url",
)
TLS_KEYS = ("ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What goes into the Authorization header; ``username`` with the type ``Basic`` only."""

    type: str
    secret: Secret
    username: Secret = Secret()

    def header(self) -> str:
        """The header's value now; ConfigError where a file cannot be read."""
        if self.type != "Basic" or self.username == Secret():
            return f"{self.type} {self.secret.read()}"
        pair = f"{self.username.read()}:{self.secret.read()}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust and who we are; None stands for the system's authorities and for no certificate of ours."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False

    def stamp(self) -> tuple[int, ...]:
        """When each of the files was changed last; 0 for one that is not there."""
        paths = (path for path in (self.ca_file, self.cert_file, self.key_file) if path is not None)
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)

    def context(self) -> ssl.SSLContext:
        """The TLS context; ConfigError naming the file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigError(f"ca_file {self.ca_file}: cannot be used: {error}") from error
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except OSError as error:
                raise ConfigError(f"cert_file {self.cert_file}: cannot be used: {error}") from error
        return context


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """A token by OAuth 2, and how the server that gives it is spoken to."""

    settings: OAuth2
    tls: Tls = Tls()
    proxy_url: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that decides how a request is made, beside its address."""

    credentials: Credentials | None = None
    tls: Tls = Tls()
    follow_redirects: bool = True
    proxy_url: str | None = None
    oauth2: TokenAccess | None = None

    def headers(self) -> dict[str, str]:
        """Headers to send now; ConfigError where a file of credentials cannot be read."""
        return {} if self.credentials is None else {"Authorization": self.credentials.header()}

    def extensions(self) -> dict[str, str]:
        """What httpx is told beside: the name that the server's certificate should bear."""
        return {"sni_hostname": self.tls.server_name} if self.tls.server_name else {}


OPEN = Access()
"""No credentials, the system's authorities."""


class Clients:
    """Makes one HTTP client for each target: a pool shared by a thousand looks at every connection at each request.

    Contexts of TLS are shared, and made anew once a certificate's file has changed; so are tokens of OAuth 2.
    """

    def __init__(self) -> None:
        self._contexts: dict[Tls, tuple[tuple[int, ...], ssl.SSLContext]] = {}
        self._tokens: dict[TokenAccess, Tokens] = {}

    def context(self, tls: Tls) -> ssl.SSLContext:
        """The TLS context as the files are now; ConfigError naming the one that cannot be used."""
        stamp = tls.stamp()
        known = self._contexts.get(tls)
        if known is None or known[0] != stamp:
            known = self._contexts[tls] = (stamp, tls.context())
        return known[1]

    def check(self, access: Access) -> None:
        """ConfigError naming the certificate that cannot be used."""
        self.context(access.tls)
        if access.oauth2 is not None:
            self.context(access.oauth2.tls)

    def open(self, access: Access) -> httpx.AsyncClient:
        """A client that keeps its connection between requests, heeds no proxy of the environment and waits for ever."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=2, keepalive_expiry=300.0)
        return httpx.AsyncClient(
            verify=self.context(access.tls),
            trust_env=False,
            limits=limits,
            timeout=None,  # noqa: S113
            proxy=access.proxy_url,
            auth=None if access.oauth2 is None else self._tokens_of(access.oauth2),
        )

    def _tokens_of(self, given: TokenAccess) -> Tokens:
        if given not in self._tokens:
            self._tokens[given] = Tokens(given.settings, partial(self.context, given.tls), given.proxy_url)
        return self._tokens[given]


def read_access(fields: Fields, folder: Path) -> Access:
    """The access keys of a scrape configuration or of HTTP discovery; relative paths begin at ``folder``."""
    given = [key for key in CREDENTIAL_KEYS if key in fields]
    if len(given) > 1:
        fields.fault(given[1], f"stands beside {given[0]}; one of the two is allowed")
    credentials = _read_basic(fields, folder) or _read_authorization(fields, folder) or _read_bearer(fields, folder)
    return Access(
        credentials,
        _read_tls(fields, folder),
        fields.boolean("follow_redirects", True),
        fields.read("proxy_url", None, _proxy),
        _read_oauth2(fields, folder),
    )


def _read_basic(fields: Fields, folder: Path) -> Credentials | None:
    basic = fields.within("basic_auth", BASIC_KEYS)
    if basic is None:
        return None
    username, password = _secret(basic, "username", folder), _secret(basic, "password", folder)
    if username == Secret():
        basic.fault("username", "is absent; basic_auth needs one")
    return Credentials("Basic", password, username)


def _read_authorization(fields: Fields, folder: Path) -> Credentials | None:
    given = fields.within("authorization", AUTHORIZATION_KEYS)
    if given is None:
        return None
    kind = given.text("type", "Bearer").strip() or "Bearer"
    if kind.lower() == "basic":
        given.fault("type", f'"{kind}"; use basic_auth for that')
    return Credentials(kind, _secret(given, "credentials", folder))


def _read_bearer(fields: Fields, folder: Path) -> Credentials | None:
    secret = _secret(fields, "bearer_token", folder)
    return None if secret == Secret() else Credentials("Bearer", secret)


def _read_oauth2(fields: Fields, folder: Path) -> TokenAccess | None:
    given = fields.within("oauth2", OAUTH2_KEYS)
    if given is None:
        return None
    for key in ("client_id", "token_url"):
        if key not in given:
            given.fault(key, "is absent; oauth2 needs one")
    settings = OAuth2(
        client_id=given.text("client_id"),
        secret=_secret(given, "client_secret", folder),
        token_url=given.read("token_url", "", _address),
        scopes=given.texts("scopes"),
        parameters=tuple(given.named("endpoint_params").items()),
    )
    return TokenAccess(settings, _read_tls(given, folder), given.read("proxy_url", None, _proxy))


def _read_tls(fields: Fields, folder: Path) -> Tls:
    tls = fields.within("tls_config", TLS_KEYS)
    if tls is None:
        return Tls()
    if ("cert_file" in tls) != ("key_file" in tls):
        tls.fault("cert_file" if "cert_file" in tls else "key_file", "stands alone; cert_file and key_file go together")
    return Tls(
        ca_file=_path(tls, "ca_file", folder),
        cert_file=_path(tls, "cert_file", folder),
        key_file=_path(tls, "key_file", folder),
        server_name=tls.text("server_name"),
        insecure_skip_verify=tls.boolean("insecure_skip_verify", False),
    )


def _secret(fields: Fields, key: str, folder: Path) -> Secret:
    if key in fields and f"{key}_file" in fields:
        fields.fault(f"{key}_file", f"stands beside {key}; one of the two is allowed")
    return Secret(fields.text(key), _path(fields, f"{key}_file", folder))


def _path(fields: Fields, key: str, folder: Path) -> Path | None:
    text = fields.text(key)
    return folder / text if text else None


def _proxy(text: str) -> str | None:
    _address(text, "a proxy looks like http://proxy:3128")
    return text


def _address(text: str, allowed: str = "an address looks like https://host/token") -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(allowed)
    return text
