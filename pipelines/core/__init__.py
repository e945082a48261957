"""The vocabulary that stages, service and monitoring share; imports nothing else of Fatescope."""
