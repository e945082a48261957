"""Whose signature a bundle has, asked before the service loads anything of it.

The settings are read each time, so that a key that is put into a trusted folder counts without a restart.
"""

import logging
from pathlib import Path

from fatescope.errors import ParamsError
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
    if warn and verified.warning:
        log.warning("%s", verified.warning)
