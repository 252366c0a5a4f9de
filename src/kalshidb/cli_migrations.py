"""The commands about migrations: `kalshidb migrate`, `status`, `rollback`, `baseline`, `new`, `lock`. Thin, as kalshidb.cli is: they
read arguments, call kalshidb.migration and print. Registered by kalshidb.cli, which turns errors into one line.
"""

from pathlib import Path
from typing import Annotated

import typer

from kalshidb import postgres
from kalshidb.migration import integrity, plan, runner, state
from kalshidb.migration.session import DEFAULTS, Event, Options
from kalshidb.terminal import AsJson, err, out, print_json

Folders = Annotated[
    list[Path] | None,
    typer.Option("--migrations", metavar="DIR", help="Another folder of migrations than this project's; again for several."),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="N", help="The last one to apply: its id, the beginning of it, or its number.")
]
AsPlan = Annotated[bool, typer.Option("--plan", help="Print the SQL, with what each statement locks, and do nothing.")]
LockTimeout = Annotated[
    str,
    typer.Option(
        "--lock-timeout", metavar="DURATION", help="How long a statement may wait for a lock (others queue up behind it)."
    ),
]
StatementTimeout = Annotated[
    str, typer.Option("--statement-timeout", metavar="DURATION", help="How long a statement may run; 0 for no limit.")
]
Retries = Annotated[int, typer.Option("--retries", min=0, help="How often to try again when a lock was not to be had.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for another one that is migrating.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(migrate)
    app.command("status")(status_command)
    app.command()(rollback)
    app.command()(baseline)
    app.command()(new)
    app.command()(lock)


def migrate(
    to: To = None,
    as_plan: AsPlan = False,
    lock_timeout: LockTimeout = DEFAULTS.lock_timeout,
    statement_timeout: StatementTimeout = DEFAULTS.statement_timeout,
    retries: Retries = DEFAULTS.retries,
    wait: Wait = DEFAULTS.wait,
    allow_out_of_order: Annotated[
        bool, typer.Option("--allow-out-of-order", help="Also apply what comes before something that is applied.")
    ] = False,
    migrations: Folders = None,
    as_json: AsJson = False,
) -> None:
    """Apply the migrations that the database lacks, each as one transaction. Safe to kill and to run twice at once."""
    options = Options(lock_timeout, statement_timeout, retries, wait)
    nothing = f"nothing to apply: the database {'is up to date' if to is None else f'has all up to {to}'}"
    with postgres.database() as database:
        if as_plan:
            planned = plan.plan_migrate(database.url, migrations, to=to, allow_out_of_order=allow_out_of_order)
            _print_plan(planned, as_json=as_json, nothing=f"-- {nothing}")
            return
        applied = runner.migrate(
            database.url,
            migrations,
            to=to,
            options=options,
            allow_out_of_order=allow_out_of_order,
            report=_quiet if as_json else _progress,
        )
    if as_json:
        print_json({"applied": applied})
    elif not applied:
        out.print(nothing, markup=False)


def rollback(
    to: Annotated[
        str | None, typer.Option("--to", metavar="N", help="The last one that stays; 0 undoes all. Default: undo one.")
    ] = None,
    as_plan: AsPlan = False,
    allow_data_loss: Annotated[
        bool, typer.Option("--allow-data-loss", help="Undo also where stored rows go with it; --plan says which.")
    ] = False,
    lock_timeout: LockTimeout = DEFAULTS.lock_timeout,
    statement_timeout: StatementTimeout = DEFAULTS.statement_timeout,
    retries: Retries = DEFAULTS.retries,
    wait: Wait = DEFAULTS.wait,
    migrations: Folders = None,
    as_json: AsJson = False,
) -> None:
    """Undo the last migration, or all after N, newest first. Refuses to lose stored rows, and what is declared irreversible."""
    options = Options(lock_timeout, statement_timeout, retries, wait)
    with postgres.database() as database:
        postgres.connect(database.url).close()
        if as_plan:
            planned = plan.plan_rollback(database.url, migrations, to=to)
            _print_plan(planned, as_json=as_json, nothing="-- nothing to undo")
            return
        undone = runner.rollback(
            database.url,
            migrations,
            to=to,
            allow_data_loss=allow_data_loss,
            options=options,
            report=_quiet if as_json else _progress,
        )
    if as_json:
        print_json({"undone": undone})
    elif not undone:
        out.print("nothing to undo")


def status_command(migrations: Folders = None, as_json: AsJson = False) -> None:
    """Say what is applied, pending, edited, missing or out of order; only reads.

    Exit status: 0 up to date · 4 pending · 5 drifted (edited, missing, out of order, interrupted, or files that break migrations.lock) ·
    6 the database cannot be reached.
    """
    try:
        with postgres.database() as database:
            found = state.status(database.url, migrations)
    except postgres.DatabaseUnavailable as error:
        err.print(f"kalshidb: {' '.join(str(error).split())}", style="red", markup=False)
        raise typer.Exit(state.UNREACHABLE) from None
    if as_json:
        print_json(state.as_json(found))
    else:
        _print_status(found)
    raise typer.Exit(found.exit_code)


def baseline(
    to: Annotated[
        str | None, typer.Option("--to", metavar="N", help="The last one whose schema is there; all by default.")
    ] = None,
    migrations: Folders = None,
    wait: Wait = DEFAULTS.wait,
) -> None:
    """Mark migrations as applied, and run nothing: for a database that has the schema already, or where plain yoyo applied them."""
    with postgres.database() as database:
        marked = runner.baseline(database.url, migrations, to=to, options=Options(wait=wait))
    for identity in marked:
        out.print(f"marked {identity}", markup=False)
    if not marked:
        out.print("nothing to mark: each is marked, with what its file says")


def new(
    name: Annotated[str, typer.Argument(help="A few words: add-market-index")],
    migrations: Annotated[
        Path | None, typer.Option("--migrations", metavar="DIR", help="Another folder than this project's.")
    ] = None,
) -> None:
    """Make the next migration and its rollback: number, `depends`, and the questions that its header answers."""
    for path in integrity.new(name, migrations):
        out.print(str(path), markup=False)
    err.print("when both say what they should: `kalshidb lock`", style="dim")


def lock(
    migrations: Folders = None,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Accept changed, vanished and reordered files as they are now.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; say whether the lock and the files agree.")] = False,
    base: Annotated[
        str | None, typer.Option("--base", metavar="COMMIT", help="With --check: also what changed since this commit.")
    ] = None,
) -> None:
    """Add new migrations to migrations.lock, the chain of hashes that notices when history changes."""
    if check or base:
        from kalshidb.migration.folder import read_folder  # noqa: PLC0415

        problems = integrity.verify(read_folder(migrations), base)
        for problem in problems:
            out.print(str(problem), markup=False)
        if problems:
            raise typer.Exit(1)
        out.print("files, lock and history agree")
        return
    for done in integrity.lock(migrations, rewrite=rewrite):
        for identity in done.rewritten:
            out.print(f"rewrote {identity} in {done.path}", style="red", markup=False)
        out.print(
            f"{done.path}: {len(done.added)} added" if done.added or done.rewritten else f"{done.path}: nothing new", markup=False
        )


# Showing


def _quiet(_: Event) -> None:
    """Report nothing."""


def _progress(event: Event) -> None:
    """Print what happens: results on stdout, the rest on stderr."""
    match event.kind:
        case "begin":
            if err.is_terminal:
                err.print(f"{event.migration_id} …", style="dim", markup=False)
        case "done":
            out.print(f"applied {event.migration_id} in {event.seconds:.2f} s", markup=False)
        case "undone":
            out.print(f"undone {event.migration_id} in {event.seconds:.2f} s", markup=False)
        case "hook":
            out.print(f"ran {event.migration_id} in {event.seconds:.2f} s", markup=False)
        case "retry":
            err.print(f"{event.migration_id}: {event.detail}; again in {event.seconds:.1f} s", style="yellow", markup=False)
        case _:
            err.print(
                f"{event.migration_id}{': ' if event.migration_id else ''}{event.kind}: {event.detail}",
                style="yellow",
                markup=False,
            )


def _print_plan(planned: tuple[plan.PlannedMigration, ...], *, as_json: bool, nothing: str) -> None:
    if as_json:
        print_json(plan.as_json(planned))
    else:
        print(plan.as_sql(planned) if planned else nothing)  # noqa: T201  (SQL: no wrapping, no style)


def _print_status(found: state.Status) -> None:
    width = max((len(line.id) for line in found.lines), default=0)
    for line in found.lines:
        when = f"  {line.at:%Y-%m-%d %H:%M:%S} UTC  {line.by or ''}" if line.at else ""
        style = {"applied": "", "unmarked": "dim", "pending": "yellow"}.get(line.state, "red")
        out.print(f"{line.id:{width}}  {line.state:12}{when}".rstrip(), style=style, markup=False)
        if line.detail and line.state != "unmarked":
            out.print(f"{'':{width}}  {line.detail}", style=style, markup=False)
    for problem in found.problems:
        out.print(str(problem), style="red", markup=False)
    if found.hooks_pending:
        out.print("hooks (post-apply) are still to run: `kalshidb migrate` runs them", style="yellow")
    if found.running is not None:
        out.print(f"a kalshidb migrate is at work: server process {found.running}", style="yellow")
    if found.lock is not None:
        out.print(f"yoyo's lock is taken: process {found.lock.pid}, since {found.lock.since:%Y-%m-%d %H:%M:%S}", style="yellow")
    unmarked = len(found.having("unmarked"))
    if unmarked:
        out.print(f"{unmarked} applied by yoyo itself, so their content is not known; `kalshidb baseline` notes it", style="dim")
    out.print(found.verdict)
