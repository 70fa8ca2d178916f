"""`memkv`: the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from memkv.chat.chat_command import Chat
from memkv.chat.demo_command import Demo
from memkv.chat.doctor_command import Doctor
from memkv.chat.measure_command import Measure
from memkv.chat.memory_command import MemoryCommand
from memkv.chat.terminal import report
from memkv.errors import MemkvError

Command = (
    Annotated[Chat, tyro.conf.subcommand("chat")]
    | Annotated[MemoryCommand, tyro.conf.subcommand("memory", description="Look at, move and delete what is stored.")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)

INTERRUPTED = 130  # what shells expect of a process ended by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and exit with the command's status; memkv's own errors become one line each."""
    command = tyro.cli(
        Command,
        prog="memkv",
        description="Conversations that survive their process, with every byte measured.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        sys.exit(command.run())
    except MemkvError as error:
        report(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
