"""Names of classes are drawn as they stand."""

import io

import matplotlib as mpl
from matplotlib.figure import Figure

from pipelines.evaluation import drawing


def test_a_dollar_begins_no_formula():
    with mpl.rc_context():
        drawing.prepare()
        figure = Figure()
        # As a formula this could not be drawn.
        figure.subplots().set_title("CD4 $x_$")
        figure.savefig(io.BytesIO(), format="png")
