"""OAuth 2 client credentials: a token is fetched, kept until it ends, and fetched again where it is refused.

Source: RFC 6749, section 4.4; the keys are Prometheus's.
"""

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from urllib.parse import quote_plus

import httpx

from collector.model.errors import ConfigError
from collector.scrape.secret import Secret

EARLY_S = 10.0
"""A token is renewed this long before it ends."""

USUAL_S = 3600.0
"""How long a token is used whose answer does not say when it ends; one that is refused is fetched again anyway."""

ANSWER_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Who we are, and where a token is given for that."""

    client_id: str
    secret: Secret
    token_url: str
    scopes: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()


class Tokens(httpx.Auth):
    """Puts a token on every request of the clients that share it. Raises ConfigError where none is to be had."""

    def __init__(
        self,
        settings: OAuth2,
        context: Callable[[], ssl.SSLContext],
        proxy_url: str | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._context = context
        self._proxy_url = proxy_url
        self._now_s = now_s
        self._turn = asyncio.Lock()
        self._token, self._ends_s = "", 0.0

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """httpx's seam: the request with a token, and once more with a new one where it is refused."""
        token = await self._current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            request.headers["Authorization"] = f"Bearer {await self._current(refused=token)}"
            yield request

    async def _current(self, refused: str = "") -> str:
        async with self._turn:
            if self._now_s() >= self._ends_s or self._token == refused:
                self._token, lasts_s = await self._fetch()
                self._ends_s = self._now_s() + max(0.0, lasts_s - EARLY_S)
            return self._token

    async def _fetch(self) -> tuple[str, float]:
        """A token, and how long it lasts in seconds."""
        given, url = self._settings, self._settings.token_url
        secret = await asyncio.to_thread(given.secret.read)
        pair = f"{quote_plus(given.client_id)}:{quote_plus(secret)}"
        headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode(), "Accept": "application/json"}
        form = {"grant_type": "client_credentials", **dict(given.parameters)}
        if given.scopes:
            form["scope"] = " ".join(given.scopes)
        try:
            async with httpx.AsyncClient(
                verify=self._context(), trust_env=False, proxy=self._proxy_url, timeout=ANSWER_TIMEOUT_S
            ) as http:
                answer = await http.post(url, data=form, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise ConfigError(f"token_url {url}: cannot be reached: {str(error) or type(error).__name__}") from error
        if answer.status_code != 200 or len(answer.content) > MAX_ANSWER_BYTES:
            said = " ".join(answer.text[:200].split())
            raise ConfigError(f"token_url {url}: answered {answer.status_code} {answer.reason_phrase}: {said}")
        try:
            read = answer.json()
            return str(read["access_token"]), float(read.get("expires_in") or USUAL_S)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"token_url {url}: its answer holds no access_token: {error!r}") from error
