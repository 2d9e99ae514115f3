"""The built pages of the console; without them a page says why and what to do."""

import html
import mimetypes
import pathlib

from starlette.responses import FileResponse, HTMLResponse, Response

from routes.console.desk import Assets

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# The names of these carry a hash of their content.
_FOR_EVER = "public, max-age=31536000, immutable"


def page(assets: Assets, path: str) -> Response:
    """Return a file of the console; any other path is the application's own page."""
    if assets.folder is None:
        return _absent(assets)
    root = assets.folder.resolve()
    file = (root / path).resolve()
    if path.startswith("assets/"):
        if not file.is_relative_to(root) or not file.is_file():
            return Response(status_code=404, headers=_HEADERS)
        return _file(file, _FOR_EVER)
    return _file(root / "index.html", "no-cache")


def _file(file: pathlib.Path, caching: str) -> Response:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return FileResponse(file, media_type=kind, headers={**_HEADERS, "cache-control": caching})


def _absent(assets: Assets) -> Response:
    again = '<meta http-equiv="refresh" content="3">' if assets.is_coming else ""
    text = (
        f'<!doctype html><html lang="zh"><head><meta charset="utf-8">{again}'
        "<title>Qiao 桥</title></head><body>"
        f"<h1>Qiao 桥</h1><p>{html.escape(assets.why_zh)}</p><p>{html.escape(assets.why_en)}</p>"
        "</body></html>"
    )
    code = 200 if assets.is_coming else 503
    return HTMLResponse(text, status_code=code, headers={**_HEADERS, "cache-control": "no-store"})
