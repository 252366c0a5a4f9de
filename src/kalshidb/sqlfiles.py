"""Where the SQL lies: inside the package when installed from a wheel, beside `src` in a checkout."""

from importlib.resources import files
from pathlib import Path
from typing import Literal


def sql_dir(name: Literal["migrations", "queries"]) -> Path:
    """Return the folder of migrations or statements that belongs to this code.

    Raises:
        FileNotFoundError: the installation carries no SQL; it was not built from this project's pyproject.toml.
    """
    packaged = Path(str(files("kalshidb"))) / "_sql" / name
    checkout = Path(__file__).resolve().parents[2] / name
    for folder in (packaged, checkout):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"kalshidb is installed without its {name}: neither {packaged} nor {checkout} exists")


def snapshot_file() -> Path:
    """Return the snapshot of the schema that belongs to this code, docs/schema/schema.sql in a checkout; it need not exist yet."""
    packaged = Path(str(files("kalshidb"))) / "_sql" / "schema.sql"
    return packaged if packaged.exists() else Path(__file__).resolve().parents[2] / "docs" / "schema" / "schema.sql"
