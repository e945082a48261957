"""What stages read and wrote, as OpenLineage events: to a server, or to a file as JSON lines.

Off unless the settings of the package `openlineage-python` say where to, the variables of the environment or its file
(https://openlineage.io/docs/client/python): `OPENLINEAGE_URL` for a server, or `OPENLINEAGE__TRANSPORT__TYPE=file` with
`OPENLINEAGE__TRANSPORT__LOG_FILE_PATH`. A stage is a job of the namespace `OPENLINEAGE_NAMESPACE`, by default
`fatescope`, with an event START, and COMPLETE or FAIL when it ends; its paths are datasets of the namespace `file`.

A server that does not answer is a warning: no stage fails because nobody takes notes.

`stage` says what a run of a stage reads and writes, `wrapping` when it is told of, `events` how; it alone needs the
package.
"""

from fatescope.lineage.stage import WRITES
from fatescope.lineage.wrapping import is_on, traced

__all__ = ["WRITES", "is_on", "traced"]
