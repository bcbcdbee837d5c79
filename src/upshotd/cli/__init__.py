"""The command line: `upshot`, one file per group of commands."""

from importlib import import_module

import click

#: Command -> the module of the function of that name, imported when it is used: `upshot tail`
#: waits for no database.
COMMANDS = {
    "relay": "upshotd.cli.relay",
    "serve": "upshotd.cli.serve",
}


class _Commands(click.Group):
    """Finds commands by name."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="upshot", prog_name="upshot")
def main() -> None:
    """Events in, messages out, outcomes back.

    \b
    Exit codes: 0 done, 1 failed, 2 used wrongly or with faulty settings.
    """
