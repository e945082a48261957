"""Signatures of bundles: who made the model, and that nobody has changed it since.

`signature` signs and verifies a folder with `model-signing` of the OpenSSF, `keys` has the key of this installation and
those that it trusts, `settings` the variables that choose otherwise.
"""
