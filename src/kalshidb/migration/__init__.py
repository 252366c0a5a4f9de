"""Everything around yoyo. Plain SQL in migrations/ stays the format and `yoyo apply` the entry; what is here calls yoyo's own library
and keeps yoyo's own tables, so that `yoyo list` agrees afterwards.

| module | what it answers |
|---|---|
| `statements`, `effects` | what a file says, and what each statement locks, rewrites, reads and destroys |
| `folder` | which migrations a folder has, in which order; any folder that yoyo reads |
| `integrity` | what must not change: migrations.lock, hashes, git; the next migration's name |
| `bookkeeping` | what the database knows; all SQL about yoyo's tables and ours |
| `state` | where a database stands, read-only |
| `plan` | what would be done, statement by statement |
| `session`, `runner` | doing it: one process at a time, whole or not at all |

Not here: what the migrations say (migrations/*.sql) and where a database comes from (kalshidb.postgres).
"""

from kalshidb.migration.folder import FolderError, MigrationError
from kalshidb.migration.runner import DataLoss, Lost, Refused, baseline, migrate, pending, rollback
from kalshidb.migration.session import Event, Interrupted, Options
from kalshidb.migration.state import Status, status

__all__ = [
    "DataLoss",
    "Event",
    "FolderError",
    "Interrupted",
    "Lost",
    "MigrationError",
    "Options",
    "Refused",
    "Status",
    "baseline",
    "migrate",
    "pending",
    "rollback",
    "status",
]
