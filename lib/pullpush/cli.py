"""The command line `pullpush`: run, data, results, exercises, grade. Thin: other modules do the work."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pullpush import execution, matrix, records
from pullpush.parameters import ParameterError, Schema, nearest, read_schema

app = typer.Typer(
    help="Pull & Push: contrastive learning, reproduced.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class _Pairs(TyperCommand):
    """A command in which `-p NAME VALUE` is one option, as in papermill; typer knows no repeated pairs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        rest = iter(args)
        for word in rest:
            joined.append(word)
            if word in ("-p", "--parameter"):
                given = next(rest, "")
                joined.append(given if "=" in given else f"{given}={next(rest, '')}")
        return super().parse_args(ctx, joined)


@contextmanager
def _sentences(*others: type[Exception]) -> Iterator[None]:
    """Mistakes of the caller end in one sentence and exit code 2, not in a traceback."""
    mistakes: tuple[type[Exception], ...] = (FileNotFoundError, ValueError, *others)
    try:
        yield
    except mistakes as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from None


@app.command(cls=_Pairs, add_help_option=False, no_args_is_help=True)
def run(
    context: typer.Context,
    study: Annotated[
        str | None, typer.Argument(help="A study: the name of a notebook in book/experiments.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="NAME VALUE", help="Set a parameter of the study; may be repeated."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="quick, laptop or paper. Without -p and --name: every run of it that has no record yet."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run; one of the profile's runs brings its parameters.")
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the real data sets (default: $PULLPUSH_DATA, else ./data)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for run.ipynb, record.json and arrays.npz of a single run.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option("-j", "--jobs", min=1, help="Runs at the same time, one thread each if more than one."),
    ] = 1,
    rerun: Annotated[
        str | None, typer.Option(help="'stale' or the name of a run: execute it although it has a record.")
    ] = None,
    hours: Annotated[
        bool,
        typer.Option("--hours", help="Also the runs that go beyond the hours of their profile."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do not use the seeds kept by an earlier attempt.")
    ] = False,
    recheck: Annotated[
        bool,
        typer.Option(
            "--recheck",
            help="Of each record made by older code compute one seed again, and keep the record if every "
            "number is equal to the last bit.",
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="Only list the runs that would be executed.")] = False,
    help_: Annotated[
        bool, typer.Option("--help", help="Show this message and, with a study, its parameters.")
    ] = False,
) -> None:
    """Execute one run of a study, or every run of a profile that has no record yet.

    Stopped or killed, it goes on when called again: finished seeds are kept, training resumes.
    """
    with _sentences(execution.RunFailed):
        if help_:
            typer.echo(context.get_help())
            if study:
                typer.echo(_parameter_help(read_schema(records.notebook_path(study))))
            return
        if recheck and (rerun or out):
            raise ParameterError("--recheck keeps records or leaves them: without --rerun and --out.")
        if data_root:
            os.environ["PULLPUSH_DATA"] = str(data_root.resolve())
        given = dict(pair.split("=", 1) for pair in parameter or [])
        if "" in given:
            raise ParameterError("-p needs a name and a value: -p NAME VALUE.")
        single = study is not None and bool(given or name or not profile)
        if study and single:
            planned = [_single(study, given, profile, name)]
        elif not profile:
            raise ParameterError("Name a study, or a profile with --profile quick, laptop or paper.")
        elif given or name or out:
            raise ParameterError("-p, --name and --out are for a single run: name its study too.")
        else:
            which = "stale" if recheck else rerun
            planned = matrix.pending(
                profile, which, study=study, hours=hours, say=lambda line: typer.echo(line, err=True)
            )
            if recheck:  # only what has a record to keep
                planned = [plan for plan in planned if plan.done]
        if single and not show:
            execution.check_target(planned[0], out)
            execution.check_data(planned[0])
    if show:
        typer.echo("".join(f"{plan.study}/{plan.name}\n" for plan in planned), nl=False)
        return
    if single and recheck:
        _recheck(planned[0])
    elif single:
        _execute(planned[0], out, fresh)
    else:

        def options(plan: matrix.Planned) -> list[str]:
            return ["--recheck"] * recheck + ["--fresh"] * (fresh or matrix.named(plan, rerun))

        _execute_all(planned, jobs, options)


def _single(study: str, given: dict[str, str], profile: str | None, name: str | None) -> matrix.Planned:
    """The run that the options describe: one of the profile's if name or parameters say so, or an own one."""
    schema = read_schema(records.notebook_path(study))
    if name:
        matrix.check_name(name)
    if profile and given.get("profile", profile) != profile:
        raise ParameterError(
            f"--profile {profile} and -p profile {given['profile']} differ. Give one of them."
        )
    if profile:
        schema.validate({"profile": profile})
        given = {**given, "profile": profile}
    chosen = schema.validate(given)["profile"]
    plan = [planned for planned in matrix.read_profile(chosen, missing_ok=True) if planned.study == study]
    known = {planned.name: planned for planned in plan}
    if name in known:
        parameters = schema.validate({**known[name].parameters, **given})
        if parameters != known[name].parameters:
            raise ParameterError(
                f"Run '{name}' of profile {chosen} has other parameters. Give yours another --name."
            )
        return known[name]
    if name and not given.keys() - {"profile"}:
        raise ParameterError(f"No run '{name}' of {study} in profile {chosen}. {nearest(name, known)}")
    return matrix.planned(study, schema.validate(given), name)


@contextmanager
def _stopped_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Let `handler` answer Ctrl-C and the SIGTERM that a cluster sends."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def _one_run(planned: matrix.Planned) -> Iterator[None]:
    """Ctrl-C ends a run at once, a failure in one sentence and exit code 1."""

    def stop(*_: Any) -> None:
        # At once, as a kill does no harm: an exception could get lost in the event loop that awaits the
        # kernel. The kernel ends when it sees that its parent has gone.
        line = f"{planned.name} | stopped. Finished seeds are kept; the same command goes on from them.\n"
        os.write(2, f"\n{line}".encode())
        os._exit(130)

    try:
        with _stopped_by(stop):
            yield
    except execution.RunFailed as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def _recheck(planned: matrix.Planned) -> None:
    with _sentences(), _one_run(planned):
        differs = execution.recheck(planned)
    if differs:
        typer.echo(f"{planned.name} | differs, so the record stays as it was: {'; '.join(differs)}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{planned.name} | equal to the last bit: the record holds for today's code")


def _execute(planned: matrix.Planned, out: Path | None, fresh: bool) -> None:
    with _one_run(planned):
        record = execution.execute(planned, target=out, fresh=fresh)
    typer.echo(f"{planned.name} | {execution.describe_record(record)}")
    typer.echo(f"{planned.name} | {_relative(record.folder)}")


def _execute_all(
    pending: Sequence[matrix.Planned], jobs: int, options: Callable[[matrix.Planned], list[str]]
) -> None:
    if not pending:
        typer.echo("Nothing to do: no run is pending.")
        return
    try:
        with _stopped_by(signal.default_int_handler):
            failed = execution.execute_all(pending, jobs, options)
    except KeyboardInterrupt:
        typer.echo(
            "\nStopped. Finished runs and seeds are kept; the same command goes on from them.", err=True
        )
        raise typer.Exit(130) from None
    if failed:
        typer.echo(f"Error: {len(failed)} of {len(pending)} runs failed: {', '.join(failed)}.", err=True)
        raise typer.Exit(1)


def _parameter_help(schema: Schema) -> str:
    """Every parameter of a study, from its notebook."""
    lines = [f"Parameters of {schema.study} (-p NAME VALUE):"]
    for parameter in schema.parameters:
        lines += [
            f"  {parameter.name} = {parameter.default!r}  ({parameter.allowed})",
            f"      {parameter.help}",
        ]
    return "\n".join(lines)


def _relative(path: Path) -> Path:
    return path.relative_to(records.root()) if path.is_relative_to(records.root()) else path


data_app = typer.Typer(
    help="The real data sets: what there is, where it lies, whether it is whole.", no_args_is_help=True
)
app.add_typer(data_app, name="data")
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Folder of the data sets (default: $PULLPUSH_DATA, else ./data)."),
]
Names = Annotated[list[str] | None, typer.Argument(help="Data sets; all known ones where none is given.")]


@data_app.command("list")
def data_list(data_root: DataRoot = None) -> None:
    """Name every data set and say whether it is here."""
    from pullpush import data

    for name in data.table_names():
        try:
            data.check_table(name, data_root)
            typer.echo(f"{name:15} here")
        except data.DataError as error:
            remedy = re.search("`(pullpush data download .*?)`", str(error))  # not all can be had
            told = remedy[1] if remedy else f"no public download (pullpush data check {name})"
            typer.echo(f"{name:15} absent: {told}")


@data_app.command("where")
def data_where(data_root: DataRoot = None) -> None:
    """Print the folder in which data sets are looked for."""
    from pullpush import data

    typer.echo(str(data.root_folder(data_root).resolve()))


@data_app.command("download")
def data_download(names: Names = None, data_root: DataRoot = None) -> None:
    """Download data sets and check their digests; those that are whole already are left alone."""
    from pullpush import data

    failed = False
    with _sentences():
        for name in names or data.table_names():
            try:
                data.download_table(name, data_root)
                typer.echo(f"{name} is whole.")
            except data.DataError as error:  # the others may be had all the same
                failed = True
                typer.echo(f"Error: {error}", err=True)
    if failed:
        raise typer.Exit(2)


@data_app.command("check")
def data_check(names: Names = None, data_root: DataRoot = None) -> None:
    """Check every file against its digest, without a network; exit code 1 if a data set is not whole."""
    from pullpush import data

    bad = False
    with _sentences():
        for name in names or data.table_names():
            # Any other name is a folder of images, which is no table.
            is_table = name in data.table_names() or name.casefold().endswith((".npz", ".csv"))
            try:
                (data.check_table if is_table else data.check)(name, data_root)
                typer.echo(f"{name} is whole.")
            except data.DataError as error:
                bad = True
                typer.echo(f"{name}: {str(error).removeprefix(f'{name}: ')}", err=True)
    if bad:
        raise typer.Exit(1)


@data_app.command("pack")
def data_pack(
    folder: Annotated[Path, typer.Argument(help="Folder with one subfolder of images for each class.")],
    target: Annotated[Path, typer.Argument(help="Where to write TARGET.npy and TARGET.json.")],
    size: Annotated[str, typer.Option(help="Height and width of the packed images in pixels.")] = "120x190",
) -> None:
    """Decode a folder of images once, into a file that batches are read from, however large it is."""
    from pullpush import data
    from pullpush.data import packed

    height, _, width = size.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(f"'{size}' is not height x width, as in 120x190.", param_hint="--size")
    target = target.with_suffix("") if target.suffix == ".npy" else target
    with _sentences(data.DataError):
        made = packed.pack(folder, target, (int(height), int(width)))
    typer.echo(f"{target}.npy holds {len(made)} images of {len(made.classes)} classes.")
    typer.echo(f"Train on it: pullpush run claws -p data {target}.npy")


@app.command()
def results(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if a page is out of date.")
    ] = False,
) -> None:
    """Write the numbers in plain text pages and the README from the records."""
    from pullpush import results as pages

    with _sentences():
        outdated = pages.write(check)
    for path in outdated:
        typer.echo(f"{'out of date' if check else 'written'}: {_relative(path)}")
    if check and outdated:
        raise typer.Exit(1)


@app.command("exercises")
def exercises_(
    out: Annotated[
        Path | None, typer.Argument(help="Folder of the notebooks (default: _build/exercises).")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace notebooks that differ, and the work in them.")
    ] = False,
) -> None:
    """Write the chapters as notebooks for students: each solution replaced by '...  # your code'."""
    from pullpush import exercises

    with _sentences():
        done = exercises.write(out, fresh=fresh)
    folder = _relative(out.resolve() if out else records.root() / "_build" / "exercises")
    for name, state in done.items():
        why = ": it differs, and may hold work. --fresh replaces it" if state == "kept" else ""
        typer.echo(f"{state}: {folder / name}{why}")


@app.command("grade")
def grade_(
    folder: Annotated[Path, typer.Argument(help="Folder of submissions: notebooks, in folders or not.")],
    chapter: Annotated[
        str | None, typer.Option(help="Such as one_family (default: the one whose checks are in it).")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Time of one submission.")] = 300,
    megabytes: Annotated[int, typer.Option(min=1, help="Memory of one, beyond its libraries.")] = 2000,
    csv: Annotated[Path | None, typer.Option(help="The table (default: grades.csv in the folder).")] = None,
) -> None:
    """Run the checks of a chapter over submissions, each in a process of its own. It is no sandbox."""
    from pullpush import grading

    with _sentences():
        graded = grading.grade(
            folder,
            chapter=chapter,
            seconds=seconds,
            megabytes=megabytes,
            say=lambda one: typer.echo(grading.line(one)),
        )
        grading.write_csv(graded, csv or folder / "grades.csv")
    typer.echo(f"written: {_relative((csv or folder / 'grades.csv').resolve())}")


if __name__ == "__main__":
    sys.exit(app())
