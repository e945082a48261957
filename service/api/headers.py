"""Headers that keep documents of the service to themselves in a browser."""

CACHE = "no-cache"
"""Kept by browsers, but never used without asking whether it has changed."""

_COMMON = {
    "Cache-Control": CACHE,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_ALONE = "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

PAGE_HEADERS = _COMMON | {"Content-Security-Policy": f"default-src 'self'; img-src 'self' data:; {_ALONE}"}
"""The page loads nothing from other hosts, and runs only its own scripts."""
DOCS_HEADERS = _COMMON | {
    "Content-Security-Policy": f"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; {_ALONE}"
}
"""Swagger UI has styles in its elements."""
CARD_HEADERS = _COMMON | {
    "Content-Security-Policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {_ALONE}"
}
"""A card is text with its own styles and pictures. It comes from a bundle, and runs no script."""
