"""Read XML that may come from anywhere: as a stream of events, without document types, entities or deep nesting."""

from collections.abc import Callable, Iterable
from xml.parsers import expat

from fatescope.data.native.source import DamageError

_MAX_DEPTH = 100
_MAX_TOKEN = 64 << 20
"""Longest piece that the parser may hold until its end comes, bytes: a list of numbers for a few million objects."""

Start = Callable[[tuple[str, ...], dict[str, str]], None]
"""Called with the names of an element and of those that it is in, the outermost first, and with its attributes."""
Text = Callable[[tuple[str, ...], str], None]
"""Called with the names as above, and a piece of the text in the element."""


def parse(blocks: Iterable[bytes], start: Start | None = None, text: Text | None = None) -> None:
    """Parse a document that comes in `blocks`; raises DamageError for what is no XML, or not harmless."""
    parser, names, fed = expat.ParserCreate(), list[str](), 0

    def refuse(*_: object) -> None:
        raise DamageError("its XML declares a document type, which these files never do")

    def begin(name: str, attributes: dict[str, str]) -> None:
        names.append(name)
        if len(names) > _MAX_DEPTH:
            raise DamageError(f"its XML has elements in more than {_MAX_DEPTH} others")
        if start:
            start(tuple(names), attributes)

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _: names.pop()
    if text:
        # Else each line comes alone.
        parser.buffer_text = True
        parser.CharacterDataHandler = lambda piece: text(tuple(names), piece)
    try:
        for block in blocks:
            parser.Parse(block, False)
            fed += len(block)
            if fed - max(parser.CurrentByteIndex, 0) > _MAX_TOKEN:
                raise DamageError(f"its XML has a piece of more than {_MAX_TOKEN:,} bytes")
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DamageError(f"its XML cannot be read ({error})") from error
