"""The command line: `upshot`, one file per group of commands."""

import click

from upshotd.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="upshot", prog_name="upshot")
def main() -> None:
    """Events in, messages out, outcomes back.

    \b
    Exit codes: 0 done, 1 failed, 2 used wrongly or with faulty settings.
    """


main.add_command(serve)
