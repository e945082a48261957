"""Headers that keep documents of the service to themselves in a browser."""

CACHE = "no-cache"
"""Kept by browsers, but never used without asking whether it has changed."""
FOREVER = "private, max-age=31536000, immutable"
"""Of what is asked for by its hash or its version, so that another content has another address."""

_COMMON = {
    "Cache-Control": CACHE,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_ALONE = "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

PAGE_HEADERS = _COMMON | {"Content-Security-Policy": f"default-src 'self'; img-src 'self' data:; {_ALONE}"}
"""The page loads nothing from other hosts, and runs only its own scripts."""
WORKER_HEADERS = _COMMON | {
    "Content-Security-Policy": f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; {_ALONE}"
}
"""The worker that sees images which must not leave the browser has a policy of its own: it can connect to nothing, not
even to this service. It alone may compile WebAssembly."""
OFFLINE_HEADERS = _COMMON | {"Service-Worker-Allowed": "../../"}
"""The script that keeps the page for use without a network is in a folder below the page that it is for."""
DOCS_HEADERS = _COMMON | {
    "Content-Security-Policy": f"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; {_ALONE}"
}
"""Swagger UI has styles in its elements."""
CARD_HEADERS = _COMMON | {
    "Content-Security-Policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {_ALONE}"
}
"""A card is text with its own styles and pictures. It comes from a bundle, and runs no script."""
