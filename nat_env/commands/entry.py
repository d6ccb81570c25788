"""The commands, and the functions that the console scripts call.

They are named as text, so that `nat_env` imports nothing of the packages that stand on it.
"""

from functools import partial

from nat_env.commands.command_line import Choice, Command, run_command

COMMANDS: dict[str, Command | Choice] = {
    "nat-train": Command(
        "agents.learners.config:PRESETS",
        "agents.training.train:command",
        "the same command with --resume goes on in {out}",
    ),
    "nat-eval": Command("eval.commands.arguments:Eval", "eval.commands.nat_eval:command"),
    "nat-sample": Command("eval.commands.arguments:Sample", "eval.commands.nat_sample:command", ""),
    "nat-share": Command("agents.sharing.arguments:Share", "agents.sharing.hub:command", ""),
    "nat-bench": Command("eval.bench.options:Bench", "eval.bench.run:command", ""),
    "nat-pretrain": Choice(
        "Make a bundle: tokenizer, transformer, judge and reference statistics from a data set. "
        "Every part resumes from --work where it stopped.",
        {
            "fashion": Command("pretrain.arguments:Fashion", "pretrain.run:command"),
            "digits": Command("pretrain.arguments:Digits", "pretrain.run:command"),
            "folder": Command("pretrain.arguments:Folder", "pretrain.run:command"),
        },
    ),
}

train, evaluate, sample, share, bench, pretrain = (
    partial(run_command, name, COMMANDS[name])
    for name in ("nat-train", "nat-eval", "nat-sample", "nat-share", "nat-bench", "nat-pretrain")
)
