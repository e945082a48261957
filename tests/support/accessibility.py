"""What axe says of a page."""


def serious(*found):
    """Return the serious and critical violations in results of axe, each with the first elements that it names."""
    return [
        (each["id"], [node["target"] for node in each["nodes"]][:3])
        for state in found
        for each in state.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
