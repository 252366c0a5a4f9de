"""Files in every shape: what can be read is stored, what cannot be is kept with its place and the reason."""

import codecs
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from loading import Store, candle, event, market, pull_world, series, trade

from kalshidb.exchange.recognise import Kind
from kalshidb.ingest.load import find_files

ROOT = os.geteuid() == 0
NY = "KXRAIN-26NOV01-NY"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one.json", market()),
        ("envelope.json", {"market": market()}),
        ("page.json", {"markets": [market()], "cursor": ""}),
        ("list.json", [market()]),
        ("recorder.json", {"_metadata": {"url": "/markets", "captured_at": "2026-11-01T10:00:00Z"}, "response": {"markets": [market()]}}),
        ("text.json", {"status": 200, "body": json.dumps({"markets": [market()]})}),
        ("lines.jsonl", json.dumps({"markets": [market()]}) + "\n"),
        ("lines.ndjson", "\n" + json.dumps(market()) + "\n\n"),
        ("LINES.JSONL", json.dumps(market())),
        ("lines in.json", json.dumps(market()) + "\n" + json.dumps(market("KXRAIN-26NOV01-LA")) + "\n"),
        ("pretty.jsonl", json.dumps({"markets": [market()]}, indent=2)),
        ("mark.json", codecs.BOM_UTF8 + json.dumps(market()).encode()),
        ("mark.jsonl", codecs.BOM_UTF8 + json.dumps(market()).encode() + b"\n" + json.dumps(trade()).encode()),
        ("wide.json", json.dumps(market()).encode("utf-16")),
        ("wide.jsonl", (json.dumps(market()) + "\r\n" + json.dumps(trade()) + "\r\n").encode("utf-16")),
    ],
)  # fmt: skip
def test_a_market_is_found_in_every_shape_of_file(store: Store, name: str, content: object) -> None:
    report = store.load(store.file(name, content))
    assert report.total.rejected == 0
    assert "KXRAIN-26NOV01-NY" in store.column("SELECT market_ticker FROM catalog.markets WHERE NOT is_stub")


@pytest.mark.parametrize("era", ["cents", "transition", "current"])
def test_every_era_of_the_exchange_is_stored_without_a_refusal(store: Store, era: object) -> None:
    report, exchange = pull_world(store.conn, era=era)
    assert report.total.rejected == 0
    assert store.count("market_data.public_trades") == len(exchange.world.all_trades)


def test_lines_in_a_json_file_are_read_when_the_last_one_was_cut_off(store: Store) -> None:
    whole = json.dumps(market())
    report = store.load(store.file("recording.json", f"{whole}\n{whole[:40]}"))
    assert (report.counts("market").written, report.counts("file").rejected) == (1, 1)
    assert store.rejects()[0].source.endswith("recording.json:2")


def test_of_lines_only_the_broken_one_is_refused_with_its_file_and_line(store: Store) -> None:
    lines = [json.dumps(trade(number)).encode() for number in range(1, 6)]
    lines[2] = b'{"trade_id": "cut o'
    report = store.load(store.file("trades.jsonl", b"\n".join(lines)))
    assert (report.counts("trade").written, report.counts("file").rejected) == (4, 1)
    (reject,) = store.rejects()
    assert reject.source.endswith("trades.jsonl:3")
    assert reject.payload == lines[2] + b"\n"
    assert reject.errors[0]["error"].startswith("no JSON: Invalid control character at")


def test_a_first_line_that_is_broken_costs_no_other_line(store: Store) -> None:
    report = store.load(store.file("trades.jsonl", "{broken\n" + json.dumps(trade())))
    assert (report.counts("trade").written, report.counts("file").rejected) == (1, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"  \n ", "Expecting value"),
        (b'{"markets": [', "no JSON"),
        (bytes(range(256)), "no JSON"),
        (b"\x80\x04\x95 pickled", "no JSON"),
        (b"\x1f\x8b\x08 zipped", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"markets": [' + b"9" * 5_000 + b"]}", "no JSON"),
        (b'{"markets": [1e' + b"9" * 30 + b"]}", "beyond reason"),
        (b"<html>502 Bad Gateway</html>", "no JSON"),
    ],
)
def test_a_file_that_is_no_json_is_kept_byte_for_byte(store: Store, content: bytes, reason: str) -> None:
    report = store.load(store.file("broken.json", content), store.file("good.json", market()))
    assert (report.counts("market").written, report.total.rejected) == (1, 1)
    (reject,) = store.rejects()
    assert (reject.kind, reject.payload) == ("file", content)
    assert reason in reject.errors[0]["error"]


@pytest.mark.parametrize("depth", [40, 60, 100, 500, *range(900, 1000, 9), 5_000])
@pytest.mark.parametrize("where", ["around", "within", "as text"])
def test_nesting_is_stored_or_refused_at_every_depth(store: Store, depth: int, where: str) -> None:
    nest: Callable[[str], str] = lambda inner: "[" * depth + inner + "]" * depth  # noqa: E731
    content = {
        "around": nest(json.dumps(market())),
        "within": json.dumps(market(extra="HERE")).replace('"HERE"', nest("1")),
        "as text": json.dumps({"body": nest(json.dumps(market()))}),
    }[where]
    report = store.load(store.file("deep.json", content))
    assert report.total.rejected + report.counts("market").written >= 1
    if report.total.rejected:
        assert "nested" in str(store.rejects()[0].errors) or "nothing of the exchange" in str(store.rejects()[0].errors)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (r'"rain\u0000y"', "title"),
        (r'"rain\ud83dy"', "title"),
        ("NaN", "floor_strike"),
        ("Infinity", "volume_fp"),
        ("NaN", "a_field_of_tomorrow"),
        ("-Infinity", "a_field_of_tomorrow"),
        ("1e400", "a_field_of_tomorrow"),
        (r'{"a\u0000b": 1}', "a_field_of_tomorrow"),
        (r'["\udc00"]', "a_field_of_tomorrow"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_postgresql_cannot_hold_refuses_one_object_and_names_the_field(
    store: Store, text: str, field: str, wrapped: bool
) -> None:
    page = json.dumps({"markets": [market("KXRAIN-26NOV01-LA"), market(**{field: "HERE"})]}).replace('"HERE"', text)
    report = store.give(json.dumps({"body": page}) if wrapped else page)
    assert (report.counts("market").written, report.counts("market").rejected) == (1, 1)
    (reject,) = store.rejects()
    assert reject.errors[0]["field"].startswith(field)
    assert json.loads(reject.payload)["ticker"] == "KXRAIN-26NOV01-NY"
    assert store.retry().total.rejected == 1
    assert [reject.seen_count for reject in store.rejects()] == [2]


def test_what_surrounds_a_wrong_object_may_be_wrong_too(store: Store) -> None:
    """The category comes from the event, and goes with the refused market so that a retry knows it."""
    report = store.give({"events": [event(category="Wet\0\udc00", markets=[market(status=7)])]})
    assert (report.counts("event").rejected, report.counts("market").rejected) == (1, 1)
    assert len(store.rejects()) == 2
    report = store.give({"events": [event(category="Wet\0\udc00", markets=[market()])]})
    assert (report.counts("event").rejected, report.counts("market").written) == (1, 1)


def test_the_kind_can_be_forced(store: Store) -> None:
    report = store.give({"trade_id": trade()["trade_id"]}, kind=Kind.TRADE)
    assert report.counts("trade").rejected == 1
    assert {error["field"] for error in store.rejects()[0].errors} >= {"created_time"}


def test_a_kind_that_the_document_contradicts_is_refused(store: Store) -> None:
    report = store.give({"markets": [market()]}, kind=Kind.TRADE)
    assert report.counts("unrecognised").rejected == 1
    assert store.count("catalog.markets") == 0


# Folders


def test_a_folder_is_loaded_with_all_below_it_and_other_files_are_named(store: Store) -> None:
    store.file("a/series.json", {"series": [series()]})
    store.file("a/b/event.JSON", {"event": event()})
    store.file("a/b/c/market.jsonl", market())
    store.file("a/README.md", "read me")
    store.file("a/b/noextension", market("KXRAIN-26NOV01-LA"))
    found = find_files([store.folder / "a"])
    assert sorted(path.name for path in found.passed_over) == ["README.md", "noextension"]
    report = store.load(store.folder / "a")
    assert {kind: counts.written for kind, counts in report.kinds.items()} == {
        "series": 1, "event": 1, "market": 1, "market_version": 1, "price_snapshot": 1,
    }  # fmt: skip


def test_a_file_that_is_named_is_loaded_whatever_its_name_and_once(store: Store) -> None:
    path = store.file("answer.txt", market())
    assert store.load(path, path).counts("market").read == 1


def test_links_are_followed_and_loops_end(store: Store) -> None:
    store.file("elsewhere/market.json", market())
    folder = store.folder / "folder"
    folder.mkdir()
    (folder / "linked").symlink_to(store.folder / "elsewhere")
    (folder / "again").symlink_to(store.folder / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "deep").mkdir()
    (folder / "deep" / "up").symlink_to(folder.parent)
    report = store.load(folder)
    assert (report.counts("market").written, report.total.rejected) == (1, 0)


def test_a_link_that_leads_nowhere_is_reported_and_stops_nothing(store: Store) -> None:
    folder = store.file("folder/market.json", market()).parent
    (folder / "a.json").symlink_to(folder / "gone")
    (folder / "b.json").symlink_to(folder / "b.json")
    report = store.load(folder)
    assert (report.counts("market").written, report.counts("file").rejected) == (1, 2)
    assert [reject.source.rpartition("/")[2] for reject in sorted(store.rejects(), key=lambda r: r.source)] == [
        "a.json",
        "b.json",
    ]
    assert all(reject.errors[0]["error"].startswith("the file cannot be read") for reject in store.rejects())


def test_a_pipe_in_a_folder_is_not_waited_for(store: Store) -> None:
    folder = store.file("folder/market.json", market()).parent
    os.mkfifo(folder / "pipe.json")
    assert [path.name for path in find_files([folder]).passed_over] == ["pipe.json"]


def test_a_pipe_that_is_named_is_read_once_even_if_it_holds_lines(store: Store) -> None:
    reader, writer = os.pipe()
    os.write(writer, (json.dumps(trade(1)) + "\n" + json.dumps(trade(2)) + "\n").encode())
    os.close(writer)
    report = store.load(Path(f"/dev/fd/{reader}"))
    os.close(reader)
    assert report.counts("trade").written == 2


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_what_may_not_be_read_is_reported_and_stops_nothing(store: Store) -> None:
    folder = store.file("folder/market.json", market()).parent
    store.file("folder/secret.json", market()).chmod(0)
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)
    report = store.load(folder)
    (folder / "closed").chmod(0o755)
    assert (report.counts("market").written, report.counts("file").rejected) == (1, 2)


def test_a_file_and_a_folder_that_cannot_be_read_are_reported_and_stop_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for an ordinary user; root may read everything, so the system's refusal is played."""
    folder = store.file("folder/market.json", market()).parent
    store.file("folder/closed/market.json", market())
    store.file("folder/secret.json", market())
    scan, read = os.scandir, Path.open

    def scandir(path: object) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    def opened(path: Path, *args: object, **options: object) -> object:
        if path.name == "secret.json":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "open", opened)
    report = store.load(folder)
    assert (report.counts("market").written, report.counts("file").rejected) == (1, 2)
    assert {(reject.source.rpartition("/")[2], reject.errors[0]["error"]) for reject in store.rejects()} == {
        ("closed", "the folder cannot be looked into"),
        ("secret.json", "the file cannot be read: Permission denied"),
    }


def test_a_path_that_is_missing_is_an_error_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json: no such file or folder"):
        find_files([tmp_path, tmp_path / "nowhere.json"])


@pytest.mark.parametrize(
    "name", [b"new\nline.json", b"odd \xff\xfe bytes.json", b"tab\t[red]bell\x07.json", "ünï—☂.json".encode()]
)
def test_odd_file_names_are_loaded_and_reported_in_one_printable_line(store: Store, name: bytes) -> None:
    path = store.folder / os.fsdecode(name)
    path.write_text(json.dumps([market(), market(status=7)]))
    report = store.load(path)
    assert (report.counts("market").written, report.counts("market").rejected) == (1, 1)
    assert report.refusals[0].source.isprintable()
    assert store.rejects()[0].source == report.refusals[0].source


@pytest.mark.parametrize("year", [1970, 1980, 2400])
def test_a_file_whose_time_is_incredible_counts_as_seen_when_it_came_here(store: Store, year: int) -> None:
    path = store.file("market.json", market(), seen=datetime(year, 1, 1, tzinfo=UTC))
    store.load(path)
    (seen,) = store.column("SELECT snapshot_time FROM market_data.price_snapshots")
    assert abs(datetime.now(UTC) - seen) < timedelta(minutes=5)
    assert store.load(path).total.written == 0


# Candlesticks leave out what the request said


def test_a_candlestick_without_market_or_period_is_refused_with_a_hint(store: Store) -> None:
    report = store.give({"candlesticks": [candle()]})
    (refusal,) = report.refusals
    assert refusal.errors[0]["field"] == "period_interval_minutes"
    assert refusal.errors[0]["hint"] == "say it with --interval 1, 60 or 1440"
    report = store.give({"candlesticks": [candle()]}, period_interval_minutes=60)
    assert report.refusals[0].errors[0]["hint"] == "say it with --ticker"
    assert store.count("market_data.candlesticks") == 0


def test_the_period_is_inferred_where_the_ends_leave_no_doubt(store: Store) -> None:
    minute, hours = 1_793_534_460, [1_793_534_400 + hour * 3600 for hour in range(4)]
    days = [1_793_595_600 + day * 86_400 for day in range(1, 5)]  # midnights in New York, EST
    for name, ends in {"KXA-M": [minute], "KXA-H": hours, "KXA-D": days}.items():
        store.give({"ticker": name, "candlesticks": [candle(end) for end in ends]})
    found = store.conn.execute("SELECT DISTINCT market_ticker, period_interval_minutes FROM market_data.candlesticks").fetchall()
    assert dict(found) == {"KXA-M": 1, "KXA-H": 60, "KXA-D": 1440}
    assert store.give({"ticker": "KXA-X", "candlesticks": [candle(hours[0])]}).total.rejected == 1


def test_frames_and_polls_without_a_time_of_their_own_are_kept_apart_in_their_order(store: Store) -> None:
    frames = [
        {"type": "orderbook_snapshot", "sid": sid, "seq": 1, "msg": {"market_ticker": NY, "yes_dollars_fp": [[price, "5.00"]]}}
        for sid, price in ((3, "0.4400"), (4, "0.5000"), (5, "0.4300"))
    ]
    report = store.load(store.file("stream.jsonl", "\n".join(map(json.dumps, frames))))
    assert (report.counts("orderbook").written, report.counts("orderbook").unchanged) == (3, 0)
    books = store.conn.execute("SELECT sid FROM market_data.orderbook_snapshots ORDER BY snapshot_time").fetchall()
    assert [sid for (sid,) in books] == [3, 4, 5]
    assert store.load(store.file("stream.jsonl", "\n".join(map(json.dumps, frames)))).total.rejected == 0


def test_an_offer_of_nothing_is_no_offer(store: Store) -> None:
    combo = market(yes_bid_dollars="0.1500", yes_ask_dollars="0.0000", no_bid_dollars="1.0000", no_ask_dollars="0.8500")
    assert store.give({"markets": [combo]}).total.rejected == 0
    assert store.conn.execute("SELECT yes_bid, yes_ask, no_bid, no_ask, midpoint FROM market_data.price_snapshots").fetchone() == (
        Decimal("0.15"), Decimal(1), Decimal(0), Decimal("0.85"), Decimal("0.575"),
    )  # fmt: skip


def test_a_length_that_no_candlestick_has_is_refused_by_name(store: Store) -> None:
    report = store.give({"ticker": NY, "period_interval": 15, "candlesticks": [candle()]})
    assert report.total.rejected == 1
    (reject,) = store.rejects()
    assert reject.errors[0]["field"] == "period_interval"
