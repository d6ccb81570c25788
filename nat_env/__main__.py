"""`python -m nat_env nat-train ...`: a command by its name, for launchers that start modules."""

import sys

from nat_env.commands.command_line import run_command
from nat_env.commands.entry import COMMANDS


def main() -> None:
    """Run the command that the first word names.

    Raises:
        SystemExit: it is the name of none.
    """
    name, *words = sys.argv[1:] or ["nothing"]
    if name not in COMMANDS:
        raise SystemExit(
            f"python -m nat_env: got {name!r}, allowed is one of {', '.join(COMMANDS)}"
        )
    sys.argv = [name, *words]
    run_command(name, COMMANDS[name], words)


if __name__ == "__main__":
    main()
