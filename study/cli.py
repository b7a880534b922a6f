"""The `study` command.

Heavy imports stand inside the commands, so that `study --help` answers at once.
"""

import json
import traceback
from typing import Any

import click

from kge import console
from kge.errors import KgeError
from kge.errors import UserError as KgeUserError
from study.errors import StudyError, UserError


class _Group(click.Group):
    """With --debug, an error shows where it was raised before it becomes one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception:
            if ctx.params["debug"]:
                traceback.print_exc()
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kge-study")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def study(debug: bool) -> None:
    """Fair, crash-exact hyperparameter studies of knowledge graph embedding models and losses."""


def main() -> None:
    """Entry point."""
    console.run(study, user=(UserError, KgeUserError), world=(StudyError, KgeError, OSError))


@study.command()
@click.argument("file")
def plan(file: str) -> None:
    """Show the arms, spaces, budget and trainings of a study; starts nothing, writes nothing.

    FILE is a study file or the name of a built-in study.
    """
    from study.config import load_study
    from study.plan import plan_lines
    from study.space import compose_all

    config = load_study(file)
    for line in plan_lines(config, compose_all(config)):
        click.echo(line)


@study.command()
def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from kge.documents import schema as json_schema
    from study.config import StudyFile

    click.echo(json.dumps(json_schema(StudyFile), indent=2))


if __name__ == "__main__":
    main()
