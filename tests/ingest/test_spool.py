"""What was appended to a spool is on disk, in order and whole, whatever happened to its writer."""

import json
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalshidb.exchange.recognise import Hints, Kind
from kalshidb.ingest.arrivals import Arrival, LineError, Note, Written, from_line, to_line
from kalshidb.ingest.spool import Spool, SpoolError

MOMENT = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)


def content(spool: Spool) -> list[bytes]:
    return [line for path in spool.segments() for line in path.read_bytes().splitlines(keepends=True)]


@settings(max_examples=60)
@given(
    body=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), st.just(b'{"a": "\\ud800\xe2\x80\xa8\\n"}\r\n')),
    url=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    status=st.one_of(st.none(), st.integers(100, 599)),
    hints=st.builds(
        Hints,
        kind=st.one_of(st.none(), st.sampled_from(Kind)),
        market_ticker=st.one_of(st.none(), st.just("KXA-1")),
        period_interval_minutes=st.sampled_from([None, 1, 60]),
        observed_at=st.sampled_from([None, MOMENT]),
    ),
)
def test_what_arrived_comes_back_as_it_was(body: bytes, url: str, status: int | None, hints: Hints) -> None:
    arrival = Arrival(url, {"tickers": "A,B"}, status, MOMENT, body, hints)
    line = to_line(arrival, "a run", "poll")
    assert line.count(b"\n") == 1
    assert from_line(line) == Written(arrival, "a run", "poll")


def test_of_a_body_of_which_a_part_was_wanted_the_part_comes_back() -> None:
    arrival = Arrival("u", {}, 200, MOMENT, b'{"markets": [1, 2]}', Hints(), chosen={"markets": [1]})
    written = from_line(to_line(arrival, "a run", "poll"))
    assert isinstance(written.entry, Arrival)
    assert json.loads(written.entry.body) == {"markets": [1]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (to_line(Note("coverage", {}), "a", "poll")[:-1], "not written to its end"),
        (to_line(Note("coverage", {}), "a", "poll")[:-9] + b"\n", "no JSON"),
        (b"[]\n", "no line of a spool of version 1"),
        (b'{"kalshidb": 2, "note": "a"}\n', "no line of a spool of version 1"),
        (b'{"kalshidb": 1, "origin": "post", "note": "a"}\n', "no origin 'post'"),
        (b'{"kalshidb": 1, "origin": "poll", "url": "a"}\n', "KeyError"),
    ],
)
def test_a_line_that_is_not_whole_is_told_from_one_that_is(line: bytes, said: str) -> None:
    with pytest.raises(LineError, match=said):
        from_line(line)


def test_lines_are_kept_in_order_over_segments_of_bounded_size(tmp_path: Path) -> None:
    lines = [b"%d\n" % number for number in range(1000)]
    with Spool(tmp_path / "a" / "b", segment_bytes=500) as spool:
        for begin in range(0, 1000, 10):
            spool.append(lines[begin : begin + 10])
        assert content(spool) == lines
        assert len(spool.segments()) > 5
        assert max(path.stat().st_size for path in spool.segments()) < 600
        assert spool.held().size == sum(map(len, lines))


def test_what_a_living_writer_appends_to_is_not_loaded_and_what_a_dead_one_left_is(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from kalshidb.ingest.spool import Spool
spool = Spool(Path(sys.argv[1]))
spool.append([b"whole\\n"])
print("written", flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "written\n"
        ours = Spool(tmp_path)
        (path,) = ours.segments()
        with ours.claimed(path) as file:
            assert file is None
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.wait() == -signal.SIGKILL
    with ours.claimed(path) as file:
        assert file is not None
        assert file.read() == b"whole\n"


def test_a_spool_is_loaded_by_one_at_a_time(tmp_path: Path) -> None:
    with Spool(tmp_path).loading() as first, Spool(tmp_path).loading() as second:
        assert (first, second) == (True, False)
    with Spool(tmp_path).loading() as later:
        assert later


def test_who_takes_an_empty_segment_from_under_its_writer_takes_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the making of a file and the lock on it another process takes it for a dead one's, and removes it."""
    spool, taken = Spool(tmp_path), []
    open_ = os.open

    def and_lose_it(path: Path, *arguments: int, **named: int) -> int:
        opened = open_(path, *arguments, **named)
        if not taken and arguments[0] & os.O_EXCL:
            taken.append(path)
            path.unlink()
        return opened

    monkeypatch.setattr("kalshidb.ingest.spool.os.open", and_lose_it)
    spool.append([b"kept\n"])
    assert taken
    assert content(spool) == [b"kept\n"]


def test_a_folder_that_can_be_used_is_made_and_left_empty(tmp_path: Path) -> None:
    Spool(tmp_path / "a" / "b").check()
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_cannot_be_used_is_an_error_before_anything_depends_on_it(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be used"):
        Spool(tmp_path / folder).check()


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        Spool(tmp_path / "file").require_readable()
    Spool(tmp_path / "absent").require_readable()


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"before\n"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(OSError, match="too large"):
            spool.append([b"x" * 60 + b"\n", b"y" * 60 + b"\n"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert content(spool) == [b"before\n"]
    spool.append([b"after\n"])
    assert content(spool) == [b"before\n", b"after\n"]
