"""Which channel the model sees: the brightfield one, by its pixels or by the lamp that a native file names."""

from dataclasses import dataclass, field

from fatescope import plural
from fatescope.data import names
from fatescope.errors import DataError
from pipelines.ingestion.proposal import drafts, pixels, tokens
from pipelines.ingestion.proposal.exports import Export
from pipelines.ingestion.proposal.layout import Layout
from pipelines.ingestion.proposal.native import NativeLook
from pipelines.ingestion.proposal.section import Draft
from pipelines.ingestion.proposal.wishes import Wishes, Words


@dataclass(frozen=True)
class ChannelChoice:
    """What the channels of an export are to the model."""

    name: str | None
    """The brightfield one that it sees; None where paths name no channel."""
    known: list[str] = field(default_factory=list)
    """All that there are."""
    markers: list[str] = field(default_factory=list)
    """Those that are dark around the cells and not called scatter: a stain may be what made the classes."""


def choose_channel(
    export: Export, draft: Draft, layout: Layout, look: NativeLook, wishes: Wishes,
    words: Words, max_pixels: int,
) -> ChannelChoice:  # fmt: skip
    """Return the channel that the model sees: that of a person, else the brightfield one by its pixels or its lamp."""
    called = {channel: tokens.CHANNEL_WORDS.get(name.lower(), "") for channel, name in look.names.items()}
    if layout.native:
        lit, known = [channel for channel, _ in look.lit.most_common()], list(look.used)
        by = "a brightfield lamp lit"
    else:
        channels = _channels(draft, layout)
        if not channels:
            if wishes.channel is not None:
                raise DataError(f"--channel {wishes.channel}: the paths of {export.name} name no channel")
            return ChannelChoice(None)
        by_channel = pixels.sample_by_channel(list(channels), list(channels.values()))
        export.fetch(path for paths in by_channel.values() for path in paths)
        looks = pixels.look_at_channels(export.folder, by_channel, max_pixels)
        lit, known = pixels.brightfield_channels(looks), list(by_channel)
        called |= {channel: tokens.CHANNEL_WORDS.get(channel.lower(), "") for channel in known}
        by = "looks like brightfield: light around the cells, darker pixels in them"
    chosen = _one_of(wishes.channel, draft.channel, lit, known)
    _tell(chosen, lit, known, by, wishes, words)
    dark = [name for name in known if name not in (*lit, chosen) and called.get(name) != "darkfield"]
    return ChannelChoice(chosen, known, sorted(dark))


def _tell(chosen: str, lit: list[str], known: list[str], by: str, wishes: Wishes, words: Words) -> None:
    shown = f"the model sees channel {chosen}"
    if wishes.channel is not None:
        words.sure.append(f"{shown}, as you say")
    elif len(lit) > 1:
        other = next(other for other in sorted(lit) if other != chosen)
        words.decide.append(
            f"channels {' and '.join(sorted(lit))} are both brightfield; {shown}; --channel {other} takes the other"
        )
    elif chosen in lit:
        words.sure.append(f"{shown}: it {by}")
    else:
        words.decide.append(
            f"no channel {by}, and {shown}: is that brightfield? --channel N takes another of {sorted(known)}"
        )
    others = sorted(channel for channel in known if channel != chosen and channel not in lit)
    if others:
        are = plural.agree(len(others), f"channel {others[0]} is", f"channels {', '.join(others)} are")
        words.sure.append(
            f"{are} no input: a stain may be what made the classes; a darkfield one "
            "(scatter) can be added to dataset.channels"
        )


def _channels(draft: Draft, layout: Layout) -> dict[str, str]:
    """Return path → its channel, of the paths that the draft reads; empty where they name none."""
    if "(?P<channel>" not in draft.pattern:
        return {}
    parser = drafts.parser(draft)
    parsed = {path: parser.read(path) for path in layout.paths}
    return {path: one.facts["channel"] for path, one in parsed.items() if one}


def _one_of(wished: str | None, known_scheme: str | None, lit: list[str], known: list[str]) -> str:
    """Return the channel to take, as `known` spells it."""
    if wished is not None:
        for channel in known:
            if names.same_channel(channel, wished):
                return channel
        raise DataError(f"--channel {wished}: there are {', '.join(sorted(known))}")
    if known_scheme is not None and known_scheme in known and (known_scheme in lit or not lit):
        return known_scheme
    return min(lit or known, key=lambda channel: (len(channel), channel))
