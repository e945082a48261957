"""Delete a person's sample from what Fatescope keeps beside the service and the pipeline, and prove it.

What is sought is given by names of samples (a folder in paths, or an acquisition group), requests, patterns of paths
and SHA-256 of images; the hashes of all images that are found that way are sought too, so that a copy under another
name goes with them. Places:

| place | what goes |
|---|---|
| `records`, `incidents` | rows of the prediction log, of challengers, of the queue and of windows of incidents |
| `feedback` | corrections, their images, and rows of the table of labels |
| `data` | images, rows of tables of labels, and names of groups and exports in `origin.json` that nothing is left of |
| `artifacts` | cells that `ingest` read, with their pixels, and rows of other tables about them |
| other folders that are named | rows of Parquet files, such as those that `fatescope score` writes |

Files are replaced as a whole, so that a service, an exporter or a stage that reads them sees the old one or the new.
Afterwards all places are searched again. Bundles are left alone: they would be damaged. `UNREACHABLE` says what else
is.

`deletion` looks everywhere and proves it; `tables`, `corrections` and `images` each know one kind of place, and
`selection` what is sought.
"""

from fatescope.forgetting.deletion import UNREACHABLE, Places, find, forget
from fatescope.forgetting.selection import Found, Selection, check

__all__ = ["UNREACHABLE", "Found", "Places", "Selection", "check", "find", "forget"]
