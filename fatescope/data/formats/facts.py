"""Facts of the acquisition that an exported image carries."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportedFacts:
    """What an exported image says of its object."""

    run: str
    """The raw file that it was acquired into, without folder and ending; empty where the image does not say."""
    object: int | None
    """Its number in the file that it was exported from."""
    acquired_object: int | None
    """Its number in the acquisition."""
    camera_line: int | None
    camera_timer: int | None
    """With the line of the camera, the order in the run."""
    flow_speed: float | None
    """mm/s"""
