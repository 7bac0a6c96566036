"""The command line: `tracemill …`. Only names, arguments and help live here; the work is in app/commands."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tracemill.errors import TracemillError


class Commands(TyperGroup):
    """Translates what a command raises: a TracemillError is one line and exit code 2, Ctrl-C is 130; no traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TracemillError as error:
            sys.stderr.write(f"Error: {' '.join(str(error).split())}\n")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            from tracemill.app.output import INTERRUPTED

            sys.stderr.write(INTERRUPTED)
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=Commands,
    name="tracemill",
    help="Every night, yesterday's production agent logs become better prompts and better weights.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tracemill {version('tracemill')}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="And exit.")] = False,
) -> None:
    """Every night, yesterday's production agent logs become better prompts and better weights."""


Project = Annotated[
    Path | None, typer.Option("--project", help="Project folder; default: the nearest with a tracemill.toml.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan that would run, and change nothing.")]
Sites = Annotated[
    list[str] | None, typer.Argument(metavar="[SITE]...", help="Ids or agents; default: the most valuable.")
]
Jointly = Annotated[bool, typer.Option("--jointly", help="All of them as one; default: those of [optimize] jointly.")]
Site = Annotated[str | None, typer.Argument(help="Site id or its beginning; default: the most valuable sites.")]
CandidateId = Annotated[str, typer.Argument(help="Candidate id or its beginning.")]
Channel = Annotated[str | None, typer.Option(help="Channel; default: the one of [gate].")]


@app.command()
def init(project: Project = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Write a commented tracemill.toml and an empty warehouse."""
    from tracemill.app.commands import data

    data.init(project or Path.cwd(), as_json=json, dry_run=dry_run)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo works and leaves its report.")] = Path("demo-run"),
    nights: Annotated[int, typer.Option(min=1, max=2, help="2 adds a night of offline RL.")] = 1,
    seed: Annotated[int, typer.Option(help="Draws tickets, samples and splits.")] = 0,
    permute: Annotated[
        bool, typer.Option("--permute", help="The control: labels dealt at random, one night, nothing to be promoted.")
    ] = False,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """The whole loop on this machine: an agent works, learns overnight, works again. No network, key or GPU."""
    from tracemill.app import demo as room

    play = room.plan if dry_run else room.run
    play(folder, nights=nights, seed=seed, permute=permute, as_json=json)


@app.command()
def collect(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="4318 by default; 0: any free port.")] = None,
    host: Annotated[str | None, typer.Option(help="Loopback unless you say otherwise.")] = None,
    token_env: Annotated[str | None, typer.Option(help="Environment variable with a bearer token to demand.")] = None,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Receive OTLP/HTTP from agents (JSON and protobuf); a 200 means the spans are on disk."""
    from tracemill.app.commands import data

    data.collect(project, host=host, port=port, token_env=token_env, as_json=json, dry_run=dry_run)


@app.command()
def ingest(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs, URLs; default: [[sources]].")
    ] = None,
    format: Annotated[str, typer.Option(help="Format of the sources; auto looks at their content.")] = "auto",
    scores: Annotated[list[Path] | None, typer.Option(help="Feedback rows to join.")] = None,
    on: Annotated[str, typer.Option(help="Key that feedback rows are joined on, or KEY=COLUMN.")] = "session_id",
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Read again the files of which records were refused.")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="Who decodes and redacts: local, processes or ray; default: [ingest].")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode and redact, here or on the Ray cluster.")
    ] = None,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Take in logs and feedback, each once however often it comes. Exits with 1 where everything was refused."""
    from tracemill.app.commands import data

    fine = data.ingest(
        project,
        sources or [],
        format=format,
        scores=scores or [],
        on=on,
        retry_refused=retry_refused,
        engine=engine,
        workers=workers,
        as_json=json,
        dry_run=dry_run,
    )
    if not fine:
        raise typer.Exit(1)


@app.command()
def forget(
    user: Annotated[str | None, typer.Option(help="A user: the raw id, or a stored user_key.")] = None,
    trace: Annotated[str | None, typer.Option(help="One trace id.")] = None,
    older_than: Annotated[str | None, typer.Option(help="All that ended before so many days, such as 90d.")] = None,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Erase a user, a trace or old logs: rows, what was made from them, and the bytes on disk."""
    from tracemill.app.commands import forget as room

    room.forget(project, user=user, trace=trace, older_than=older_than, as_json=json, dry_run=dry_run)


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One SELECT; none: a prompt, or SQL on stdin.")] = None,
    format: Annotated[
        str | None, typer.Option(help="table, json, csv or parquet; default: what --output ends in, else table.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead of stdout.")] = None,
    snapshot: Annotated[int | None, typer.Option(help="Query the lake as of this snapshot.")] = None,
    night: Annotated[
        str | None, typer.Option(help="Query what this night learned from: its name, how that begins, or last.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Stop a query after so many seconds.")] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Print what other DuckDB clients run to read the lake.")
    ] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """SQL over the lake, read-only."""
    from tracemill.app.commands import sql as room

    room.sql(
        project,
        query,
        format="json" if json else format,
        output=output,
        snapshot=snapshot,
        night=night,
        timeout_s=timeout,
        attach=attach,
    )


@app.command()
def export(
    target: Annotated[str, typer.Argument(help="atif, otlp, openai or trl.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file, a folder for one file a record, or - for stdout.")
    ],
    format: Annotated[
        str | None, typer.Option(help="jsonl or parquet (trl); default: what --output ends in, else jsonl.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="SQL condition on the table trajectories.")] = None,
    trace: Annotated[list[str] | None, typer.Option(help="Only this trajectory; may be given several times.")] = None,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Write trajectories as files that other tools read: ATIF, OTLP/JSON, OpenAI chat, TRL columns."""
    from tracemill.app.commands import export as room

    room.export(
        project, target, output=output, format=format, where=where, traces=trace or [], as_json=json, dry_run=dry_run
    )


@app.command()
def score(
    name: Annotated[str | None, typer.Argument(help="One reward model, of which to show the report.")] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Show how far the reward models can be believed; scores nothing.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the report's reliability plots as a picture.")] = None,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Judge what was logged with the configured reward models."""
    if report or html is not None or png is not None or name is not None:
        from tracemill.app.commands import reports

        reports.report(project, name, html=html, png=png, as_json=json)
        return
    from tracemill.app.commands import learn

    learn.score(project, as_json=json, dry_run=dry_run)


@app.command()
def label(
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many episodes a round draws.")] = 20,
    who: Annotated[str | None, typer.Option("--as", help="Who answers; only a pseudonym of it is kept.")] = None,
    answers: Annotated[
        Path | None, typer.Option("--from", help="Take the answers of a file: JSON lines with target_id and answer.")
    ] = None,
    second: Annotated[
        bool, typer.Option("--second", help="Ask about what others labelled, to compare people.")
    ] = False,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Ask a person for the labels worth most: how well did this go? --json gives the questions instead."""
    from tracemill.app.commands import label as room

    room.label(project, n=n, who=who, answers=answers, second=second, as_json=json, dry_run=dry_run)


@app.command()
def mine(project: Project = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Recover call sites from the logs, and find what goes with failure: the report of a night's mining."""
    from tracemill.app.commands import learn

    learn.mine(project, as_json=json, dry_run=dry_run)


@app.command()
def findings(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[show ID]", help="Open one finding with an episode that shows it.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Those that later data refuted, too.")] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """What goes with failure: patterns found in the logs, and whether later logs confirm them."""
    from tracemill.app.commands import findings as room

    room.findings(project, words or [], everything=all, as_json=json)


@app.command()
def optimize(
    sites: Sites = None, jointly: Jointly = False, project: Project = None, json: Json = False, dry_run: DryRun = False
) -> None:
    """Search a better prompt for a site, or for several sites that work on the same episodes."""
    from tracemill.app.commands import learn

    learn.optimize(project, sites or [], jointly=jointly, as_json=json, dry_run=dry_run)


@app.command()
def train(site: Site = None, project: Project = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Train better weights for a site."""
    from tracemill.app.commands import learn

    learn.train(project, site, as_json=json, dry_run=dry_run)


@app.command()
def blame(candidate: CandidateId, project: Project = None, json: Json = False) -> None:
    """Which episodes, of how many users, stand behind each line that a candidate adds to production's prompt."""
    from tracemill.app.commands import blame as room

    room.blame(project, candidate, as_json=json)


@app.command()
def gate(candidate: CandidateId, project: Project = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Decide on a candidate with cases that learning never saw."""
    from tracemill.app.commands import learn

    learn.gate(project, candidate, as_json=json, dry_run=dry_run)


@app.command()
def promote(
    candidate: CandidateId,
    channel: Channel = None,
    force: Annotated[bool, typer.Option(help="Promote without a PROMOTE verdict; the release row says so.")] = False,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Publish a candidate and move a channel to it."""
    from tracemill.app.commands import release

    release.promote(project, candidate, channel=channel, force=force, as_json=json, dry_run=dry_run)


@app.command()
def rollback(channel: Channel = None, project: Project = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Move a channel back to the bundle before."""
    from tracemill.app.commands import release

    release.rollback(project, channel=channel, as_json=json, dry_run=dry_run)


@app.command()
def releases(channel: Channel = None, project: Project = None, json: Json = False) -> None:
    """What was promoted and rolled back, newest first."""
    from tracemill.app.commands import release

    release.releases(project, channel=channel, as_json=json)


@app.command()
def nightly(project: Project = None, json: Json = False, dry_run: DryRun = False) -> None:
    """The whole flow once: ingest, score, mine, both learning branches, gate, publish."""
    from tracemill.app.commands import learn

    learn.nightly(project, as_json=json, dry_run=dry_run)


@app.command()
def schedule(
    cron: Annotated[str, typer.Option(help="When, as cron writes it.")] = "0 2 * * *",
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Serve the nightly flow as a Prefect deployment on a schedule; runs until stopped."""
    from tracemill.app import schedule as room

    room.serve(project, cron=cron, as_json=json, dry_run=dry_run)


@app.command(name="serve-model")
def serve_model(
    model: Annotated[str, typer.Argument(help='"smollm2", or a folder with a transformers model.')] = "smollm2",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    host: Annotated[str, typer.Option(help="Loopback unless you say otherwise.")] = "127.0.0.1",
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of a LoRA adapter to load.")] = None,
    project: Project = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Serve a small model with OpenAI's API: batched, token ids and log-probabilities out, adapters in."""
    from tracemill.app.commands import system

    system.serve_model(project, model, host=host, port=port, adapters=adapter or [], as_json=json, dry_run=dry_run)


@app.command()
def doctor(project: Project = None, json: Json = False) -> None:
    """What is installed, reachable and configured, and what would fail tonight."""
    from tracemill.app.commands import system

    system.doctor(project, as_json=json)


def main() -> None:
    """Entry point of the `tracemill` script."""
    app()
