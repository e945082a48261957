"""Start a process that decodes files, as the service does: `python -m fatescope.cli.probe_decoding` prints JSON.

It needs what decoding needs, and no more: neither BentoML nor a network.
"""

import json

from fatescope.guarded_pool import GuardedPool

MODULES = ("fatescope.data.archives", "fatescope.data.images", "fatescope.data.native.reader")
"""What such a process imports."""

if __name__ == "__main__":
    pool = GuardedPool(1, MODULES)
    pool.start()
    pool.close()
    print(json.dumps({}))
