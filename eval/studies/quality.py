"""Report on a bundle: how good its parts are, and its samples at several T without learning.

python -m eval.studies.quality --bundle fashion --out runs/quality
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from eval.commands import nat_eval
from eval.commands.arguments import Eval
from eval.evaluation.evaluate import check_numbers
from eval.evaluation.rows import Results
from eval.evaluation.tables import markdown_table
from eval.studies import grid
from nat_env.bundles.bundle import Bundle, load_bundle
from nat_env.commands.computation import Computation
from nat_env.commands.parsing import parse
from nat_env.schedules import Schedule
from nat_env.storage.files import write_text


@dataclass(frozen=True)
class Arguments(Computation):
    """Measure a bundle's samples with the papers' schedule and with the best of a small grid.

    Writes quality.md, results.json, a picture per T, and the grids' trials. Called again, it
    computes only what is missing.
    """

    out: Path
    """Folder for all that is written."""
    bundle: str = "fashion"
    """A shipped bundle's name or a folder."""
    num_steps: tuple[int, ...] = (4, 8, 16, 32)
    """Values of T."""
    num_samples: int = 2000
    """N, images of an evaluation."""
    grid_samples: int = 500
    """Images of a trial of the grid."""
    remask_slopes: tuple[float, ...] = (2.0, 4.0, 8.0)
    """lambda of the grid."""
    guidance_slopes: tuple[float, ...] = (0.5, 1.0)
    """k of the grid."""
    sampling_temperatures: tuple[float, ...] = (0.8, 1.0)
    """tau_1 of the grid, at all steps."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: no T, or a number out of its range.
        """
        super().__post_init__()
        check_numbers(self.num_samples, self.seed, self.batch_size)
        if not self.num_steps:
            raise ValueError("num_steps: got none, allowed is at least one")
        for num_steps in self.num_steps:
            _ = self.grid(num_steps).schedules

    def grid(self, num_steps: int) -> grid.Arguments:
        """The grid at one T."""
        return grid.Arguments(
            out=self.out,
            bundle=self.bundle,
            num_steps=num_steps,
            num_samples=self.grid_samples,
            remask_slopes=self.remask_slopes,
            guidance_slopes=self.guidance_slopes,
            sampling_temperatures=self.sampling_temperatures,
            **self.computation(),
        )

    def evaluation(self, num_steps: int, best: Path) -> Eval:
        """The papers' schedule and the best of the grid at one T."""
        return Eval(
            policies=("heuristic", str(best)),
            out=self.out,
            num_steps=num_steps,
            num_samples=self.num_samples,
            seeds=(self.seed,),
            bundle=self.bundle,
            **self.computation(),
        )


def report(arguments: Arguments) -> tuple[str, list[Path]]:
    """Measure what is missing.

    Returns:
        The report in Markdown, and the pictures' paths.

    Raises:
        ValueError: an unknown bundle, a schedule that is not allowed, or a folder that cannot be
            written.
    """
    bundle = load_bundle(arguments.bundle, arguments.dtype, arguments.device)
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


def main() -> None:
    """Entry point."""
    try:
        arguments = parse(Arguments, "python -m eval.studies.quality")
        torch.set_num_threads(arguments.threads)
        text, pictures = report(arguments)
    except ValueError as error:
        raise SystemExit(f"eval.studies.quality: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("eval.studies.quality: interrupted; the same command goes on") from None
    print("", text, "", *pictures, sep="\n")


if __name__ == "__main__":
    main()
