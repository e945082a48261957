"""`fatescope.data.features.cell` as nodes of an ONNX graph, so that a bundle whose head reads features needs no more.

Pixels are (B, H * W) here, and neighbours are read by their place: the canvas of a bundle is known.
"""

import numpy as np
import numpy.typing as npt

from fatescope.data.crops import FRAME
from fatescope.data.features import QUANTILES, RINGS
from fatescope.teaching.nodes import Nodes


def add_cell_features(nodes: Nodes, pixels: str, canvas: tuple[int, int], channels: int) -> str:
    """Add nodes that compute the features of float32 (B, C, H, W) `pixels`, and return the name of the (B, C * F)."""
    columns = []
    for channel in range(channels):
        image = nodes.add("Gather", pixels, nodes.constant(channel), attributes={"axis": 1})
        flat = nodes.add("Reshape", image, nodes.constant([-1, canvas[0] * canvas[1]]))
        columns += _Channel(nodes, flat, canvas).columns()
    return nodes.add("Concat", *columns, attributes={"axis": 1})


class _Channel:
    """The features of one channel; every part is (B, n)."""

    def __init__(self, nodes: Nodes, flat: str, canvas: tuple[int, int]) -> None:
        self._nodes, self._canvas, self._size = nodes, canvas, canvas[0] * canvas[1]
        self._places = np.arange(self._size).reshape(canvas)
        self._axis = nodes.constant([1])
        self._deviation = nodes.add("Sub", flat, self._level(flat))
        self._magnitude = nodes.add("Abs", self._deviation)
        self._total = self._at_least(self._sum(self._magnitude), 1e-6)
        self._unit = nodes.add("Div", self._total, nodes.constant(float(self._size)))
        self._square = nodes.add("Mul", self._deviation, self._deviation)
        self._squares = self._sum(self._square)
        self._contrast = nodes.add("Div", self._squares, self._total)

    def columns(self) -> list[str]:
        """Return the names of the columns in the order of `features.CELL`."""
        add, constant = self._nodes.add, self._nodes.constant
        outline = add("Div", self._contrast, constant(4.0))
        area = self._mean(add("Cast", add("Greater", self._magnitude, outline), attributes={"to": 1}))
        variance = self._at_least(add("Div", self._squares, constant(float(self._size))), 1e-9)
        cubes = self._mean(add("Mul", self._square, self._deviation))
        skewness = add("Div", cubes, add("Pow", variance, constant(1.5)))
        slope = self._slope_squares()
        edges = add("Div", self._mean(add("Sqrt", slope)), self._unit)
        curvature = self._laplacian()
        energy = self._mean(add("Mul", curvature, curvature))
        grain = add("Div", energy, self._at_least(self._mean(slope), 1e-9))
        divisor = self._at_least(self._contrast, 1e-6)
        quantiles = add("Div", self._quantiles(), divisor)
        spot = add("Div", self._brightest_blurred(), divisor)
        return [area, self._elongation(), skewness, edges, grain, quantiles, spot, *self._rings()]

    def _level(self, flat: str) -> str:
        """Return the median of the border, whose number of pixels is even."""
        inner = self._places[FRAME:-FRAME]
        frame = np.concatenate([
            part.ravel() for part in (self._places[:FRAME], self._places[-FRAME:], inner[:, :FRAME], inner[:, -FRAME:])
        ])  # fmt: skip
        half = len(frame) // 2
        ordered = self._nodes.add("TopK", self._at(flat, frame), self._nodes.constant([half + 1]))
        return self._mean(self._at(ordered, np.array([half - 1, half])))

    def _slope_squares(self) -> str:
        here = self._at(self._deviation, self._places[:-1, :-1])
        down = self._nodes.add("Sub", self._at(self._deviation, self._places[1:, :-1]), here)
        right = self._nodes.add("Sub", self._at(self._deviation, self._places[:-1, 1:]), here)
        return self._nodes.add(
            "Add", self._nodes.add("Mul", down, down), self._nodes.add("Mul", right, right)
        )  # fmt: skip

    def _laplacian(self) -> str:
        around = (self._places[:-2, 1:-1], self._places[2:, 1:-1], self._places[1:-1, :-2], self._places[1:-1, 2:])
        neighbours = self._nodes.add("Sum", *(self._at(self._deviation, places) for places in around))
        here = self._at(self._deviation, self._places[1:-1, 1:-1])
        return self._nodes.add("Sub", neighbours, self._nodes.add("Mul", here, self._nodes.constant(4.0)))

    def _quantiles(self) -> str:
        add, constant = self._nodes.add, self._nodes.constant
        ordered = add("TopK", self._deviation, constant([self._size]), attributes={"largest": 0})
        positions = np.array(QUANTILES) * (self._size - 1)
        low = np.floor(positions).astype(np.int64)
        below, above = (self._at(ordered, np.minimum(places, self._size - 1)) for places in (low, low + 1))
        return add("Add", below, add("Mul", add("Sub", above, below), constant(positions - low)))

    def _brightest_blurred(self) -> str:
        image = self._nodes.add("Reshape", self._magnitude, self._nodes.constant([-1, 1, *self._canvas]))
        blurred = self._nodes.add("AveragePool", image, attributes={"kernel_shape": [3, 3]})
        return self._nodes.add("ReduceMax", blurred, self._nodes.constant([2, 3]), attributes={"keepdims": 0})

    def _elongation(self) -> str:
        add, constant = self._nodes.add, self._nodes.constant
        y, x = (axis.ravel() - (axis.max() / 2) for axis in np.mgrid[: self._canvas[0], : self._canvas[1]])
        moments = np.stack([y, x, y * y, x * x, x * y], axis=1)
        of_mass = add("Div", add("MatMul", self._magnitude, constant(moments)), self._total)
        my, mx, myy, mxx, mxy = (self._at(of_mass, np.array([column])) for column in range(5))
        yy, xx = add("Sub", myy, add("Mul", my, my)), add("Sub", mxx, add("Mul", mx, mx))
        xy = add("Sub", mxy, add("Mul", mx, my))
        mean = add("Div", add("Add", yy, xx), constant(2.0))
        half = add("Div", add("Sub", yy, xx), constant(2.0))
        difference = add("Sqrt", add("Add", add("Mul", half, half), add("Mul", xy, xy)))
        shorter = self._at_least(add("Sub", mean, difference), 1e-3)
        return add("Sqrt", add("Div", add("Add", mean, difference), shorter))

    def _rings(self) -> tuple[str, str]:
        add, constant = self._nodes.add, self._nodes.constant
        y, x = np.mgrid[: self._canvas[0], : self._canvas[1]]
        radius = np.hypot(y - (self._canvas[0] - 1) / 2, x - (self._canvas[1] - 1) / 2)
        ring = np.minimum((radius / (min(self._canvas) / 2) * RINGS).astype(int), RINGS - 1).ravel()
        member = np.eye(RINGS)[ring]
        share = constant(member / member.sum(0))
        values = add("Div", self._deviation, self._unit)
        means = add("MatMul", values, share)
        apart = add("Sub", values, add("MatMul", means, constant(member.T)))
        return means, add("Sqrt", add("MatMul", add("Mul", apart, apart), share))

    def _at(self, values: str, places: npt.NDArray[np.int64]) -> str:
        return self._nodes.add("Gather", values, self._nodes.constant(places.ravel()), attributes={"axis": 1})

    def _sum(self, values: str) -> str:
        return self._nodes.add("ReduceSum", values, self._axis)

    def _mean(self, values: str) -> str:
        return self._nodes.add("ReduceMean", values, self._axis)

    def _at_least(self, values: str, least: float) -> str:
        return self._nodes.add("Max", values, self._nodes.constant(least))
