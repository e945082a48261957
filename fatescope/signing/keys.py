"""The key of this installation, which signs, and the keys whose signatures it trusts.

A key is known by its fingerprint: the SHA-256 of its public half as PEM, by which `model-signing` knows it too.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from fatescope import secret_files
from fatescope.atomic import replacing
from fatescope.errors import ParamsError
from fatescope.signing.settings import SigningSettings, variable

KEY, PUBLIC = "signing-key.pem", ".pub"
SHOWN = 16
"""Digits of a fingerprint that messages show."""


@dataclass(frozen=True)
class Trust:
    """Whose signatures are accepted."""

    keys: dict[str, bytes] = field(default_factory=dict)
    """Fingerprint → PEM of the public key."""
    certificates: tuple[Path, ...] = ()
    identity: tuple[str, str] | None = None
    """Identity and issuer of keyless signatures."""

    def __bool__(self) -> bool:
        """Return whether anybody is trusted."""
        return bool(self.keys or self.certificates or self.identity)


def key_path(settings: SigningSettings) -> Path:
    """Return where the private key is, or will be."""
    return settings.signing_key or secret_files.folder() / KEY


def ensure_key(settings: SigningSettings) -> Path:
    """Return the path of the private key, which is made if it is missing, with its public half beside it.

    Raises ParamsError for a file that is no such key, and FatescopeError where it cannot be made.
    """
    path = key_path(settings)
    secret_files.make_once(path, _new_key)
    public = public_half(path)
    beside = path.with_suffix(PUBLIC)
    if not beside.exists():
        try:
            with replacing(beside) as part:
                part.write_bytes(public)
        except OSError:
            pass  # a key that is mounted read-only; its owner has the public half
    return path


def public_half(path: Path) -> bytes:
    """Return the PEM of the public half of the private key in a file; raises ParamsError."""
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ParamsError(
            f"{path}: not a private key that can be used ({error}); it must be PEM without a password"
        ) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ParamsError(
            f"{path}: not a key of an elliptic curve; make one of P-256, or name a file that is not there"
        )
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(public: bytes) -> str:
    """Return the fingerprint of the PEM of a public key; raises ValueError where it is none."""
    key = load_pem_public_key(public)
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def trusted(settings: SigningSettings) -> Trust:
    """Return who is trusted: those of the settings, else the key of this installation, if it has one.

    Raises ParamsError for a path that has no key.
    """
    identity = (settings.trusted_identity, settings.trusted_issuer)
    named = Trust(
        {fingerprint: public for path in settings.trusted_keys for fingerprint, public in _read(path).items()},
        settings.trusted_certificates,
        None if identity[0] is None or identity[1] is None else (identity[0], identity[1]),
    )
    for path in settings.trusted_certificates:
        if not path.is_file():
            raise ParamsError(f"{variable('trusted_certificates')}: {path} is not there")
    if named or settings.sign_with != "key":
        return named
    own = key_path(settings)
    try:
        is_there = own.exists()
    except OSError as error:
        raise ParamsError(f"{own}: cannot be read ({error.strerror}); set {variable('trusted_keys')}") from error
    if not is_there:
        return named
    public = public_half(own)
    return Trust({fingerprint(public): public})


def _read(path: Path) -> dict[str, bytes]:
    files = sorted(path.glob(f"*{PUBLIC}")) if path.is_dir() else [path]
    try:
        found = {fingerprint(public): public for public in (file.read_bytes() for file in files)}
    except (OSError, ValueError) as error:
        raise ParamsError(f"{variable('trusted_keys')}: {path} has no public key as PEM ({error})") from error
    if not found:
        raise ParamsError(f"{variable('trusted_keys')}: the folder {path} has no *{PUBLIC}")
    return found


def _new_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
