"""Print what the service needs, pinned to what is installed here: `python -m service.requirements`.

`service/requirements.txt` holds it for the Bento, which has no use for training: PyTorch and its gigabytes stay out.
"""

from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pinned() -> list[str]:
    """Return `name==version` of every package that the core and the extra `service` need, on this machine."""
    found, waiting = dict[tuple[str, str], None](), [("fatescope", ""), ("fatescope", "service")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found[name, extra] = None
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), each) for each in ("", *needed.extras)]
    return sorted({f"{name}=={version(name)}" for name, _ in found if name != "fatescope"})


if __name__ == "__main__":
    print("\n".join(pinned()))
