"""Ask an HTTP server: what stands on loopback directly, others by way of the proxy that the environment names."""

import json
import urllib.error
from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener, getproxies

from common.config import is_loopback


def get_json(url: str, *, seconds: float) -> tuple[int, Any]:
    """Return the status and the document, None for anything but 200. Raises OSError if no server answers.

    A user and a password in the URL are sent as Basic authentication.
    """
    try:
        with build_opener(_way(url)).open(_request(url), timeout=seconds) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None


def _way(url: str) -> ProxyHandler:
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):
        return ProxyHandler({})
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")  # urllib itself passes over ALL_PROXY
    return ProxyHandler({parts.scheme: proxy} if proxy else {})


def _request(url: str) -> Request:
    parts = urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)))  # noqa: S310 - the scheme is the settings'
    if credentials:
        basic = b64encode(unquote(credentials).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")  # not to where the answer may lead
    return request
