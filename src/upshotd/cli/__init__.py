"""The command line: `upshot`, one file per group of commands."""

from importlib import import_module
from typing import NamedTuple

import click


class _Place(NamedTuple):
    #: Module of the function of the command's name, imported when it is used: `upshot --help`
    #: waits for no database and no gRPC.
    module: str
    #: What `upshot --help` says about it.
    about: str


COMMANDS = {
    "serve": _Place("serve", "Serve until SIGTERM or SIGINT."),
    "relay": _Place("relay", "Tell other systems what happened."),
    "define": _Place("define", "Store workflows, templates, topics and audiences from files."),
    "ingest": _Place("ingest", "Send Segment events from a file of JSON lines."),
    "engage": _Place("engage", "Record what a person did with a message."),
    "tail": _Place("tail", "Follow the outcomes as they happen."),
    "export": _Place("export", "Write everything that is defined to a folder."),
    "archive": _Place("versions", "Let a workflow start nothing any more."),
    "workflows": _Place("workflows", "List workflows, or print one as YAML."),
    "audience": _Place(
        "audience", "Show an audience, who is in it, and why somebody is or is not."
    ),
    "runs": _Place("runs", "List runs."),
    "run": _Place("runs", "Show a run: each step, when and why, and its messages."),
    "cancel": _Place("runs", "Cancel a run, or the runs that carry a key."),
    "why": _Place("why", "Tell in words why something happened, or did not."),
    "messages": _Place("messages", "List messages."),
    "message": _Place("messages", "Show a message, its content and what became of it."),
    "profile": _Place("people", "Show what is known about a person."),
    "preferences": _Place("people", "Show what a person wants to hear about, or choose for them."),
    "erase": _Place("people", "Erase a person for good."),
    "suppressions": _Place("suppressions", "List what is held back from people and addresses."),
    "suppress": _Place("suppressions", "Hold back from addresses and people, or let through."),
    "rejected": _Place("people", "List events that were refused in the last 7 days."),
    "counts": _Place("counts", "Count outcomes by workflow, step, channel and kind."),
    "experiment": _Place("experiment", "Show what came of the variants of experiments."),
    "approval": _Place("approval", "Show what was asked and decided, or decide, ask and answer."),
    "subscriptions": _Place("counts", "List the readers of the outcome log and their lag."),
    "providers": _Place("providers", "List the providers, and whether they are asked."),
    "doctor": _Place("doctor", "Check the settings, and say what others must be configured with."),
    "keys": _Place("keys", "Make, list and revoke API keys."),
    "advance": _Place("advance", "Move the clock of a server in the lab."),
}


class _Commands(click.Group):
    """Finds commands by name."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"upshotd.cli.{COMMANDS[cmd_name].module}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.about) for name, place in COMMANDS.items()])


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
    Exit codes:
      0  done
      1  the server refused it, or it failed
      2  used wrongly, or with faulty settings
      3  the server cannot be reached, or does not answer
      4  done in part: some events or facts were rejected
    `upshot relay --help` lists its own.

    \b
    Examples:
      upshot serve --lab
      upshot define examples/*.yaml
      upshot tail --from-start
    """,
)
@click.version_option(package_name="upshot", prog_name="upshot")
def main() -> None:
    """Events in, messages out, outcomes back."""
