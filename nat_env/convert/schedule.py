"""A strategy of AutoNAT's authors as a schedule."""

from nat_env.convert.arguments import ConvertSchedule
from nat_env.schedules import Schedule


def command(arguments: ConvertSchedule) -> None:
    """Convert, and say what came out.

    Raises:
        ValueError: no strategy, or a file to write that is no .json.
    """
    if arguments.out.suffix != ".json":
        raise ValueError(f"out: got {str(arguments.out)!r}, allowed is a file that ends in .json")
    schedule = Schedule.load(arguments.file)
    schedule.save(arguments.out)
    print(
        f"{arguments.out}: {schedule.num_steps} steps; take it as a policy, with --num-steps "
        f"{schedule.num_steps}"
    )
