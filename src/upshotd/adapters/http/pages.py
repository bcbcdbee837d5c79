"""The pages that people see, who came by a link in a message."""

import hashlib
from base64 import b64encode

from aiohttp import web

_STYLE = (
    "body{font:1.1em sans-serif;max-width:32em;margin:4em auto;padding:0 1em}"
    "fieldset{margin:1em 0}label{margin-right:1em}"
    "textarea{width:100%}blockquote{margin:1em 0;padding-left:1em;border-left:3px solid #ccc}"
)
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
#: For every answer that a token led to: not kept, not told to the next site, not indexed.
PRIVATE = {
    "Cache-Control": "no-store, no-cache, must-revalidate, private, max-age=0",
    "Pragma": "no-cache",
    "Expires": "0",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}
_PAGE = {
    **PRIVATE,
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
}


def not_found() -> web.Response:
    """Return what is said of a link that was not signed here, or leads to nothing any more."""
    return page(404, "Not found", "<p>This link is not valid, or not any more.</p>")


def later() -> web.Response:
    """Return what is said where the server cannot be asked now."""
    text = "<p>This cannot be done right now. Please try again in a minute.</p>"
    return page(503, "Not yet", text, {"Retry-After": "60"})


def page(
    status: int, title: str, content: str, headers: dict[str, str] | None = None
) -> web.Response:
    """Return a page; *title* and *content* are HTML."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1>{content}</body></html>"
    )
    return web.Response(
        status=status, text=text, content_type="text/html", headers={**_PAGE, **(headers or {})}
    )
