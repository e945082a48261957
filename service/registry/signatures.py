"""Whose signature a bundle has, asked before the service loads anything of it.

The settings are read each time, so that a key that is put into a trusted folder counts without a restart.
"""

import logging
from pathlib import Path

from fatescope.errors import BundleError, ParamsError
from fatescope.inference.spec import read_spec
from fatescope.signing import signature
from fatescope.signing.settings import SigningSettings
from fatescope.signing.signature import SignatureError

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only


def verify(folder: Path, *, registry: bool, warn: bool = False, name: str = "") -> None:
    """Raise SignatureError unless the bundle in `folder` may be used; see `fatescope.signing.signature.verify`.

    So do settings by which nothing can be verified. With `warn`, the log says where nothing vouches for it.
    """
    try:
        verified = signature.verify(folder, SigningSettings.read(), registry=registry, name=name)
    # What is served goes on when a key is away, as the folder of a ConfigMap may be while it is replaced.
    except ParamsError as error:
        raise SignatureError(str(error)) from error
    # Whoever names a folder vouches for what was trained there; a head that anybody can teach needs a signature.
    if verified.signer is None and is_taught(folder):
        raise SignatureError(
            f"{name or folder}: was taught from a few labels, and nobody who is trusted here has signed it; register "
            "it with `fatescope models add`, and have it signed with `fatescope models sign`"
        )
    if warn and verified.warning:
        log.warning("%s", verified.warning)


def is_taught(folder: Path) -> bool:
    """Return whether the head of the bundle in `folder` was taught; where there is none, others will say so."""
    try:
        return read_spec(folder).taught is not None
    except BundleError:
        return False
