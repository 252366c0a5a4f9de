"""What must not change: the lock file, numbers and `depends`, git history; and the next migration's name."""

import subprocess
from pathlib import Path

import pytest

from kalshidb.migration import MigrationError, integrity
from kalshidb.migration.folder import read_folder
from kalshidb.migration.integrity import LOCK_FILE, lock, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three migrations in a chain, locked."""
    for number, (name, before) in enumerate(zip("abc", ["", "0001.a", "0002.b"], strict=True), 1):
        header = f"-- depends: {before}\n" if before else ""
        (tmp_path / f"000{number}.{name}.sql").write_text(f"{header}CREATE TABLE {name} ();\n")
        (tmp_path / f"000{number}.{name}.rollback.sql").write_text(f"DROP TABLE {name};\n")
    lock(tmp_path)
    return tmp_path


def found(folder: Path, base: str | None = None) -> list[tuple[str, str]]:
    return [(problem.code, problem.path.name) for problem in verify(read_folder(folder), base)]


def test_a_fresh_lock_agrees_and_is_not_written_again(folder: Path) -> None:
    assert found(folder) == []
    before = (folder / LOCK_FILE).stat()
    ((done),) = lock(folder)
    assert (done.added, done.rewritten) == ((), ())
    assert (folder / LOCK_FILE).stat() == before


def test_each_line_holds_the_hash_of_all_before_it(folder: Path) -> None:
    lines = (folder / LOCK_FILE).read_text().splitlines()[3:]
    assert [line.split()[0] for line in lines] == ["0001.a", "0002.b", "0003.c"]
    assert all(len(word) == 64 for line in lines for word in line.split()[1:])
    (folder / "0001.a.sql").write_text("CREATE TABLE other ();")
    lock(folder, rewrite=True)
    rewritten = (folder / LOCK_FILE).read_text().splitlines()[3:]
    assert [old.split()[1:3] == new.split()[1:3] for old, new in zip(lines, rewritten, strict=True)] == [False, True, True]
    assert all(old.split()[3] != new.split()[3] for old, new in zip(lines, rewritten, strict=True))


def test_what_an_editor_or_a_checkout_does_is_no_change(folder: Path) -> None:
    path = folder / "0002.b.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"  \r\n") + b"\r\n")
    assert found(folder) == []


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda f: (f / "0002.b.sql").write_text("-- depends: 0001.a\nCREATE TABLE b (x integer);"), [("edited", "0002.b.sql")]),
        (
            lambda f: (f / "0002.b.rollback.sql").write_text("DROP TABLE IF EXISTS b;"),
            [("rollback-edited", "0002.b.rollback.sql")],
        ),
        (lambda f: (f / "0002.b.rollback.sql").unlink(), [("rollback-edited", "0002.b.rollback.sql")]),
        (lambda f: [path.unlink() for path in f.glob("0003*")], [("vanished", LOCK_FILE)]),
        (
            lambda f: [(f / f"0003.c{end}").rename(f / f"0004.c{end}") for end in (".sql", ".rollback.sql")],
            [("vanished", LOCK_FILE), ("unlocked", "0004.c.sql"), ("gap", "0004.c.sql")],
        ),
        (lambda f: (f / "0004.d.sql").write_text("-- depends: 0003.c\nCREATE TABLE d ();"), [("unlocked", "0004.d.sql")]),
        (lambda f: (f / "0004.d.sql").write_text("CREATE TABLE d ();"), [("unlocked", "0004.d.sql"), ("depends", "0004.d.sql")]),
        (
            lambda f: (f / "0005.e.sql").write_text("-- depends: 0003.c\nCREATE TABLE e ();"),
            [("unlocked", "0005.e.sql"), ("gap", "0005.e.sql")],
        ),
        (
            lambda f: (f / "0003.x.sql").write_text("-- depends: 0002.b\nCREATE TABLE x ();"),
            [("unlocked", "0003.x.sql"), ("duplicate", "0003.x.sql")],
        ),
        (
            lambda f: (f / "0002.a.sql").write_text("-- depends: 0001.a\nCREATE TABLE x ();"),
            [("out-of-order", "0002.a.sql"), ("duplicate", "0002.b.sql")],
        ),
    ],
    ids=[
        "edited",
        "rollback edited",
        "rollback gone",
        "gone",
        "renamed",
        "new",
        "unchained",
        "gap",
        "number twice",
        "in between",
    ],
)
def test_what_changes_is_named(folder: Path, change: object, codes: list[tuple[str, str]]) -> None:
    change(folder)  # type: ignore[operator]
    assert found(folder) == codes
    if codes[0][0] != "unlocked" or len(codes) > 1:
        before = (folder / LOCK_FILE).read_text()
        with pytest.raises(MigrationError, match="nothing was written, as history must not change in silence:\n"):
            lock(folder)
        assert (folder / LOCK_FILE).read_text() == before


def test_a_changed_order_is_named(folder: Path) -> None:
    lock_file = folder / LOCK_FILE
    for name, before in (("0001.a", "0003.c"), ("0002.b", ""), ("0003.c", "0002.b")):
        header = f"-- depends: {before}\n" if before else ""
        (folder / f"{name}.sql").write_text(f"{header}CREATE TABLE {name[-1]} ();\n")
    problems = verify(read_folder(folder))
    assert ("reordered", lock_file.name) in [(problem.code, problem.path.name) for problem in problems]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text.replace("0002.b", "0002.x"), "the chain breaks at 0002.x"),
        (
            lambda text: "".join(line for line in text.splitlines(True) if not line.startswith("0002")),
            "the chain breaks at 0003.c",
        ),
        (lambda text: text.replace("version 1", "version 9"), "no lock of this version"),
        (lambda text: text.replace("0003.c", "<<<<<<< HEAD\n0003.c"), "holds a merge conflict"),
        (lambda text: text + "0004.d abc\n", "a migration and three hashes belong here"),
    ],
)
def test_a_lock_that_was_edited_is_named_with_its_line(folder: Path, edit: object, words: str) -> None:
    path = folder / LOCK_FILE
    path.write_text(edit(path.read_text()))  # type: ignore[operator]
    ((problem),) = verify(read_folder(folder))
    assert (problem.code, problem.path) == ("lock", path)
    assert problem.line > 0
    assert words in problem.message


def test_new_ones_are_appended(folder: Path) -> None:
    before = (folder / LOCK_FILE).read_text()
    (folder / "0004.d.sql").write_text("-- depends: 0003.c\nCREATE TABLE d ();")
    ((done),) = lock(folder)
    assert done.added == ("0004.d",)
    assert (folder / LOCK_FILE).read_text().startswith(before)
    assert found(folder) == []


def test_timestamps_and_names_may_have_gaps(tmp_path: Path) -> None:
    for name in ("20240105_01_Xk2p9-first", "20240711_01_a8Sd2-second", "a_name"):
        (tmp_path / f"{name}.sql").write_text("SELECT 1;")
    lock(tmp_path)
    assert found(tmp_path) == []


# Against git


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def test_history_is_compared_with_a_commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "landed")
    (folder / "0004.d.sql").write_text("-- depends: 0003.c\nCREATE TABLE d ();")
    lock(folder)
    assert found(folder, "HEAD") == []
    (folder / "0001.a.sql").write_text("CREATE TABLE other ();")
    (folder / "0002.b.rollback.sql").unlink()
    for path in folder.glob("0003*"):
        path.unlink()
    (folder / "0004.d.sql").write_text("-- depends: 0002.b\nCREATE TABLE d ();")
    lock(folder, rewrite=True)
    assert [code for code in found(folder, "HEAD") if code[0] != "gap"] == [
        ("edited", "0001.a.sql"),
        ("vanished", "0002.b.rollback.sql"),
        ("vanished", "0003.c.rollback.sql"),
        ("vanished", "0003.c.sql"),
    ], "a lock that was rewritten hides nothing from git"
    with pytest.raises(MigrationError, match="'nowhere' is no commit that git knows"):
        verify(read_folder(folder), "nowhere")


def test_a_migration_before_the_landed_ones_is_named(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "landed")
    (folder / "0000.early.sql").write_text("SELECT 1;")
    assert ("out-of-order", "0000.early.sql") in found(folder, "HEAD")


# The next one


def test_a_new_migration_continues_the_numbers_and_the_chain(folder: Path) -> None:
    path, undo = integrity.new("Add market index", folder)
    assert (path.name, undo.name) == ("0004.add-market-index.sql", "0004.add-market-index.rollback.sql")
    text = path.read_text()
    assert "-- depends: 0003.c\n" in text
    for word in "Why:", "Locks:", "Undo:":
        assert f"-- {word}" in text
    assert read_folder(folder).migrations[-1].id == "0004.add-market-index"


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("0009_nine", "0010_{}"),
        ("000123-x", "000124-{}"),
        ("7.seven", "8.{}"),
        ("initial", "0001.{}"),
    ],
)
def test_a_new_migration_follows_the_folders_own_scheme(tmp_path: Path, last: str, expected: str) -> None:
    (tmp_path / f"{last}.sql").write_text("SELECT 1;")
    assert integrity.new("next", tmp_path)[0].stem == expected.format("next")


def test_a_new_migration_in_a_dated_folder_has_a_date(tmp_path: Path) -> None:
    (tmp_path / "20240105_01_Xk2p9-first.sql").write_text("SELECT 1;")
    path, _ = integrity.new("next", tmp_path)
    assert path.stem.startswith("20")
    assert path.stem.endswith("_next")
    assert "-- depends: 20240105_01_Xk2p9-first" in path.read_text()


def test_the_first_migration_of_an_empty_folder(tmp_path: Path) -> None:
    path, _ = integrity.new("begin", tmp_path)
    assert path.name == "0001.begin.sql"
    assert "depends" not in path.read_text()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "ä", "x.sql"])
def test_a_name_that_cannot_be_one_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(MigrationError, match="cannot name a migration: letters, digits and hyphens"):
        integrity.new(name, folder)
