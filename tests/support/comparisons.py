"""An answer to POST /compare in its form, for tests of the page: plain means, and intervals of a fixed width."""

from itertools import groupby
from statistics import fmean
from typing import Any

WIDTH = 0.08
"""Half of each interval."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return what the page can show for a request, differences of each condition, class, day and dose."""
    classes = list(request["samples"][0]["mean"])
    samples = [{**sample, "class_shares": {name: around(sample["shares"][name]) for name in classes}}
               for sample in request["samples"]]  # fmt: skip
    reference = request["reference"] or samples[0]["condition"]
    return {
        **{key: request[key] for key in ("task", "version")},
        "level": 0.95,
        "unit": "replicate",
        "reference": reference,
        "samples": samples,
        "differences": list(differences(samples, reference, classes)),
        "curves": [curve for axis in ("day", "dose") for curve in curves(samples, axis, classes)],
    }


def around(share):
    return {"share": share, "low": max(0, share - WIDTH), "high": min(1, share + WIDTH)}


def differences(samples, reference, classes):
    days = sorted({sample["day"] for sample in samples}, key=lambda day: (day is not None, day))
    for condition in dict.fromkeys(sample["condition"] for sample in samples):
        doses = list(dict.fromkeys(sample["dose"] for sample in samples if sample["condition"] == condition))
        for day in days if condition != reference else []:
            for dose in doses:
                where = {"day": day if len(days) > 1 else None, "dose": dose if len(doses) > 1 else None}
                there = [s for s in samples if s["condition"] == reference and s["day"] == day]
                here = [s for s in samples if (s["condition"], s["day"], s["dose"]) == (condition, day, dose)]
                if here and there:
                    yield from (difference(here, there, name, where) for name in classes)


def difference(here, there, name, where):
    means = [fmean(sample["class_shares"][name]["share"] for sample in side) for side in (here, there)]
    value, (condition, reference) = means[0] - means[1], (here[0]["condition"], there[0]["condition"])
    told = f"{condition} has {abs(100 * value):.0f} % {'more' if value > 0 else 'fewer'} {name} than {reference}"
    told += "".join(f" at {axis} {place:g}" for axis, place in where.items() if place is not None)
    alone = min(len(here), len(there)) < 2
    return {
        "condition": condition,
        "reference": reference,
        "class": name,
        "difference": value,
        **where,
        "low": None if alone else value - WIDTH,
        "high": None if alone else value + WIDTH,
        "p_value": None if alone else 0.012 if abs(value) > WIDTH else 0.4,
        "differs": not alone and abs(value) > WIDTH,
        "replicates": [len(here), len(there)],
        "pairs": None,
        "sentence": told + ("." if alone else f" ({100 * (value - WIDTH):.0f} to {100 * (value + WIDTH):.0f} %)."),
        "why_not": f"{condition} has a single replicate: what differs between cultures of it is unknown."
        if alone
        else None,
    }


def curves(samples, axis, classes):
    placed = sorted((s for s in samples if s[axis] is not None), key=lambda s: (s["condition"], s[axis]))
    for condition, members in groupby(placed, key=lambda s: s["condition"]):
        its = list(members)
        places = sorted({sample[axis] for sample in its})
        for name in classes if len(places) > 1 else []:
            points = []
            for x in places:
                shares = [s["class_shares"][name]["share"] for s in its if s[axis] == x]
                points.append({"x": x, **around(fmean(shares)), "replicates": len(shares)})
            yield {"axis": axis, "condition": condition, "class": name, "points": points, "sentence": None}
