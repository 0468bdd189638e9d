"""Ask an HTTP server directly: what stands on loopback is not reached by way of a proxy."""

import json
import urllib.error
import urllib.request
from typing import Any

_DIRECT = urllib.request.ProxyHandler({})


def get_json(url: str, *, seconds: float) -> tuple[int, Any]:
    """Return the status and the document, None for anything but 200. Raises OSError if nobody answers."""
    try:
        with urllib.request.build_opener(_DIRECT).open(url, timeout=seconds) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None
