"""The command `fatescope`, over functions of the pipeline, the service and the monitoring.

Its modules import the standard library and Typer alone, everything else inside the commands: `fatescope --help` answers
at once, and a command needs the extras of what it does and no others. Nothing imports this package.
"""
