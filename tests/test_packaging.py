"""What is shipped: an sdist and a wheel made from it carry all of the SQL, and find it without the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def sql_files(folder: Path) -> dict[str, bytes]:
    """Return every SQL file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("migrations", "queries")
        for path in (folder / kind).rglob("*.sql")
    }


def python(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as an index's users get it."""
    made = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", made, ROOT, cwd=made)
    assert len(list(made.glob("*.tar.gz"))) == 1
    (wheel,) = made.glob("*.whl")
    return wheel


def test_the_wheel_carries_all_sql_and_finds_it_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    python("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)

    program = (
        "import kalshidb; from kalshidb.sqlfiles import sql_dir\n"
        "print(kalshidb.__file__, sql_dir('migrations'), sql_dir('queries'), sep='\\n')"
    )
    module, migrations, queries = python("-c", program, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()

    assert Path(module).is_relative_to(site)
    assert Path(migrations).is_relative_to(site)
    assert Path(queries).is_relative_to(site)
    expected = sql_files(ROOT)
    assert expected
    assert sql_files(Path(migrations).parent) == expected
    assert (migrations_snapshot := site / "kalshidb/_sql/schema.sql").exists()
    assert migrations_snapshot.read_bytes() == (ROOT / "docs/schema/schema.sql").read_bytes()
    assert (site / "kalshidb/py.typed").exists()
    assert (site / "bin/kalshidb").exists()


def test_the_sdist_carries_what_the_tests_and_run_py_need(wheel: Path) -> None:
    import tarfile

    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"run.py", "requirements.txt", "requirements-dev.txt", "yoyo.ini", "tests/conftest.py"} <= names
    assert set(sql_files(ROOT)) <= names
