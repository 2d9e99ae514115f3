"""`qiao forms`: the national forms as a page, or one of them as a Questionnaire."""

from typing import Annotated

import orjson
import typer

from conformance.forms.page import page
from conformance.forms.questionnaires import questionnaires

app = typer.Typer(rich_markup_mode=None)


@app.command()
def forms(
    form: Annotated[str | None, typer.Argument(help="A form's id; all as a page without.")] = None,
) -> None:
    """Print the national forms as Markdown, or one form as a Questionnaire resource."""
    if form is None:
        typer.echo(page())
        return
    found = questionnaires().get(form)
    if found is None:
        raise typer.BadParameter(f"no form {form}; there are {', '.join(questionnaires())}")
    typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
