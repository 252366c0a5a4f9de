"""Migration files as text: what their header says, how they split, and what is wrong with them, with the line."""

from pathlib import Path

import pytest

from kalshidb.migration.statements import SqlSyntaxError, parse_text, read_sql_file
from kalshidb.sqlfiles import sql_dir


@pytest.mark.parametrize("path", sorted(sql_dir("migrations").glob("*.sql")), ids=lambda path: path.name)
def test_our_own_files_are_sound(path: Path) -> None:
    assert read_sql_file(path).problems == ()


def test_a_header_says_what_yoyo_and_we_read(tmp_path: Path) -> None:
    path = tmp_path / "0002.index.sql"
    path.write_text(
        "-- An index.\n--\n-- Why: of no interest.\n-- depends: 0001.table other\n-- transactional: false\n"
        "-- irreversible: nobody misses it\n\nCREATE INDEX CONCURRENTLY t_x_idx\n    ON t (x); -- see 4711\n"
    )
    file = read_sql_file(path)
    assert (file.id, file.is_rollback, file.transactional, file.depends) == ("0002.index", False, False, ("0001.table", "other"))
    assert file.irreversible == "nobody misses it"
    assert file.header[0] == "An index."
    assert file.problems == ()
    ((statement),) = file.statements
    assert (statement.line, statement.kind, statement.title) == (8, "index_stmt", "CREATE INDEX CONCURRENTLY t_x_idx")
    assert statement.text.endswith("ON t (x)")


def test_statements_are_found_with_their_lines_in_any_script() -> None:
    found = parse_text("-- ä ; é\nSELECT 'ü;';\n\n/* a /* nested; */ one */ SELECT $$;\n;$$\n ;; SELECT 3")
    assert [(one.line, one.text) for one in found] == [(2, "SELECT 'ü;'"), (4, "SELECT $$;\n;$$"), (6, "SELECT 3")]


def test_a_syntax_error_has_its_line() -> None:
    with pytest.raises(SqlSyntaxError, match='at or near "TABEL"') as refused:
        parse_text("SELECT 'é';\nCREATE TABEL t ();")
    assert refused.value.line == 2


@pytest.mark.parametrize(
    ("text", "code", "line", "words"),
    [
        (b"SELECT 1;\n-- \xe4", "encoding", 0, "not UTF-8: byte 14 is 0xe4"),
        (b"\xef\xbb\xbfSELECT 1;", "encoding", 1, "byte order mark"),
        (b"", "empty", 0, "holds no statement"),
        (b"-- depends: a\n-- nothing else\n", "empty", 0, "holds no statement"),
        (b"CREATE TABLE t (\n  x integer,\n);", "syntax", 3, 'at or near ")"'),
        (b"COPY t FROM stdin;\n1\t2\n\\.\n", "syntax", 2, "write INSERT"),
        (b"SELECT 1 /* a /* nested; */ one; */ + 1;", "split", 1, "cuts a statement in pieces"),
        (b"-- dependson: a\nSELECT 1;", "directive", 1, "is `-- depends:` meant?"),
        (b"-- transaction: false\nSELECT 1;", "directive", 1, "is `-- transactional:` meant?"),
        (b"-- transactional: no\nSELECT 1;", "directive", 1, "must be true or false"),
        (b"SELECT 1;\n-- depends: a\nSELECT 2;", "directive", 2, "after the first statement"),
        (b"-- irreversible:\nSELECT 1;", "directive", 1, "needs the reason"),
        (b"CREATE TABLE t ();\nCOMMIT;\nCREATE TABLE u ();", "transaction", 2, "would end yoyo's transaction"),
        (b"\nCREATE INDEX CONCURRENTLY i ON t (x);", "transaction", 2, "`-- transactional: false`"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line(tmp_path: Path, text: bytes, code: str, line: int, words: str) -> None:
    path = tmp_path / "0001.x.sql"
    path.write_bytes(text)
    (problem,) = read_sql_file(path).problems
    assert (problem.code, problem.line) == (code, line)
    assert words in problem.message
    assert str(problem).startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_begin_and_commit_around_a_whole_file_are_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "0001.x.sql"
    path.write_text("BEGIN;\nCREATE TABLE t ();\nCOMMIT;")
    assert read_sql_file(path).problems == ()
