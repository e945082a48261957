"""The words that a language model may use about a culture.

A list of what is forbidden has no end: p-values, cures, number words of other languages. So these are all that are
allowed beside numbers, classes and the names of verdicts. Anything else, and with it every negation, makes a text one
that is not shown.
"""

ALLOWED = frozenset(
    """
    a about according account accounted accounting accounts additionally also amount amounting amounts an analysed
    analyzed and approximately are around as assessed at based be been being belong belonging belongs between by call
    called calls cell cells class classed classes classification classified composed composition comprise comprised
    comprises comprising consist consisting consists contain containing contains corresponding count counted counts
    covers culture cultures data estimate estimated estimates estimating estimation examined figure figures followed
    for form formed forming forms found fraction fractions from give given gives had has have having identified image
    imaged images in included including indicate indicates interval intervals is it its label labelled labels lie lies
    lying made make makes making measured model number numbers of on overall population portion predicted prediction
    predictions proportion proportions range ranges ranging recorded regarding represent represented representing
    represents respective result results roughly sample samples share shares show shown shows span spanning spans
    stands suggest suggested suggests that the their them there these they this those thus to total totalling was were
    where whereas which while whose with within
    """.split()  # noqa: SIM905  a list of two hundred strings is harder to read
)
MAJORITY = frozenset({"majority", "mainly", "most", "mostly", "predominantly", "primarily"})
"""Words that say that something is more than half."""
OF_TWO = frozenset({"remainder", "remaining", "rest"})
"""Words for what is left, which is one class where there are two."""
LARGEST = frozenset({"dominant", "largest"})
"""Words that say that a class has the largest share."""
NEGATIONS = frozenset(
    """
    absent aren't barely cannot can't didn't doesn't don't except excluding false few fewer hardly incorrect
    instead isn't lack lacks less neither never no nobody none nor not nothing rarely rather unlikely wasn't weren't
    without wrong
    """.split()  # noqa: SIM905
)
"""Words that turn what is said into its opposite; named in the reason, and not allowed either."""
