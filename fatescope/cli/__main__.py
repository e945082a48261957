"""`python -m fatescope.cli`, where the script `fatescope` is not installed."""

from fatescope.cli.app import main

main()
