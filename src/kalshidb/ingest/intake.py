"""The one door through which data enters: documents in, rows and refusals out, a run's account at the end.

Nothing that arrived is lost: what is not stored as a row is stored whole in ops.rejected_payloads with the reason, and a
batch that the database refuses is taken apart until the row at fault is found. Everything may be repeated: a second time
writes nothing, and a process that was killed is made good by running it again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import psycopg
import simplejson
from psycopg import errors as pg
from pydantic import BaseModel, ValidationError

from kalshidb.exchange import plain, rows
from kalshidb.exchange.models import errors_of
from kalshidb.exchange.recognise import Found, Hints, Item, Kind, NotStored, Unrecognised, parse, recognise
from kalshidb.ingest.arrivals import Arrival
from kalshidb.models import catalog as catalog_rows
from kalshidb.models import market_data as market_data_rows
from kalshidb.models.domains import Source
from kalshidb.models.ops import IngestRequest, RejectedPayload, RejectedPayloadInput
from kalshidb.queries import catalog, market_data, ops
from kalshidb.typedsql import BulkResult

BATCH_ROWS = 5_000  # rows held before they are written: enough for COPY to pay, little enough for memory and locks
DEADLOCK_RETRIES = 5
LARGE = 1 << 20  # bytes of a refused payload that is written at once
MOST_ERRORS = 100  # kept where several rows or parts of one object are refused
_APART = timedelta(microseconds=1)
EXAMPLES = 20  # refusals that a report shows in full; all are in the database

T = TypeVar("T")


class Destination(StrEnum):
    """Where a row goes; also the word for it in reports. In the order in which they are written: parents first."""

    SERIES = "series"
    EVENT = "event"
    MARKET = "market"
    MARKET_VERSION = "market_version"
    MARKET_LIFECYCLE = "market_lifecycle"
    SETTLEMENT = "settlement"
    PRICE_SNAPSHOT = "price_snapshot"
    CANDLESTICK = "candlestick"
    ORDERBOOK = "orderbook"
    ORDERBOOK_DELTA = "orderbook_delta"
    TRADE = "trade"


Write = Callable[[psycopg.Connection[Any], Iterable[Any]], BulkResult]

_WRITERS: dict[Destination, tuple[type[BaseModel], Write]] = {
    Destination.SERIES: (catalog_rows.SeriesInput, catalog.upsert_series),
    Destination.EVENT: (catalog_rows.EventInput, catalog.upsert_events),
    Destination.MARKET: (catalog_rows.MarketInput, catalog.upsert_markets),
    Destination.MARKET_VERSION: (catalog_rows.MarketVersionInput, catalog.record_market_versions),
    Destination.MARKET_LIFECYCLE: (catalog_rows.MarketLifecycleInput, catalog.insert_market_lifecycle),
    Destination.SETTLEMENT: (catalog_rows.SettlementInput, catalog.insert_settlements),
    Destination.PRICE_SNAPSHOT: (market_data_rows.PriceSnapshotInput, market_data.upsert_price_snapshots),
    Destination.CANDLESTICK: (market_data_rows.Candlestick, market_data.upsert_candlesticks),
    Destination.ORDERBOOK: (market_data_rows.OrderbookSnapshotInput, market_data.upsert_orderbook_snapshots),
    Destination.ORDERBOOK_DELTA: (market_data_rows.OrderbookDelta, market_data.insert_orderbook_deltas),
    Destination.TRADE: (market_data_rows.PublicTrade, market_data.insert_public_trades),
}


def _copy_candlesticks(conn: psycopg.Connection[Any], made: Iterable[Any]) -> BulkResult:
    """Write candlesticks that are believed to be new; should one not be, they go the usual way."""
    return market_data.upsert_candlesticks(conn, made, known_new=True)


_DESTINATION_OF = {model: destination for destination, (model, _) in _WRITERS.items()}
_MAIN = {
    Kind.SERIES: Destination.SERIES,
    Kind.EVENT: Destination.EVENT,
    Kind.MARKET: Destination.MARKET,
    Kind.CANDLESTICK: Destination.CANDLESTICK,
    Kind.TRADE: Destination.TRADE,
    Kind.ORDERBOOK: Destination.ORDERBOOK,
    Kind.WS_TICKER: Destination.PRICE_SNAPSHOT,
    Kind.WS_TRADE: Destination.TRADE,
    Kind.WS_LIFECYCLE: Destination.MARKET_LIFECYCLE,
    Kind.WS_ORDERBOOK_SNAPSHOT: Destination.ORDERBOOK,
    Kind.WS_ORDERBOOK_DELTA: Destination.ORDERBOOK_DELTA,
}
UNRECOGNISED, FILE = "unrecognised", "file"


@dataclass(slots=True)
class Counts:
    """What became of the objects of one kind: read = written + unchanged + rejected."""

    read: int = 0
    written: int = 0
    unchanged: int = 0
    rejected: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the four numbers by name."""
        return {"read": self.read, "written": self.written, "unchanged": self.unchanged, "rejected": self.rejected}

    def __iadd__(self, other: "Counts") -> Self:
        self.read += other.read
        self.written += other.written
        self.unchanged += other.unchanged
        self.rejected += other.rejected
        return self


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that could not be stored, and why."""

    kind: str
    source: str
    errors: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class Report:
    """What a run did.

    Attributes:
        kinds: counts by kind of object; kinds that did not occur are left out.
        not_stored: what is known and has no table (portfolio, exchange status …) or no place in it, with how many.
        refusals: the first refusals; all of them are in ops.rejected_payloads.
        resolved: earlier refusals that are stored now.
        cut: where a walk was stopped before its last page; None when every list was read to its end.
    """

    run_id: int
    kinds: dict[str, Counts] = field(default_factory=dict[str, Counts])
    not_stored: dict[str, int] = field(default_factory=dict[str, int])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    resolved: int = 0
    cut: str | None = None

    @property
    def total(self) -> Counts:
        """Return the counts over all kinds."""
        total = Counts()
        for counts in self.kinds.values():
            total += counts
        return total

    @property
    def by_kind(self) -> dict[str, Counts]:
        """Return the counts of the kinds that occurred, parents first, what was no object of the exchange last."""
        known = [destination for destination in Destination if destination in self.kinds]
        return {kind: self.kinds[kind] for kind in [*known, *(kind for kind in self.kinds if kind not in known)]}

    def counts(self, kind: str) -> Counts:
        """Return the counts of one kind, to be added to."""
        return self.kinds.setdefault(kind, Counts())


def total_of(reports: Sequence[Report]) -> Report:
    """Return what several runs stored together, under the number of the first."""
    total = Report(reports[0].run_id if reports else 0)
    for report in reports:
        for kind, counts in report.kinds.items():
            together = total.counts(kind)
            together += counts
        for what, count in report.not_stored.items():
            total.not_stored[what] = total.not_stored.get(what, 0) + count
        total.refusals.extend(report.refusals)
        total.resolved += report.resolved
        total.cut = total.cut or report.cut
    return total


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row on its way, with what is needed to refuse it whole."""

    row: BaseModel | plain.Row
    item: Item
    source: str
    seen_at: datetime
    retried: RejectedPayload | None


@dataclass(frozen=True, slots=True)
class _Held:
    """A page of plain rows on its way; entries are made of it only when one of them is refused."""

    page: plain.Page
    source: str

    def entries(self) -> Iterator[_Entry]:
        for place, row in enumerate(self.page.rows):
            item = self.page.item(place)
            yield _Entry(row, item, f"{self.source} {item.path}", item.observed_at or datetime.now(UTC), None)


class Door(Protocol):
    """Where answers of the exchange go: an Intake, or a Landing, which stays open while the database is away."""

    @property
    def report(self) -> Report:
        """What was stored."""
        ...

    def read(self, document: object, hints: Hints, seen_at: datetime | None = None) -> plain.Page | None:
        """Return the rows of an answer that can be read the fast way; from any thread."""
        ...

    def arrive(self, arrival: Arrival, document: object = None, page: plain.Page | None = None) -> object:
        """Take in what arrived, with its parsed body and its rows from `read` where there are some."""
        ...

    def flush(self) -> None:
        """Write everything that arrived."""
        ...

    def note_cut(self, reason: str) -> None:
        """Note that a walk was stopped before its end."""
        ...

    def ask(self, question: Callable[[psycopg.Connection[Any]], T]) -> T | None:
        """Return what the database says; None while it is away."""
        ...


class Intake:
    """A run of loading. Use as a context manager: leaving it writes what is held and closes the run's account.

    Args:
        conn: a connection of its own in autocommit mode; it holds the run's lock as long as it is open.
        source: what is loaded, for ops.ingest_runs.
        origin: how the data reached us: `backfill` for files, `poll` for answers just asked for.
        keep_raw: keep the payload of high-volume rows too.
    """

    def __init__(self, conn: psycopg.Connection[Any], source: str, *, origin: Source, keep_raw: bool = False) -> None:
        if not conn.autocommit:
            raise ValueError("the connection must be in autocommit mode, or nothing is written before it commits")
        self._conn = conn
        self._origin: Source = origin
        self._keep_raw = keep_raw
        self._queues: dict[Destination, list[_Entry]] = {destination: [] for destination in Destination}
        self._pages: dict[Destination, list[_Held]] = {destination: [] for destination in Destination}
        self._are_new = True  # the last page held only what was not stored yet, and so will the next: then COPY does it alone
        self._requests: list[IngestRequest] = []
        self._asked = 0
        self._held = 0
        self._refused: dict[tuple[str, str, str], RejectedPayloadInput] = {}
        self._refused_again: set[tuple[str, str]] = set()
        self._stored_again: list[RejectedPayload] = []
        ops.abandon_dead_runs(conn)
        with conn.transaction():  # nobody sees the run before its lock is held, or it would be taken for a dead one
            run_id = ops.begin_ingest_run(conn, source=_storable(source))
            ops.hold_ingest_run(conn, run_id=run_id)
        self._report = Report(run_id)
        self.flushes = 0
        """How often everything that was held has been written."""

    @property
    def report(self) -> Report:
        """What the run has done."""
        return self._report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._fail(error)
            return
        try:
            self.flush()
        except BaseException as late:
            self._fail(late)
            raise
        status = "rejected_some" if self.report.total.rejected else "succeeded"
        self._finish("truncated" if self.report.cut else status, self.report.cut)

    def _fail(self, error: BaseException) -> None:
        if not self._conn.closed and not self._conn.broken:
            self._finish("failed", _storable(f"{type(error).__name__}: {error}"[:2000]))

    def _finish(self, status: str, error: str | None) -> None:
        self._note_progress()
        ops.finish_ingest_run(self._conn, run_id=self.report.run_id, status=status, error=error)

    def note_request(
        self,
        url: str,
        params: Mapping[str, str],
        *,
        http_status: int | None,
        body_bytes: int,
        retrieved_at: datetime,
        retrieved_until: datetime | None = None,
    ) -> Callable[[datetime], None]:
        """Note an answer, under whose time of retrieval its rows are stored: what lets a row be traced to it.

        Args:
            url: what was asked, without parameters; or the file.
            params: the parameters.
            http_status: status of the answer; None for a file.
            body_bytes: its length.
            retrieved_at: when it had arrived, UTC; of a batch of frames or a file the moment of its first object.
            retrieved_until: the moment of its last object, where they have moments of their own.

        Returns:
            What to call with that moment once it is known, where it is not known before.
        """
        self._asked += 1
        request = IngestRequest(
            run_id=self.report.run_id,
            request_number=self._asked,
            url=_storable(url),
            params=dict(params),
            http_status=http_status,
            body_bytes=body_bytes,
            retrieved_at=retrieved_at,
            retrieved_until=retrieved_until,
        )
        self._requests.append(request)
        return lambda until: self._requests.append(request.model_copy(update={"retrieved_until": until}))

    def note_cut(self, reason: str) -> None:
        """Note that a walk was stopped before its last page: the run ends as `truncated`, and says why."""
        self.report.cut = self.report.cut or reason

    def ask(self, question: Callable[[psycopg.Connection[Any]], T]) -> T | None:
        """Return what the database says; of what was taken in, it knows what was flushed."""
        return question(self._conn)

    # -- taking in ---------------------------------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival, document: object = None, page: plain.Page | None = None) -> None:
        """Take in what arrived, and note it as a request of the run.

        Args:
            arrival: what arrived, whole.
            document: the parsed body, or what of it was wanted; None when it was not parsed.
            page: its rows, from `read`.
        """
        self.note_request(
            arrival.url,
            arrival.params,
            http_status=arrival.http_status,
            body_bytes=len(arrival.body),
            retrieved_at=arrival.retrieved_at,
            retrieved_until=arrival.retrieved_until,
        )
        if page is not None:
            self.take_page(page, arrival.url)
            return
        if document is None:
            try:
                document = parse_json(arrival.body)
            except ValueError as error:
                self.refuse_bytes(arrival.body, arrival.url, f"no JSON: {error}")
                return
        self.take(document, arrival.url, arrival.hints, arrival.retrieved_at, arrival.body)

    def take(
        self,
        document: object,
        source: str,
        hints: Hints,
        seen_at: datetime,
        content: bytes | None = None,
        retried: RejectedPayload | None = None,
    ) -> datetime:
        """Take in every object of a parsed document; return the moment after the last.

        Objects that do not say when they were seen are a microsecond apart, in their order: two frames or two polls of one market are
        two observations, and the later one is the newer.

        Args:
            document: JSON parsed with Decimals.
            source: where it came from, for refusals; a place within it is added.
            hints: what the request said and the answer leaves out.
            seen_at: when the answer was given, where neither it nor the hints say so.
            content: the document as it arrived, to be kept where nothing in it is recognised.
            retried: the refusal of the whole document that this is another attempt for.
        """
        page = self.read(document, hints, seen_at) if retried is None else None
        if page is not None:
            self.take_page(page, source)
            return seen_at if hints.observed_at is not None else seen_at + _APART * len(page.rows)
        try:
            for found in recognise(document, hints):
                self._take_found(found, source, seen_at, content, retried)
                if isinstance(found, Item) and found.observed_at is None:
                    seen_at += _APART
        except (RecursionError, DecimalException) as error:
            if content is None:
                raise
            reason = "nested too deeply" if isinstance(error, RecursionError) else "text within it holds a number beyond reason"
            self.refuse_bytes(content, source, reason)
        return seen_at

    def read(self, document: object, hints: Hints, seen_at: datetime | None = None) -> plain.Page | None:
        """Return the rows of an answer that can be read the fast way, for `take_page`; None where `take` has to judge.

        Touches nothing of the run, so that another thread can read the next answer while this one is written.
        """
        seen_at = hints.observed_at or seen_at
        if self._keep_raw or seen_at is None:
            return None
        return plain.read(document, hints, seen_at, _APART, self._origin)

    def take_page(self, page: plain.Page, source: str) -> None:
        """Take in the rows of an answer that was read the fast way."""
        parts = {
            _MAIN[page.kind]: page,
            Destination.MARKET_VERSION: page.versions,
            Destination.PRICE_SNAPSHOT: page.quotes,
            Destination.SETTLEMENT: page.settlements,
        }
        for destination, part in parts.items():
            if part is not None and part.rows:
                self._pages[destination].append(_Held(part, source))
        self._held += page.size
        self._flush_if_full()

    def _take_found(
        self, found: Found, source: str, seen_at: datetime, content: bytes | None, retried: RejectedPayload | None
    ) -> None:
        place = f"{source} {found.path}"
        match found:
            case Item():
                self.take_item(found, place, seen_at, retried)
            case NotStored():
                self.report.not_stored[found.what] = self.report.not_stored.get(found.what, 0) + found.count
            case Unrecognised():
                problem = _problem("", None, found.reason, "say what it is with --kind")
                payload = content if found.path == "$" and content is not None else _json(found.payload)
                context = {"observed_at": seen_at.isoformat()}
                # Known together with its place, which may be all that says what it belongs to.
                identity = _identity(payload, {"source": place})
                self._refuse(UNRECOGNISED, payload, context, [problem], place, identity, retried=retried)
                self._flush_if_full()

    def take_item(self, item: Item, source: str, seen_at: datetime, retried: RejectedPayload | None = None) -> None:
        """Take in one object: validate it, map it to its rows, and hold them for the next batch."""
        if item.kind not in _MAIN:
            what = f"{item.kind} (own portfolio)"
            self.report.not_stored[what] = self.report.not_stored.get(what, 0) + 1
            return
        main = _MAIN[item.kind]
        if item.category is not None and _storable(item.category) != item.category:
            item = replace(item, category=None)  # it comes from the event, which is refused for it
        seen = item.observed_at or seen_at
        try:
            made = list(rows.rows_of(parse(item), seen, self._origin, keep_raw=self._keep_raw))
        except ValidationError as error:
            self._refuse_item(main, item, source, seen, errors_of(error), retried)
            self._flush_if_full()
            return
        except rows.MissingContextError as error:
            problem = _problem(error.field, None, error.error, error.hint)
            self._refuse_item(main, item, source, seen, [problem], retried)
            self._flush_if_full()
            return
        for row in made:
            self._queues[_DESTINATION_OF[type(row)]].append(_Entry(row, item, source, seen, retried))
        self._held += len(made)
        self._flush_if_full()

    def refuse_bytes(self, content: bytes, source: str, error: str) -> None:
        """Keep bytes that are no JSON."""
        problem = _problem("", None, error, "mend or fetch the file again, then load it")
        self._refuse(FILE, content, {}, [problem], source, _identity(content, {"source": source}))
        self._flush_if_full()

    def _refuse_item(
        self,
        counted_as: str,
        item: Item,
        source: str,
        seen_at: datetime,
        errors: Sequence[dict[str, Any]],
        retried: RejectedPayload | None,
    ) -> None:
        known = {
            "market_ticker": item.market_ticker,
            "series_ticker": item.series_ticker,
            "category": item.category,
            "period_interval_minutes": item.period_interval_minutes,
        }
        payload = _json(item.payload)
        # The moment of the answer, not of a later retry: an old answer must not pass for a new one then.
        context = known | {"observed_at": seen_at.isoformat()}
        self._refuse(
            item.kind, payload, context, errors, source, _item_identity(item, payload, known, source), counted_as, retried
        )

    def _refuse(
        self,
        kind: str,
        payload: bytes,
        context: dict[str, Any],
        errors: Sequence[dict[str, Any]],
        source: str,
        identity: str,
        counted_as: str | None = None,
        retried: RejectedPayload | None = None,
    ) -> None:
        counts = self.report.counts(counted_as or kind)
        counts.read += 1
        counts.rejected += 1
        if len(self.report.refusals) < EXAMPLES:
            self.report.refusals.append(Refusal(kind, source, tuple(errors)))
        if retried is not None:
            # Known under its own name already, and without the hints of this attempt, which may be what is wrong.
            identity, kind, payload, context = retried.payload_sha256, retried.kind, retried.payload, retried.context
            source = retried.source
            self._refused_again.add((identity, kind))
        source = _storable(source)
        # What one object is refused for, as several rows or in several parts, is one refusal.
        earlier = self._refused.get((identity, kind, source))
        if earlier is not None:
            errors = [*earlier.errors, *(error for error in errors if error not in earlier.errors)][:MOST_ERRORS]
        self._refused[identity, kind, source] = RejectedPayloadInput(
            payload_sha256=identity,
            kind=kind,
            payload=payload,
            context=context,
            errors=list(errors),
            source=source,
            run_id=self.report.run_id,
            last_seen_at=datetime.now(UTC),
        )
        if len(payload) > LARGE:
            self._held += BATCH_ROWS

    # -- writing -----------------------------------------------------------------------------------------------------------------

    def _flush_if_full(self) -> None:
        if self._held + len(self._refused) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write everything that is held, parents before children, and note how far the run got."""
        for destination, queue in self._queues.items():
            if queue:
                self._write(destination, queue)
                queue.clear()
        for destination, pages in self._pages.items():
            if pages:
                self._write_pages(destination, pages)
                pages.clear()
        self._held = 0
        if self._requests:
            ops.record_requests(self._conn, self._requests)
            self._requests.clear()
        self._write_refusals()
        self._resolve()
        self._note_progress()
        self.flushes += 1

    def _write(self, destination: Destination, entries: Sequence[_Entry]) -> None:
        """Write rows of one kind; what the database refuses is halved until the row at fault stands alone."""
        try:
            result = self._bulk(destination, [entry.row for entry in entries])
        except (pg.DataError, pg.IntegrityError, pg.ProgramLimitExceeded) as error:
            if len(entries) == 1:
                self._refuse_entry(destination, entries[0], error)
                return
            middle = len(entries) // 2
            self._write(destination, entries[:middle])
            self._write(destination, entries[middle:])
            return
        self._count(destination, result)
        self._stored_again += [entry.retried for entry in entries if entry.retried is not None]

    def _write_pages(self, destination: Destination, pages: Sequence[_Held]) -> None:
        made = [row for held in pages for row in held.page.rows]
        try:
            result = self._bulk(destination, made, known_new=self._are_new and destination is Destination.CANDLESTICK)
            if destination is Destination.CANDLESTICK:
                self._are_new = result.unchanged == 0
            self._count(destination, result)
        except (pg.DataError, pg.IntegrityError, pg.ProgramLimitExceeded):
            self._write(destination, [entry for held in pages for entry in held.entries()])

    def _count(self, destination: Destination, result: BulkResult) -> None:
        counts = self.report.counts(destination)
        counts.read += result.received
        counts.written += result.written
        counts.unchanged += result.unchanged
        if result.conflicting:
            counts.unchanged += result.conflicting
            what = f"{destination} (another is stored for the same moment)"
            self.report.not_stored[what] = self.report.not_stored.get(what, 0) + result.conflicting

    def _bulk(self, destination: Destination, made: Sequence[BaseModel | plain.Row], *, known_new: bool = False) -> BulkResult:
        write = _copy_candlesticks if known_new else _WRITERS[destination][1]
        for _ in range(DEADLOCK_RETRIES):
            try:
                return write(self._conn, made)
            except (pg.DeadlockDetected, pg.SerializationFailure):
                # The statements lock in one order, so this is another program's doing; nothing was written, and again is right.
                continue
        return write(self._conn, made)

    def _refuse_entry(self, destination: Destination, entry: _Entry, error: psycopg.Error) -> None:
        name = error.diag.constraint_name or error.diag.column_name or ""
        problem = _problem(
            name, None, f"{error.diag.message_primary or error} (SQLSTATE {error.sqlstate})", error.diag.message_detail
        )
        self._refuse_item(destination, entry.item, entry.source, entry.seen_at, [problem], entry.retried)

    def _write_refusals(self) -> None:
        if self._refused:
            ops.upsert_rejected_payloads(self._conn, self._refused.values())
            self._refused.clear()

    def _resolve(self) -> None:
        # One object becomes several rows, one document several objects: it is stored when none of them was refused.
        stored = {(reject.payload_sha256, reject.kind) for reject in self._stored_again} - self._refused_again
        self._stored_again.clear()
        if stored:
            self.report.resolved += ops.resolve_rejects(
                self._conn, payload_sha256s=[sha256 for sha256, _ in stored], kinds=[kind for _, kind in stored]
            )

    def _note_progress(self) -> None:
        total = self.report.total
        ops.progress_ingest_run(
            self._conn,
            run_id=self.report.run_id,
            rows_read=total.read,
            rows_written=total.written,
            rows_unchanged=total.unchanged,
            rows_rejected=total.rejected,
            rows_by_kind={kind: counts.as_dict() for kind, counts in self.report.by_kind.items()},
        )

    # -- again -------------------------------------------------------------------------------------------------------------------

    def retry(self, rejects: Iterable[RejectedPayload], hints: Hints) -> Iterator[None]:
        """Take in what was refused before, one at a time; what is stored now is marked resolved, what is not is counted again.

        Args:
            rejects: refused payloads. Broken files are passed over: what they held can only be loaded from a mended file.
            hints: what is known now and was not then; the reject's own context has precedence.
        """
        for reject in rejects:
            yield
            if reject.kind == FILE:
                continue
            document = parse_json(reject.payload)
            context = reject.context
            seen_at = datetime.fromisoformat(context["observed_at"]) if context.get("observed_at") else reject.first_seen_at
            if reject.kind == UNRECOGNISED:
                self.take(document, reject.source, hints, seen_at, reject.payload, reject)
                self._stored_again.append(reject)
                continue
            item = Item(
                kind=Kind(reject.kind),
                payload=document,
                path="$",
                market_ticker=context.get("market_ticker") or hints.market_ticker,
                series_ticker=context.get("series_ticker") or hints.series_ticker,
                category=context.get("category"),
                period_interval_minutes=context.get("period_interval_minutes") or hints.period_interval_minutes,
                observed_at=seen_at,
            )
            self.take_item(item, reject.source, seen_at, reject)


def parse_json(content: bytes) -> Any:  # noqa: ANN401  (whatever the document holds)
    """Parse JSON with exact decimals.

    NaN and infinities, which some writers take for JSON, are let through: they are refused where they stand.

    Raises:
        ValueError: it is no JSON, no text, or nested too deeply; says where.
    """
    try:
        return json.loads(content, parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except DecimalException:
        raise ValueError("it holds a number beyond reason") from None


def _identity(payload: bytes, known: dict[str, Any]) -> str:
    """Return the SHA-256 under which a refusal is known: the payload with what is known about it."""
    return hashlib.sha256(payload + b"\0" + simplejson.dumps(known, sort_keys=True).encode()).hexdigest()


#: What an object of a kind must be told when it does not say it.
_NEEDED = {
    Kind.CANDLESTICK: ("market_ticker", "period_interval_minutes"),
    Kind.ORDERBOOK: ("market_ticker",),
    Kind.TRADE: ("market_ticker",),
}


def _item_identity(item: Item, payload: bytes, known: dict[str, Any], source: str) -> str:
    """Return the identity of a refused object.

    The time of observation does not count, so that polling the same wrong thing makes one row. Where the market or the period is
    unknown the source does: two files may hold the same candlestick of different markets.
    """
    if any(known[name] is None for name in _NEEDED.get(item.kind, ())):
        known = known | {"source": source}
    return _identity(payload, known)


def _json(value: object) -> bytes:
    # ASCII: a lone surrogate, which is why some payloads are refused, has no UTF-8. NaN stays NaN for the same reason.
    return simplejson.dumps(value, use_decimal=True, sort_keys=True, allow_nan=True).encode()


def _storable(text: str) -> str:
    """Return text that PostgreSQL can hold: file names may have bytes that are no UTF-8, and NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _problem(name: str, value: object, error: str, hint: str | None) -> dict[str, Any]:
    return {"field": name, "value": value, "error": error, "hint": hint}
