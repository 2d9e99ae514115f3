"""`qiao map`: the workbench of the mappings; needs no running hub, `--stored` a database."""

import json
import pathlib
from collections import defaultdict
from typing import Annotated, Any

import typer

from conformance import resource_json
from conformance.problem import Problem
from mappings.bundles import to_bundle
from mappings.cases import Cases, case_folders
from mappings.channels.loader import load_channels
from mappings.channels.profile import ChannelProfile
from mappings.coverage import Coverage, conditions_one_sided, cover, rows_never_fired
from mappings.engine.library import Library, load
from mappings.engine.rows import FaultyMaps
from mappings.explain import KINDS_ZH, rows_like
from mappings.explain import explain as explain_rows
from mappings.laws import census
from mappings.translate import Translator
from mappings.translated import Unmapped
from ops.cli import CHECK_FAILED, USAGE
from ops.workbench.changes import back_message
from ops.workbench.documents import back_document, is_document, run_document, tell
from ops.workbench.imports import compare_sheet, import_guide, import_sheet, is_guide_sheet
from ops.workbench.messages import Messages
from ops.workbench.shadow import Shadow
from ops.workbench.sheets import write_rows
from ops.workbench.stored import require_one_source, shadow_stored
from ops.workbench.tables import back_tables, is_table, run_tables, tables_of

app = typer.Typer(
    help="Run, test, cover and explain the mappings.", no_args_is_help=True, rich_markup_mode=None
)

Files = Annotated[list[pathlib.Path], typer.Argument(help="HL7 v2 files or folders of them.")]
Maps = Annotated[
    pathlib.Path | None, typer.Option("--maps", help="A folder with maps/ and tables/.")
]
Channels = Annotated[
    pathlib.Path | None, typer.Option("--channel", help="A folder with one channel's YAML.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    files: Files,
    trace: Annotated[bool, typer.Option("--trace", help="Print each element's source.")] = False,
    maps: Maps = None,
    channel: Channels = None,
) -> None:
    """Print the Bundle of each message, document (.xml) or table row (.csv, .xlsx), a line each."""
    library = _library(maps)
    for file in files:
        if is_document(file):
            run_document(library, file, traced=trace)
        elif is_table(file):
            run_tables(library, file, traced=trace)
    translator, profile = Translator(library), _channel(channel)
    refused = False
    rest = [file for file in files if not is_document(file) and not is_table(file)]
    messages = Messages(rest, profile.charset)
    for name, message in messages:
        result = translator.translate(message, profile)
        if isinstance(result, Unmapped):
            _tell_unmapped(name, result)
            continue
        typer.echo(resource_json.dump(to_bundle(result, traced=trace)).decode())
        for note in result.notes:
            typer.echo(f"{name}: {note.text_en}", err=True)
        for held in result.held:
            refused = True
            where = f"{held.source}: table {held.table} has no such code (row {held.row})"
            typer.echo(f"{name}: held: {where}", err=True)
    if refused or messages.unreadable:
        raise typer.Exit(CHECK_FAILED)


def _tell_unmapped(name: str, result: Unmapped) -> None:
    event = result.event or "a message that names no event in MSH-9"
    typer.echo(f"{name}: no map covers {event}", err=True)


@app.command()
def back(
    file: Annotated[
        pathlib.Path, typer.Argument(help="The HL7 v2 original, a document or a table.")
    ],
    bundle: Annotated[
        pathlib.Path | None,
        typer.Option("--with", help="A Bundle from `map run`, edited; its changes are put back."),
    ] = None,
    out: Annotated[
        pathlib.Path | None, typer.Option("--out", help="Where tables go: .xlsx or .csv.")
    ] = None,
    maps: Maps = None,
    channel: Channels = None,
) -> None:
    """Put the changes of a Bundle into the original; without one, show what FHIR alone restores.

    Ends with 5 where the message cannot say every change; each is named.
    """
    library, profile = _library(maps), _channel(channel)
    if file.suffix.lower() == ".json":
        typer.echo(
            f"{file} stands where the original does.\nNext: qiao map back ORIGINAL --with {file}",
            err=True,
        )
        raise typer.Exit(USAGE)
    if is_table(file):
        back_tables(library, file, bundle, out)
        return
    if is_document(file):
        back_document(library, file, bundle)
        return
    back_message(library, profile, file, bundle)


@app.command(name="test")
def run_cases(
    folder: Annotated[
        pathlib.Path | None, typer.Argument(help="Cases; default: the hub's.")
    ] = None,
    maps: Maps = None,
    as_json: AsJson = False,
) -> None:
    """Run the golden cases; each difference names the path and the row that wrote it."""
    if folder is not None and not folder.is_dir():
        typer.echo(f"{folder} is no folder", err=True)
        raise typer.Exit(USAGE)
    cases = Cases(_library(maps), tables_of)
    failed = count = 0
    for case in case_folders(folder):
        count += 1
        try:
            differing = cases.check(case)
        except (Problem, FaultyMaps) as problem:
            failed += 1
            _tell_case(case, problem)
            continue
        failed += bool(differing)
        if as_json:
            found = [[d.path, d.expected, d.found, d.row] for d in differing]
            typer.echo(json.dumps({"case": case.as_posix(), "differences": found}))
            continue
        for one in differing:
            typer.echo(f"{case.name}: {one.path}: {one.expected} -> {one.found} (row {one.row})")
    typer.echo(f"{count} cases, {failed} differ", err=True)
    if not count:
        typer.echo(
            "Next: put an in.hl7 into a folder of its own there, then qiao map accept", err=True
        )
    if failed or not count:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def accept(
    case: Annotated[pathlib.Path, typer.Argument(help="The case's folder, with its in.*.")],
    maps: Maps = None,
) -> None:
    """Write what a case's message becomes now as what it shall become."""
    if not any(case.glob("in.*")):
        typer.echo(f"{case} is no folder with an in.hl7, in.xml, in.csv or in.xlsx", err=True)
        typer.echo("Next: make the folder, copy the message into it as in.hl7, accept it", err=True)
        raise typer.Exit(USAGE)
    try:
        Cases(_library(maps), tables_of).accept(case)
    except (Problem, FaultyMaps) as problem:
        _tell_case(case, problem)
        raise typer.Exit(CHECK_FAILED) from None
    typer.echo(f"wrote {case / 'out.fhir.json'}", err=True)


def _tell_case(case: pathlib.Path, problem: Problem | FaultyMaps) -> None:
    """Print what of a case cannot be read."""
    if isinstance(problem, Problem):
        tell(case.name, problem)
        return
    for fault in problem.faults:
        typer.echo(f"{case.name}: {fault}", err=True)


@app.command(name="cover")
def show_coverage(
    files: Files,
    maps: Maps = None,
    channel: Channels = None,
    as_json: AsJson = False,
    full: Annotated[bool, typer.Option("--full", help="List rows and conditions too.")] = False,
) -> None:
    """Show populated fields that nothing reads, rows that never fired, unknown codes; a gate.

    Ends with 1 where a populated field is neither mapped nor declared, or a message is unreadable.
    """
    library, profile = _library(maps), _channel(channel)
    messages = Messages(files, profile.charset)
    translator = Translator(library, watched=True)
    coverage = cover((message for _, message in messages), translator, profile)
    report = _report(library, coverage)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _print_coverage(report, full=full)
    if coverage.unread or messages.unreadable:
        raise typer.Exit(CHECK_FAILED)


def _report(library: Library, coverage: Coverage) -> dict[str, Any]:
    return {
        "messages": coverage.messages,
        "unmapped": dict(coverage.unmapped),
        "populated": coverage.populated,
        "read": coverage.read,
        "ignored": coverage.ignored.total(),
        "ignored_share": round(coverage.ignored_share, 4),
        "unread": dict(coverage.unread.most_common()),
        "codes": dict(coverage.codes.most_common()),
        "rows_never_fired": rows_never_fired(library, coverage),
        "conditions_one_sided": conditions_one_sided(coverage),
    }


def _print_coverage(report: dict[str, Any], *, full: bool) -> None:
    typer.echo(
        f"{report['messages']} messages, {report['populated']} populated fields: "
        f"{report['read']} read, {report['ignored']} ignored with a reason "
        f"({report['ignored_share']:.1%}), {sum(report['unread'].values())} neither"
    )
    for event, count in report["unmapped"].items():
        typer.echo(f"no map covers {event}: {count}")
    for name, count in report["unread"].items():
        typer.echo(f"unread {name}: {count}")
    for name, count in report["codes"].items():
        typer.echo(f"code {name}: {count}")
    typer.echo(
        f"{len(report['rows_never_fired'])} rows never fired, "
        f"{len(report['conditions_one_sided'])} conditions never both ways"
    )
    if full:
        for name in report["rows_never_fired"]:
            typer.echo(f"never fired {name}")
        for name, truth in report["conditions_one_sided"]:
            typer.echo(f"always {str(truth).lower()} {name}")


@app.command()
def lint(maps: Maps = None) -> None:
    """Load the maps and list every fault with file, line, row and the fix."""
    library = _library(maps)
    kinds: dict[str, int] = defaultdict(int)
    for kind in library.classes.values():
        kinds[kind] += 1
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    typer.echo(f"{len(library.maps)} maps, {len(library.tables)} tables; rows: {counts}")
    laws = "; ".join(f"{count} {kind}" for kind, count in sorted(census(library).items()))
    typer.echo(f"laws: {laws}")


@app.command()
def explain(
    row: Annotated[str, typer.Argument(help="A row such as PID-8 or PID-Patient/PID-8.")],
    maps: Maps = None,
) -> None:
    """Say in English and Chinese what a row does, where it stands and what it loses."""
    found = 0
    library = _library(maps)
    for one in explain_rows(library, row):
        found += 1
        typer.echo(f"{one.map}/{one.row} ({one.file}:{one.line})")
        typer.echo(f"  {one.kind}: {one.text}")
        typer.echo(f"  {KINDS_ZH[one.kind]}：{one.text_zh}")
    if not found:
        near = ", ".join(rows_like(library, row)) or "PID-8"
        typer.echo(
            f"no row is named {row!r}. Next: qiao map explain with one like {near}", err=True
        )
        raise typer.Exit(USAGE)


@app.command()
def shadow(
    old: Annotated[pathlib.Path, typer.Argument(help="The other folder with maps/ and tables/.")],
    files: Annotated[
        list[pathlib.Path] | None, typer.Argument(help="HL7 v2 files or folders of them.")
    ] = None,
    is_stored: Annotated[
        bool, typer.Option("--stored", help="Run what the hub has kept, each by its channel.")
    ] = False,
    of: Annotated[str | None, typer.Option(help="With --stored: only this channel.")] = None,
    last: Annotated[
        int, typer.Option(min=1, help="With --stored: so many messages, the newest first.")
    ] = 1000,
    maps: Maps = None,
    channel: Channels = None,
    as_json: AsJson = False,
) -> None:
    """Run messages through two versions of the maps and group the differences by row."""
    require_one_source(files, is_stored=is_stored, channel=channel)
    seen = Shadow(before=Translator(_library(old)), after=Translator(_library(maps)))
    if is_stored:
        shadow_stored(seen, channel=of, last=last)
        unreadable = 0  # they are held since they came, whatever the maps say
    else:
        profile = _channel(channel)
        messages = Messages(files or [], profile.charset)
        for name, message in messages:
            seen.compare(name, message, profile)
        unreadable = messages.unreadable
    if as_json:
        typer.echo(json.dumps(seen.by_row, ensure_ascii=False))
    else:
        for row, lines in sorted(seen.by_row.items(), key=lambda item: -len(item[1])):
            typer.echo(f"{row}: {len(lines)} differences, such as {lines[0]}")
    found = sum(map(len, seen.by_row.values()))
    typer.echo(f"{seen.count} messages, {found} differences", err=True)
    if seen.by_row or unreadable:
        raise typer.Exit(CHECK_FAILED)


@app.command(name="import")
def import_rows(
    folder: Annotated[
        pathlib.Path,
        typer.Argument(help="The guide's folder or one CSV of it, or a sheet of `map export`."),
    ],
    out: Annotated[pathlib.Path | None, typer.Option("--out", help="Write drafts here.")] = None,
    maps: Maps = None,
    is_written: Annotated[
        bool, typer.Option("--write", help="Write a sheet's rows into the maps.")
    ] = False,
) -> None:
    """Read the v2-to-FHIR guide's CSVs: draft maps, ConceptMaps and a lint report.

    Of a sheet that `map export` wrote, list what was changed in it, with file and line of the row
    to change; ends with 1 where it differs. With --write, change and add the rows in the maps:
    nothing is written where the maps would then not load, and no row is taken out.
    """
    if is_table(folder) and not is_guide_sheet(folder):
        if is_written:
            import_sheet(_library(maps), folder, maps)
        compare_sheet(_library(maps), folder)
        return
    import_guide(folder, out)


@app.command()
def export(
    out: Annotated[pathlib.Path, typer.Argument(help="A .csv or .xlsx file to write.")],
    maps: Maps = None,
) -> None:
    """Write every row in the guide's column order, as CSV or Excel."""
    if not is_table(out) or not out.parent.is_dir():
        typer.echo(f"{out} is no .csv or .xlsx file in a folder that exists", err=True)
        raise typer.Exit(USAGE)
    count = write_rows(_library(maps), out)
    typer.echo(f"wrote {count} rows to {out}", err=True)


def _library(folder: pathlib.Path | None) -> Library:
    try:
        return load(folder)
    except FaultyMaps as faulty:
        for fault in faulty.faults:
            typer.echo(str(fault))
        typer.echo(f"{len(faulty.faults)} faults", err=True)
        raise typer.Exit(CHECK_FAILED) from None


def _channel(folder: pathlib.Path | None) -> ChannelProfile:
    if folder is None:
        return ChannelProfile()
    try:
        channels = load_channels(folder)
    except FaultyMaps as faulty:
        typer.echo(str(faulty))
        raise typer.Exit(CHECK_FAILED) from None
    if not channels:
        what = "holds no channel (*.yaml)" if folder.is_dir() else "is no folder that exists"
        typer.echo(f"{folder} {what}. Next: --channel FOLDER; docs/reference/channels.md", err=True)
        raise typer.Exit(USAGE)
    return next(iter(channels.values()))
