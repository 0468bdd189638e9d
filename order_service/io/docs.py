"""Show the HTTP API and the events behind it: a page of each for people, the descriptions for machines.

The pages are Swagger UI and asyncapi-viewer, from packages, with a few lines of our own (ADR 46). All is made once per
process; nothing comes from elsewhere, and a page runs no script but the files that it names.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flask import Response, redirect
from flask_openapi.openapi import OpenAPI
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from common.events import asyncapi
from order_service.io.static_files import ASK_AGAIN, FOR_EVER, StaticFile, answer

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " img-src 'self' data:;"  # the arrows in the style sheet of Swagger UI
    " frame-ancestors 'none'"  # one can order from here: no other page may put its own buttons over ours
)

_ASSETS = {
    "docs.css": ("order_service", "io/static/docs.css", "text/css"),
    "docs.js": ("order_service", "io/static/docs.js", "text/javascript"),
    "icon.svg": ("order_service", "io/static/icon.svg", "image/svg+xml"),
    "swagger-ui.css": ("flask_openapi_swagger", "templates/swagger/css/swagger-ui.css", "text/css"),
    "swagger-ui.js": ("flask_openapi_swagger", "templates/swagger/js/swagger-ui-bundle.js", "text/javascript"),
    "asyncapi-viewer.js": ("asyncapi_viewer", "static/asyncapi-viewer.iife.js", "text/javascript"),
}


def register(app: OpenAPI) -> None:
    """Put pages, descriptions and their files on the application, after its other routes.

    Raises FileNotFoundError if a package lacks the file that is expected of it.
    """
    assets = {
        name: StaticFile.of((_folder(package) / path).read_bytes(), media_type)
        for name, (package, path, media_type) in _ASSETS.items()
    }
    by_name = {file.named(name): file for name, file in assets.items()}
    address = {name: f"/docs/assets/{file.named(name)}" for name, file in assets.items()}

    def page(template: str) -> StaticFile:
        return StaticFile.of(app.jinja_env.get_template(template).render(address=address), "text/html")

    def asset(name: str) -> Response:
        if name not in by_name:
            raise NotFound
        return _guarded(answer(by_name[name], caching=FOR_EVER))

    for rule, file in {
        "/docs": page("docs.html"),
        "/docs/events": page("events.html"),
        "/openapi.json": StaticFile.of(json.dumps(described(app.api_doc), indent=1), "application/json"),
        "/asyncapi.json": StaticFile.of(asyncapi.as_json(), "application/json"),
        "/asyncapi.yaml": StaticFile.of(asyncapi.as_yaml(), "application/yaml"),
        "/favicon.ico": assets["icon.svg"],
    }.items():
        app.add_url_rule(rule, endpoint=rule, view_func=lambda file=file: _guarded(answer(file, caching=ASK_AGAIN)))
    app.add_url_rule("/docs/assets/<name>", endpoint="asset", view_func=asset)
    app.add_url_rule("/", endpoint="home", view_func=_home)


def described(node: Any) -> Any:
    """Return the OpenAPI description with whole numbers whole and line ends plain.

    flask-openapi keeps limits as floats (`minimum: 1.0`) and joins the lines of a docstring by `<br/>`.
    """
    match node:
        case dict():
            return {name: _text(value) if name == "description" else described(value) for name, value in node.items()}
        case list():
            return [described(value) for value in node]
        case float() if node.is_integer():
            return int(node)
        case _:
            return node


def _text(description: Any) -> Any:
    """Correct a description; a member of that name that is no text is a schema's own."""
    return description.replace("<br/>", "\n").strip() if isinstance(description, str) else described(description)


def _guarded(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    return response


def _home() -> AnyResponse:
    return redirect("/docs")


def _folder(package: str) -> Path:
    """Return where a package lies without importing it: what its modules need is nothing to us."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(package)
    return Path(spec.submodule_search_locations[0])
