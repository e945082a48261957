"""The exceptions of Fatescope.

Every message names the rule that was broken, the value received, where, and what makes it right.

    FatescopeError
    ├── ParamsError    a parameter is missing, unknown, of the wrong type or contradicts another
    ├── ImageError     these bytes cannot be used as a cell; carries a stable `code`
    ├── DataError      the cells as a whole cannot be used
    ├── SplitError     the split that was asked for does not exist in these cells
    └── BundleError    a folder that is not a bundle, is damaged, or is of a newer format
"""


class FatescopeError(Exception):
    """The base of everything that Fatescope raises on purpose."""


class ParamsError(FatescopeError):
    """A parameter is missing, unknown, of the wrong type or contradicts another."""


class ImageError(FatescopeError):
    """Bytes that cannot be used as a cell.

    `code` is one of `CODES`; clients may rely on it, the message is for people.
    """

    CODES = (
        "empty",
        "not_an_image",
        "truncated",
        "channels",
        "bit_depth",
        "pages",
        "too_many_pages",
        "too_small",
        "too_large",
        "other_channel",
        "missing_channel",
        "channels_differ",
        "unreadable",
        "decoder",
        "too_slow",
        "zip",
    )

    def __init__(self, code: str, message: str) -> None:
        assert code in self.CODES, code
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Return how a pickle makes it again: between processes."""
        return type(self), (self.code, str(self))


class DataError(FatescopeError):
    """The cells as a whole cannot be used."""


class SplitError(FatescopeError):
    """The split that was asked for does not exist in these cells."""


class BundleError(FatescopeError):
    """A folder that is not a bundle, is damaged, or was written in a newer format."""
