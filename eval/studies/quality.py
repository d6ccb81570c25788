"""Report on a bundle: how good its parts are, and its samples at several T without learning."""

from pathlib import Path

from agents.search import grid
from eval.commands import nat_eval
from eval.evaluation.rows import Results
from eval.evaluation.tables import markdown_table
from eval.studies.arguments import Quality
from nat_env.bundles.bundle import Bundle
from nat_env.bundles.loading import load_bundle
from nat_env.schedules import Schedule
from nat_env.storage.files import write_text


def report(arguments: Quality) -> tuple[str, list[Path]]:
    """Measure what is missing.

    Returns:
        The report in Markdown, and the pictures' paths.

    Raises:
        ValueError: an unknown bundle, a schedule that is not allowed, or a folder that cannot be
            written.
    """
    bundle = load_bundle(arguments.bundle, **arguments.models())
    pictures, found, rows = [], [], []
    for num_steps in arguments.num_steps:
        grid.run(arguments.grid(num_steps))
        best = grid.best_path(arguments.out, num_steps)
        evaluation = arguments.evaluation(num_steps, best)
        pictures += nat_eval.run(evaluation)[1]
        rows += nat_eval.kept_rows(evaluation)
        found.append(f"- {best}: {Schedule.load(best).name}")
    results = Results(arguments.out / nat_eval.RESULTS)
    setting = {"bundle_fingerprint": bundle.fingerprint}
    limits = results.find_floors(setting | {"evaluation_samples": arguments.num_samples})
    parts = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in _parts(bundle))
    text = "\n\n".join(
        [
            f"# Quality of the bundle `{bundle.name}`",
            parts,
            markdown_table(rows, limits),
            f"Best of the grid by FD (chosen on {arguments.grid_samples} other samples):",
            "\n".join(found),
        ]
    )
    write_text(arguments.out / "quality.md", text + "\n")
    return text, pictures


def _parts(bundle: Bundle) -> list[tuple[str, str]]:
    """What pre-training measured, rounded for reading."""
    return [
        (name, f"{value:.3g}" if isinstance(value, float) else str(value))
        for name, value in bundle.quality.items()
    ]


def command(arguments: Quality) -> None:
    """Measure, and show the report."""
    text, pictures = report(arguments)
    print("", text, "", *pictures, sep="\n")
