"""What reports say of cells that have several images over time."""

from pipelines.evaluation.report import Report
from pipelines.evaluation.trust_report import Calibration


class FrameMetrics(Report):
    """Answers for cells after so many of their images over time."""

    frames: int
    tracks: int
    """Cells that have as many images."""
    accuracy: float
    balanced_accuracy: float
    calibration: Calibration
    alone: Calibration
    """That of the last of these images alone."""
    accuracy_alone: float
    """Balanced accuracy by the last of these images alone."""
    undiscounted: Calibration
    """What it would be if images of one cell counted as independent."""
    settled: float
    """Share of these cells whose last call is reached by then and stays."""


class TrackMetrics(Report):
    """Answers for cells that have several images over time."""

    tracks: int
    """Test cells with several images."""
    correlation: float
    """How far the evidence of two images of a cell is the same, which the answers allow for."""
    scale: float
    """What the evidence of an image is multiplied by."""
    frames: list[FrameMetrics]
    settled_after: float
    """Median number of images after which the last call is reached and stays."""
    settled_share: float
    """The mean of the same as a share of the images of a cell."""
    sure: float
    """Share of cells whose call is sure after the last image."""
    sure_after: float | None
    """Median number of images after which that call stays sure; None where none is."""
    accuracy_of_sure: float | None
    """None where no call is sure."""
