"""Sign a bundle, and verify the signature of one before anything in it is loaded.

The signature is the file `model.sig` in the folder of the bundle: a Sigstore bundle over the SHA-256 of every other
file, as `model_signing verify key` reads it too. It says that a trusted signer vouches for exactly these files. It does
not say which version is the champion: whoever writes to the registry may still choose among signed versions.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from fatescope.errors import BundleError, FatescopeError
from fatescope.signing import keys
from fatescope.signing.keys import Trust
from fatescope.signing.settings import SigningSettings, variable

SIGNATURE = "model.sig"
MAX_BYTES = 1_000_000
"""Of a file with a signature; ours have two thousand."""
_CHANGED = re.compile(
    r"Hash mismatch for \\?'(.+?)\\?':|(Extra|Missing) files (?:found )?in model \\?'.+?\\?': ([^\"']*)"
)
"""What `model-signing` says of files that differ, beside their digests."""
Kind = Literal["publicKey", "x509CertificateChain", "certificate"]
"""How a signature says whose it is: by a key, a certificate with its chain, or one that Sigstore issued."""


class SignatureError(BundleError):
    """A bundle is not what a trusted signer has signed."""


class UnsignedError(SignatureError):
    """A bundle has no signature, and needs one."""


@dataclass(frozen=True)
class Verified:
    """The outcome for a bundle that may be used."""

    signer: str | None
    """Whose signature was verified; None where that could not be, or need not be."""
    warning: str | None = None
    """Why not, where a person should hear of it."""


def sign(folder: Path, settings: SigningSettings) -> str:
    """Write the signature of all files in `folder` there, in place of one that it has, and return the signer.

    Raises FatescopeError where it cannot be signed.
    """
    config: Any = _library("signing").Config()
    config.set_hashing_config(_hashing())
    target = folder / SIGNATURE
    try:
        signer = _choose(config, settings)
        # Beside it, so that a signature which fails leaves the previous one.
        with tempfile.TemporaryDirectory(prefix="fatescope-") as name:
            config.sign(folder, Path(name) / SIGNATURE)
            shutil.copyfile(Path(name) / SIGNATURE, target)
    except FatescopeError:
        raise
    # Sigstore has errors of its own for tokens, the network and its log.
    except Exception as error:
        raise FatescopeError(f"{folder}: cannot be signed ({_describe(error)}); {_HELP[settings.sign_with]}") from error
    return signer


_HELP = {
    "key": f"correct {variable('signing_key')}",
    "certificate": f"correct {variable('signing_key')} and {variable('signing_certificate')}",
    "keyless": "it needs an identity, of a browser or of CI, and a Sigstore that can be reached",
}


def _choose(config: Any, settings: SigningSettings) -> str:  # noqa: ANN401  of a library without types
    """Have `config` sign as the settings say, and return who that is."""
    if settings.sign_with == "keyless":
        config.use_sigstore_signer(use_ambient_credentials=True, trust_config=settings.sigstore_config)
        return "keyless"
    path = keys.ensure_key(settings)
    signer = f"key {keys.fingerprint(keys.public_half(path))[: keys.SHOWN]}"
    if settings.sign_with == "key":
        config.use_elliptic_key_signer(private_key=path)
        return signer
    certificate = settings.signing_certificate
    assert certificate is not None, "the settings were read with `read`"
    # The file has the certificate first; that the chain repeats it does no harm.
    config.use_certificate_signer(private_key=path, signing_certificate=certificate, certificate_chain=[certificate])
    return f"certificate of {signer}"


def verify(folder: Path, settings: SigningSettings, *, registry: bool, name: str = "") -> Verified:
    """Return whose signature the bundle in `folder` has, if it may be used; read nothing else of it.

    `registry` says whether it comes from a registry, to which others write, or is a folder that the caller has named;
    messages call it `name`, by default the folder.
    Raises UnsignedError or SignatureError where it may not be used, and ParamsError for wrong settings.
    """
    trust, name = keys.trusted(settings), name or str(folder)
    required = settings.signatures == "required" or (settings.signatures is None and registry and bool(trust))
    path = folder / SIGNATURE
    if not path.exists():
        if required:
            raise UnsignedError(
                f"{name}: it has no signature ({SIGNATURE}); sign a version that you trust with `fatescope models "
                f"sign TASK VERSION`, or set {variable('signatures')}=warn"
            )
        return Verified(None, f"{name}: it has no signature, so nothing says who made it" if registry else None)
    if not trust:
        if required:
            raise SignatureError(f"{name}: {variable('signatures')}=required, but no key is trusted; {_TRUST}")
        return Verified(None, f"{name}: its signature is not verified, because no key is trusted; {_TRUST}")
    return Verified(_verify(folder, name, trust, settings))


_TRUST = f"set {variable('trusted_keys')} to the public keys of those who register"


def _verify(folder: Path, name: str, trust: Trust, settings: SigningSettings) -> str:
    path = folder / SIGNATURE
    if path.is_symlink() or path.stat().st_size > MAX_BYTES:
        raise SignatureError(f"{name}: {SIGNATURE} is not a signature; download the bundle again")
    try:
        material = json.loads(path.read_bytes())["verificationMaterial"]
        hint = str(material["publicKey"]["hint"]) if "publicKey" in material else ""
        kind: Kind = next(kind for kind in _KINDS if kind in material)
    # A file of brackets alone is nested too deeply.
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError) as error:
        raise SignatureError(
            f"{name}: {SIGNATURE} is not a signature ({_describe(error)}); download the bundle again"
        ) from error
    if not _KINDS[kind](trust) or (kind == "publicKey" and hint not in trust.keys):
        who = f"key {hint[: keys.SHOWN]}" if kind == "publicKey" else f"a {kind}"
        raise SignatureError(f"{name}: signed by {who}, which is not trusted here; {_TRUST} if it should be")
    config: Any = _library("verifying").Config()
    config.set_hashing_config(_hashing())
    with tempfile.TemporaryDirectory(prefix="fatescope-") as keyring:
        try:
            if kind == "publicKey":
                public = Path(keyring) / "key.pub"
                public.write_bytes(trust.keys[hint])
                config.use_elliptic_key_verifier(public_key=public)
            elif kind == "x509CertificateChain":
                config.use_certificate_verifier(certificate_chain=trust.certificates)
            else:
                assert trust.identity is not None
                identity, issuer = trust.identity
                config.use_sigstore_verifier(
                    identity=identity, oidc_issuer=issuer, trust_config=settings.sigstore_config
                )
            config.verify(folder, path)
        # The file is of anybody's making, and each of the libraries that read it has errors of its own.
        except Exception as error:
            raise SignatureError(
                f"{name}: it is not what was signed ({_describe(error)}); download it again, and find out who has "
                "changed it"
            ) from error
    return {
        "publicKey": f"key {hint[: keys.SHOWN]}",
        "x509CertificateChain": "certificate",
        "certificate": f"identity {trust.identity[0] if trust.identity else ''}",
    }[kind]


_KINDS: dict[Kind, Callable[[Trust], bool]] = {
    "publicKey": lambda trust: bool(trust.keys),
    "x509CertificateChain": lambda trust: bool(trust.certificates),
    "certificate": lambda trust: trust.identity is not None,
}


def _hashing() -> Any:  # noqa: ANN401  as above
    # Files of git are signed like all others: nothing in the folder is left out but the signature.
    return _library("hashing").Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _library(module: str) -> Any:  # noqa: ANN401  it has types for some functions only
    """Import a module of model-signing, which takes a second, and is of use for signed bundles only."""
    try:
        return import_module(f"model_signing.{module}")
    except ModuleNotFoundError as error:
        raise SignatureError(
            f"signatures need the package {error.name}, which is not installed; run `pip install -e '.[service]'`"
        ) from error


def _describe(error: Exception) -> str:
    if changed := _CHANGED.findall(str(error)):
        return ", ".join(f"{file} was changed" if file else f"{kind.lower()} {files}" for file, kind, files in changed)
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
