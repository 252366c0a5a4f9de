"""The `kalshidb` command as a person and as a program meets it: words, exit status, JSON."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kalshidb import cli
from kalshidb.exchange.simulator import SimulatedExchange
from kalshidb.migration import migrate
from kalshidb.sqlfiles import sql_dir

NY = "KXRAIN-26NOV01-NY"
MARKET = {
    "ticker": NY, "event_ticker": "KXRAIN-26NOV01", "market_type": "binary", "title": "Rain in New York?",
    "open_time": "2026-10-31T14:00:00Z", "close_time": "2026-11-02T05:00:00Z", "status": "active", "result": "",
    "yes_bid_dollars": "0.4000", "yes_ask_dollars": "0.4200",
}  # fmt: skip
CANDLE = {"end_period_ts": 1_793_534_400, "volume_fp": "3.00", "open_interest_fp": "9.00", "yes_bid": {}, "yes_ask": {}}


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.out)


class Command:
    """Run `kalshidb` in this process, with the environment and the arguments of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["kalshidb", *map(str, arguments)])
        status: object = 0
        self.capsys.readouterr()
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        out, err = self.capsys.readouterr()
        assert isinstance(status, int)
        return Outcome(status, out, err)


@pytest.fixture
def kalshidb(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command, with DATABASE_URL saying the test's own migrated database."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def market_file(tmp_path: Path) -> Path:
    path = tmp_path / "market.json"
    path.write_text(json.dumps({"markets": [MARKET]}))
    return path


@pytest.fixture
def wrong_file(tmp_path: Path) -> Path:
    """A candlestick that does not say its market, and a market whose status is no text."""
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps([CANDLE | {"period_interval": 60}, MARKET | {"status": 7}]))
    return path


def in_a_process(*arguments: object, url: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kalshidb", *map(str, arguments)]
    return subprocess.run(
        command, env=os.environ | {"DATABASE_URL": url, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


# Loading


def test_load_says_what_became_of_each_kind_and_a_second_time_writes_nothing(kalshidb: Command, market_file: Path) -> None:
    first = kalshidb("load", market_file)
    assert (first.status, first.err) == (0, "")
    assert re.search(r"^market +1 +1 +0 +0\s*$", first.out, re.MULTILINE)
    assert "run 1: 3 read, 3 written, 0 unchanged, 0 rejected in" in first.out
    assert "1 parents are known by ticker only; `kalshidb stubs` lists them" in first.out
    assert "3 read, 0 written, 3 unchanged, 0 rejected" in kalshidb("load", market_file).out


def test_load_prints_json_for_machines(kalshidb: Command, market_file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "status.json").write_text('{"exchange_active": true, "trading_active": true}')
    found = kalshidb("load", tmp_path, "--json")
    assert (found.status, found.err) == (0, "")
    report = found.json
    assert {name: report[name] for name in ("read", "written", "unchanged", "rejected", "files", "stubs", "refusals")} == {
        "read": 3, "written": 3, "unchanged": 0, "rejected": 0, "files": 2,
        "stubs": {"series": 0, "event": 1, "market": 0}, "refusals": [],
    }  # fmt: skip
    assert report["kinds"]["market"] == {"read": 1, "written": 1, "unchanged": 0, "rejected": 0}
    assert report["not_stored"] == {"exchange status": 1}
    assert [Path(path).name for path in report["passed_over"]] == ["notes.txt"]


def test_a_refusal_is_explained_and_the_exit_status_is_3(kalshidb: Command, wrong_file: Path) -> None:
    plain = kalshidb("load", wrong_file)
    assert plain.status == 3
    assert (
        f"rejected candlestick {wrong_file} $[0]\n  market_ticker: the answer does not say which market it is about; say it"
        in plain.out
    )
    assert f"rejected market {wrong_file} $[1]\n  status: " in plain.out
    found = kalshidb("load", wrong_file, "--json")
    assert (found.status, found.json["rejected"]) == (3, 2)
    assert {refusal["errors"][0]["field"] for refusal in found.json["refusals"]} == {"market_ticker", "status"}


def test_options_say_what_the_answers_leave_out(kalshidb: Command, tmp_path: Path, pg: psycopg.Connection) -> None:
    path = tmp_path / "candles.json"
    path.write_text(json.dumps({"candlesticks": [CANDLE]}))
    for moment in ("2026-11-02T03:04:05Z", "2026-11-02", "2026-11-02T03:04", "2026-11-02T03:04:05.678+00:00"):
        assert kalshidb("load", path, "--ticker", NY, "--interval", 1440, "--at", moment).status == 0
    row = pg.execute("SELECT market_ticker, period_interval_minutes, volume::text FROM market_data.candlesticks").fetchone()
    assert row == (NY, 1440, "3.00")
    path.write_text(json.dumps([{"end_period_ts": 1_793_534_400}]))
    assert kalshidb("load", path, "--kind", "candlestick", "--ticker", NY, "--interval", 60).status == 0


def test_keep_raw_keeps_the_payload_of_quotes_too(kalshidb: Command, market_file: Path, pg: psycopg.Connection) -> None:
    kalshidb("load", market_file, "--keep-raw")
    assert pg.execute("SELECT raw_json ->> 'ticker' FROM market_data.price_snapshots").fetchone() == (NY,)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nonsense"], "No such option"),
        (["load"], "Missing argument"),
        (["load", "x.json", "--interval", "5"], "5 is no length of a candlestick"),
        (["load", "x.json", "--kind", "portfolio"], "is not one of"),
        (["load", "x.json", "--at", "yesterday"], "does not match the format"),
        (["runs", "--last", "0"], "greater than or equal to 1"),
        (["rejects", "list", "--last", "-1"], "greater than or equal to 1"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_arguments_are_explained_with_exit_status_2(kalshidb: Command, arguments: Sequence[str], says: str) -> None:
    found = kalshidb(*arguments)
    assert (found.status, found.out) == (2, "")
    assert says in " ".join(found.err.replace("│", " ").split())


def test_a_missing_path_is_one_line_on_stderr(kalshidb: Command, market_file: Path) -> None:
    gone = market_file.parent / ("long name " * 12 + "gone.json")
    found = kalshidb("load", market_file, gone)
    assert (found.status, found.out, found.err) == (1, "", f"kalshidb: {gone}: no such file or folder\n")
    assert kalshidb("runs", "--json").json == []
    assert kalshidb("load", "x" * 300).status == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_odd_file_names_can_be_printed_and_stored(database_url: str, tmp_path: Path, options: list[str]) -> None:
    for name in (b"odd \xff\n.json", b"[red]passed \xfe over"):
        (tmp_path / os.fsdecode(name)).write_text(json.dumps({"markets": [MARKET | {"status": 7}]}))
    found = in_a_process("load", tmp_path, *options, url=database_url)
    assert (found.returncode, found.stderr) == (3, "")
    assert "odd \\\\xff\\\\n.json" in found.stdout if options else "odd \\xff\\n.json" in found.stdout
    named = os.fsencode(tmp_path / os.fsdecode(b"odd \xff\n.json"))
    again = subprocess.run(
        [sys.executable.encode(), b"-m", b"kalshidb", b"load", named],
        env=os.environ | {"DATABASE_URL": database_url}, capture_output=True, check=False,
    )  # fmt: skip
    assert (again.returncode, again.stderr) == (3, b"")
    runs = in_a_process("runs", "--json", url=database_url)
    assert "odd \\xff\\n.json" in json.loads(runs.stdout)[0]["source"]


def test_there_is_no_progress_bar_unless_stderr_is_a_terminal(database_url: str, market_file: Path) -> None:
    assert in_a_process("load", market_file, url=database_url).stderr == ""
    master, slave = pty.openpty()
    environment = os.environ | {"DATABASE_URL": database_url, "TERM": "xterm"}
    command = [sys.executable, "-m", "kalshidb", "load", str(market_file)]
    for options, bar in (([], True), (["--json"], False)):
        process = subprocess.run(
            [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=slave, text=True, check=True
        )
        os.set_blocking(master, False)
        try:
            shown = os.read(master, 1 << 16)
        except BlockingIOError:
            shown = b""
        assert (b"loading" in shown) is bar
        assert "\x1b" not in process.stdout
    os.close(master)
    os.close(slave)


def test_output_that_nobody_reads_to_the_end_is_no_error(database_url: str, wrong_file: Path) -> None:
    in_a_process("load", wrong_file, url=database_url)
    for options in ([], ["--json"]):
        command = [sys.executable, "-m", "kalshidb", "rejects", "list", *options]
        process = subprocess.Popen(
            command, env=os.environ | {"DATABASE_URL": database_url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.wait()


# Rejects, runs, stubs


def test_rejects_can_be_listed_shown_and_tried_again(kalshidb: Command, wrong_file: Path) -> None:
    assert kalshidb("rejects", "list").out == "nothing is rejected\n"
    kalshidb("load", wrong_file)
    listed = kalshidb("rejects", "list")
    assert "open: 1 candlestick, 1 market" in listed.out
    assert f"candlestick  {wrong_file} $[0]" in listed.out
    (candle,) = kalshidb("rejects", "list", "--kind", "candlestick", "--json").json
    assert (candle["kind"], candle["errors"][0]["field"], candle["seen_count"]) == ("candlestick", "market_ticker", 1)
    assert kalshidb("rejects", "list", "--source", "nowhere", "--json").json == []

    shown = kalshidb("rejects", "show", candle["payload_sha256"][:10])
    assert '"end_period_ts": 1793534400' in shown.out
    assert "refused 1 times" in shown.out
    (whole,) = kalshidb("rejects", "show", candle["payload_sha256"], "--json").json
    assert json.loads(whole["payload"]) == CANDLE | {"period_interval": 60}

    nothing = kalshidb("rejects", "retry", "zzzz")
    assert (nothing.status, "no open reject begins with 'zzzz'" in nothing.err) == (1, True)
    again = kalshidb("rejects", "retry", "--kind", "candlestick", "--ticker", NY)
    assert (again.status, again.out.splitlines()[-1]) == (0, "1 of 1 resolved")
    assert "resolved 20" in kalshidb("rejects", "show", candle["payload_sha256"]).out
    failed = kalshidb("rejects", "retry", "--json")
    assert (failed.status, failed.json["resolved"], failed.json["rejected"]) == (3, 0, 1)
    assert [reject["seen_count"] for reject in kalshidb("rejects", "list", "--json").json] == [2]


def test_a_retry_by_source_and_as_a_kind(kalshidb: Command, tmp_path: Path, pg: psycopg.Connection) -> None:
    for name in ("hour", "day"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"end_period_ts": 1_793_534_400}]))
        kalshidb("load", tmp_path / f"{name}.json")
    assert [reject["kind"] for reject in kalshidb("rejects", "list", "--json").json] == ["unrecognised"] * 2
    found = kalshidb("rejects", "retry", "--source", "day", "--as", "candlestick", "--ticker", NY, "--interval", 1440)
    assert (found.status, found.out.splitlines()[-1]) == (0, "1 of 1 resolved")
    assert pg.execute("SELECT period_interval_minutes FROM market_data.candlesticks").fetchone() == (1440,)


def test_a_reject_of_broken_bytes_can_be_shown(kalshidb: Command, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(b"\x00\xff[red]")
    assert kalshidb("load", path).status == 3
    (reject,) = kalshidb("rejects", "list", "--json").json
    assert "[red]" in kalshidb("rejects", "show", reject["payload_sha256"]).out
    assert kalshidb("rejects", "show", reject["payload_sha256"], "--json").json[0]["payload"] == "\x00\\xff[red]"
    found = kalshidb("rejects", "retry")
    assert (found.status, "1 are broken files: load mended ones" in found.out) == (0, True)


def test_a_reject_that_is_not_to_be_stored_can_be_closed(kalshidb: Command, tmp_path: Path) -> None:
    path = tmp_path / "cut off.json"
    path.write_text('{"markets": [')
    kalshidb("load", path)
    (reject,) = kalshidb("rejects", "list", "--json").json
    closed = kalshidb("rejects", "discard", reject["payload_sha256"][:12])
    assert (closed.status, closed.out) == (0, f"discarded {reject['payload_sha256'][:12]}  file  {path}\n")
    assert kalshidb("rejects", "list").out == "nothing is rejected\n"
    assert kalshidb("rejects", "show", reject["payload_sha256"], "--json").json[0]["payload"] == '{"markets": ['
    assert kalshidb("rejects", "discard", reject["payload_sha256"]).status == 1


def test_psql_opens_the_same_database_and_passes_its_arguments_on(database_url: str, market_file: Path) -> None:
    assert in_a_process("load", market_file, url=database_url).returncode == 0
    found = in_a_process("psql", "-X", "-A", "-t", "-c", "SELECT count(*) FROM catalog.markets", url=database_url)
    assert (found.returncode, found.stdout) == (0, "1\n")
    assert in_a_process("psql", "-X", "-c", "SELECT nonsense", url=database_url).returncode == 1


def test_a_reject_that_is_not_there_is_an_error(kalshidb: Command) -> None:
    found = kalshidb("rejects", "show", "abc")
    assert (found.status, found.err) == (1, "kalshidb: no reject begins with 'abc'; `kalshidb rejects list` shows them\n")


def test_stubs_and_runs_can_be_listed(kalshidb: Command, market_file: Path) -> None:
    kalshidb("load", market_file)
    assert kalshidb("stubs").out == "event   KXRAIN-26NOV01\n1 stubs; loading their own answers completes them\n"
    (stub,) = kalshidb("stubs", "--json").json
    assert (stub["kind"], stub["ticker"]) == ("event", "KXRAIN-26NOV01")
    kalshidb("load", market_file)
    newest, oldest = kalshidb("runs", "--json").json
    assert (newest["rows_written"], oldest["rows_written"]) == (0, 3)
    assert kalshidb("runs", "--last", 1, "--json").json == [newest]
    last, source, *_ = kalshidb("runs").out.splitlines()
    assert re.match(r"     2  2\d{3}-\d\d-\d\d .* UTC  succeeded +3 read, 0 written, 3 unchanged, 0 rejected in \d", last)
    assert source.strip() == f"load {market_file}"


def test_a_run_is_shown_with_its_kinds_its_error_and_what_it_asked(kalshidb: Command) -> None:
    with SimulatedExchange(markets=60) as exchange:
        kalshidb.monkeypatch.setenv("KALSHI_API_URL", exchange.base_url)
        kalshidb.monkeypatch.setattr("kalshidb.exchange.questions.PAGE_SIZE", 5)
        cut = kalshidb("sync-markets", "--full-speed", "--status", "settled", "--max-pages", 1, "--json")
    assert cut.status == 0
    found = kalshidb("runs", "show", 1, "--json").json
    assert (found["status"], found["error"]) == ("truncated", cut.json["cut"])
    assert found["rows_by_kind"] == cut.json["kinds"]
    assert [request["request_number"] for request in found["requests"]] == list(range(1, len(exchange.requests) + 1))
    assert {request["http_status"] for request in found["requests"]} == {200}
    text = kalshidb("runs", "show", 1, "--requests", 2).out
    markets = found["rows_by_kind"]["market"]
    assert f"        {cut.json['cut']}" in text.splitlines()
    assert f"market: {markets['read']:,} read, {markets['written']:,} written" in text
    last = found["requests"][-1]
    assert f"{last['body_bytes']:,} bytes  {last['url']}" in text.splitlines()[-2]
    assert text.splitlines()[-1] == f"{len(found['requests']) - 2} requests before these; --requests shows more"
    assert kalshidb("runs", "show", 1, "--requests", 0, "--json").json["requests"] == []


def test_a_run_that_is_not_there_is_an_error(kalshidb: Command) -> None:
    found = kalshidb("runs", "show", 7)
    assert (found.status, found.err) == (1, "kalshidb: there is no run 7; `kalshidb runs` lists them\n")


def test_a_row_leads_to_the_run_and_the_file_that_brought_it(
    kalshidb: Command, pg: psycopg.Connection, market_file: Path
) -> None:
    kalshidb("load", market_file)
    (moment,) = pg.execute("SELECT retrieved_at::text FROM catalog.markets").fetchone() or ("",)
    text = kalshidb("runs", "at", moment).out
    assert text.splitlines()[0].startswith("     1  ")
    assert f"load {market_file}" in text
    assert text.splitlines()[-1].endswith(f"  -  {market_file.stat().st_size:,} bytes  {market_file}")
    (origin,) = kalshidb("runs", "at", moment, "--json").json
    assert (origin["run_id"], origin["url"]) == (1, str(market_file))
    nothing = kalshidb("runs", "at", "2020-01-01T00:00:00.123Z")
    assert (nothing.status, nothing.out) == (1, "")
    assert "nothing that was taken in arrived at 2020-01-01T00:00:00.123Z" in nothing.err
    assert kalshidb("runs", "at", "yesterday").status == 2
    assert kalshidb("runs", "at", "2020-01-01", "--json").json == []


# The database


def test_an_empty_database_is_migrated(
    empty_database: str, kalshidb: Command, monkeypatch: pytest.MonkeyPatch, market_file: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    assert kalshidb("load", market_file).status == 0
    assert kalshidb("migrate").out == "nothing to apply: the database is up to date\n"


@pytest.mark.parametrize("how_many", [1, 6, 12])
def test_a_first_migration_that_was_broken_off_is_finished_by_the_next_command(
    empty_database: str, kalshidb: Command, monkeypatch: pytest.MonkeyPatch, market_file: Path, how_many: int
) -> None:
    """Each migration is a transaction of its own, so a killed command leaves some of them; there is nothing to be careful with yet."""
    ids = [path.stem for path in sorted(sql_dir("migrations").glob("*.sql")) if not path.stem.endswith(".rollback")]
    migrate(empty_database, to=ids[how_many - 1])
    monkeypatch.setenv("DATABASE_URL", empty_database)
    assert kalshidb("load", market_file).status == 0
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT count(*) FROM _yoyo_migration").fetchone() == (len(ids),)


def test_a_database_that_lacks_migrations_is_left_alone_and_they_are_named(
    empty_database: str, kalshidb: Command, monkeypatch: pytest.MonkeyPatch, market_file: Path, tmp_path: Path
) -> None:
    """Changing a database in use is its owner's decision."""
    early = tmp_path / "early"
    early.mkdir()
    names = sorted(path.name for path in sql_dir("migrations").glob("*.sql"))
    for name in names:
        if name < "0010":
            (early / name).write_text((sql_dir("migrations") / name).read_text())
    migrate(empty_database, early)
    with psycopg.connect(empty_database) as conn:
        conn.execute(
            "INSERT INTO catalog.series (series_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)"
            " VALUES ('KXOURS', 'kalshi', 'KXOURS', true, now(), now(), now())"
        )
    monkeypatch.setenv("DATABASE_URL", empty_database)
    found = kalshidb("load", market_file)
    assert (found.status, found.out) == (1, "")
    assert found.err.startswith("kalshidb: the database lacks 0010.")
    assert "run `kalshidb migrate`, or `yoyo apply`, when it suits" in found.err
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regclass('research.strategies')").fetchone() == (None,)
    assert "applied 0012." in kalshidb("migrate").out
    assert kalshidb("load", market_file).status == 0


@pytest.mark.parametrize("command", [["load", "."], ["rejects", "list"], ["runs"], ["stubs"], ["migrate"], ["up"], ["demo"]])
def test_a_database_out_of_reach_is_one_line_without_the_password(
    kalshidb: Command, monkeypatch: pytest.MonkeyPatch, command: Sequence[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:s3cret@127.0.0.1:1/kalshi")
    found = kalshidb(*command)
    assert (found.status, found.out) == (1, "")
    (line,) = found.err.splitlines()
    assert line.startswith("kalshidb: No connection to PostgreSQL at somebody@127.0.0.1:1/kalshi: ")
    assert line.endswith("Check that the server runs and can be reached from here.")
    assert "s3cret" not in found.err


def test_a_malformed_address_is_explained_without_its_value(kalshidb: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://somebody:s3cret@host/db")
    found = kalshidb("runs")
    assert (found.status, "s3cret" in found.err) == (1, False)
    assert found.err.startswith("kalshidb: DATABASE_URL is not a PostgreSQL URL")


def test_what_the_database_refuses_names_the_statement(kalshidb: Command, pg: psycopg.Connection) -> None:
    pg.execute("ALTER TABLE ops.ingest_runs RENAME TO runs")
    pg.commit()
    found = kalshidb("runs")
    assert found.status == 1
    assert found.err.startswith("kalshidb: the database refuses:")
    assert "queries/ops/ingest_runs.sql" in found.err or "ingest_runs.sql" in found.err


def test_the_embedded_server_is_started_named_and_stopped(scratch: Path) -> None:
    import shutil
    import tempfile

    home = Path(tempfile.mkdtemp(prefix="kalshidb-tests up-", dir=scratch))
    home.chmod(0o755)
    try:
        up = in_a_process("up", KALSHIDB_HOME=str(home))
        assert (up.returncode, up.stderr) == (0, "")
        (address,) = up.stdout.splitlines()
        with psycopg.connect(address) as conn:
            assert conn.execute("SELECT count(*) FROM ops.ingest_runs").fetchone() == (0,)
        assert in_a_process("url", KALSHIDB_HOME=str(home)).stdout == up.stdout
        down = in_a_process("down", KALSHIDB_HOME=str(home))
        assert (down.returncode, down.stderr) == (0, "")
        assert "stopped" in down.stdout
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address)
    finally:
        in_a_process("down", "--force", KALSHIDB_HOME=str(home))
        shutil.rmtree(home, ignore_errors=True)


def test_url_prints_the_address_that_was_given(kalshidb: Command, database_url: str) -> None:
    assert kalshidb("url").out == database_url + "\n"


# Help and development


def test_help_says_what_each_command_does(kalshidb: Command) -> None:
    found = kalshidb("--help")
    assert found.status == 0
    for command in ("up", "down", "url", "migrate", "load", "stubs", "runs", "rejects", "demo", "simulator", "generate"):
        assert re.search(rf"│ {command} ", found.out), command
    found = kalshidb("load", "--help")
    for option in ("--kind", "--ticker", "--series", "--interval", "--at", "--keep-raw", "--json", "paths"):
        assert option in found.out
    assert kalshidb("load", "-h").out == found.out


def test_no_arguments_show_the_help(kalshidb: Command) -> None:
    found = kalshidb()
    assert "Usage:" in found.out + found.err


def test_the_generated_files_are_fresh(kalshidb: Command) -> None:
    found = kalshidb("generate", "--check")
    assert (found.status, found.out) == (0, "generated files are fresh\n")
