"""Show the events of the whole pipeline, beside this service's own HTTP API: as a page, and for machines.

Made once per process from the table of topics and the packaged schemas; no script, no font, nothing from elsewhere.
"""

from typing import Any

from flask import Response, render_template
from flask_openapi.openapi import OpenAPI

from common.events import asyncapi
from common.events.schema_fields import fields
from common.events.schema_versions import newest

YAML = "application/yaml"


def register(app: OpenAPI, *, policy: str) -> None:
    """Put the pages on the application. `policy`: the Content-Security-Policy of the one that people read."""
    texts = {"yaml": (asyncapi.as_yaml(), YAML), "json": (asyncapi.as_json(), "application/json")}

    def description(form: str) -> Response:
        text, media_type = texts[form]
        return Response(text, mimetype=media_type)

    def page() -> Response:
        document = asyncapi.document()
        shown = Response(render_template("events.html", api=document, fields=_fields(document)))
        shown.headers["Content-Security-Policy"] = policy
        return shown

    for form in texts:
        app.add_url_rule(
            f"/asyncapi.{form}", endpoint=f"asyncapi_{form}", view_func=lambda form=form: description(form)
        )
    app.add_url_rule("/docs/events", endpoint="events", view_func=page)


def _fields(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of every event, by its name."""
    events = [name for name, message in document["components"]["messages"].items() if "payload" in message]
    return {event: fields(newest(event).text) for event in events}
