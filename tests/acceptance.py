"""A check for Schemathesis: who sends what the API's description allows is served, but for what no schema can say.

JSON Schema has no word for "a SKU once", for a joiner that joins, for a length once composed, nor for what earlier
requests did to a key, and printable characters are those of the reader's own edition of Unicode. Each has a message of
its own, so nothing else hides behind them.
"""

import json
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure

KEY_CONFLICT = "urn:order-pipeline:problem:idempotency-key-conflict"
BEYOND_SCHEMA = (
    "holds control or other unprintable characters",
    "holds an invisible character",
    "composed (NFC), is longer than",
    "names one sku twice",
)
REFUSED = 400


@schemathesis.check
def fitting_request_is_served(
    ctx: schemathesis.CheckContext,  # noqa: ARG001 - the signature of a check
    response: schemathesis.Response,
    case: schemathesis.Case[Any],
) -> bool | None:
    """Fail where a request that fits its description is refused for anything else."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < REFUSED:
        return None
    problem = json.loads(response.content)
    beyond_schema = [error["message"].startswith(BEYOND_SCHEMA) for error in problem.get("errors", ())]
    if not (response.status_code == 404 or problem["type"] == KEY_CONFLICT or (beyond_schema and all(beyond_schema))):
        raise Failure(
            operation=case.operation.label,
            title="Fitting request refused",
            message=f"{response.status_code}: {problem}",
            case_id=case.id,
        )
    return None
