"""The commands, and the functions that the console scripts call.

They are named as text, so that `nat_env` imports nothing of the packages that stand on it.
"""

from functools import partial

from nat_env.commands.command_line import Choice, Command, run_command

COMMANDS: dict[str, Command | Choice] = {
    "nat-train": Command(
        "agents.learners.config:PRESETS",
        "agents.training.train:command",
        "nat-train --resume --out {out} goes on",
        words="agents.runs.resume:completed_words",
    ),
    "nat-eval": Command("eval.commands.arguments:Eval", "eval.commands.nat_eval:command"),
    "nat-sample": Command("eval.commands.arguments:Sample", "eval.commands.nat_sample:command", ""),
    "nat-share": Command("agents.sharing.arguments:Share", "agents.sharing.hub:command", ""),
    "nat-bench": Command("eval.bench.options:Bench", "eval.bench.run:command", ""),
    "nat-search": Choice(
        "Search for a decoding schedule that all samples share.",
        {
            "autonat": Command("agents.search.arguments:AUTONAT", "agents.search.search:command"),
            "cma": Command("agents.search.arguments:CMA", "agents.search.search:command"),
            "grid": Command("agents.search.arguments:Grid", "agents.search.grid:command"),
            "variance": Command("agents.search.arguments:VARIANCE", "agents.search.search:command"),
        },
    ),
    "nat-tune": Command("agents.tuning.arguments:Tune", "agents.tuning.tune:command"),
    "nat-study": Choice(
        "Compare, from scratch, what the papers compare and what this library offers.",
        {
            "suite": Command("eval.studies.arguments:Suite", "eval.studies.suite:command"),
            "pareto": Command("eval.studies.arguments:Pareto", "eval.studies.pareto:command"),
            "ablations": Command(
                "eval.autonat.arguments:Ablations", "eval.autonat.ablations:command"
            ),
            "learners": Command("eval.studies.arguments:Learners", "eval.studies.learners:command"),
            "options": Command("eval.studies.arguments:Options", "eval.studies.options:command"),
            "autonat": Command(
                "eval.autonat.arguments:Alternation", "eval.autonat.alternation:command"
            ),
            "quality": Command("eval.studies.arguments:Quality", "eval.studies.quality:command"),
            "inpainting": Command(
                "eval.studies.arguments:Inpainting", "eval.studies.inpainting:command", ""
            ),
            "paper": Command("eval.papers.arguments:Paper", "eval.papers.study:command"),
            "demo": Command("eval.studies.arguments:Demo", "eval.studies.demo:demo"),
        },
    ),
    "nat-convert": Choice(
        "Make what this library reads of what others wrote.",
        {
            "nat": Command("nat_env.convert.arguments:ConvertNAT", "nat_env.convert.nat:command"),
            "amused": Command(
                "nat_env.convert.arguments:ConvertAmused", "nat_env.convert.amused:command", ""
            ),
            "policy": Command(
                "agents.convert.arguments:ConvertPolicy", "agents.convert.policy:command", ""
            ),
            "schedule": Command(
                "nat_env.convert.arguments:ConvertSchedule", "nat_env.convert.schedule:command", ""
            ),
            "bundle": Command(
                "nat_env.convert.arguments:ConvertBundle", "nat_env.convert.format_1:command", ""
            ),
        },
    ),
    "nat-pretrain": Choice(
        "Make a bundle: tokenizer, transformer, judge and reference statistics from a data set. "
        "Every part resumes from --work where it stopped.",
        {
            "fashion": Command("pretrain.arguments:Fashion", "pretrain.run:command"),
            "digits": Command("pretrain.arguments:Digits", "pretrain.run:command"),
            "emoji": Command("pretrain.arguments:Emoji", "pretrain.captioned.run:command"),
            "folder": Command("pretrain.arguments:Folder", "pretrain.run:command"),
            "tokens": Command("pretrain.arguments:Tokens", "pretrain.tokens.fill:command"),
        },
    ),
}

train = partial(run_command, "nat-train", COMMANDS["nat-train"])
evaluate = partial(run_command, "nat-eval", COMMANDS["nat-eval"])
sample = partial(run_command, "nat-sample", COMMANDS["nat-sample"])
share = partial(run_command, "nat-share", COMMANDS["nat-share"])
search = partial(run_command, "nat-search", COMMANDS["nat-search"])
tune = partial(run_command, "nat-tune", COMMANDS["nat-tune"])
study = partial(run_command, "nat-study", COMMANDS["nat-study"])
convert = partial(run_command, "nat-convert", COMMANDS["nat-convert"])
pretrain = partial(run_command, "nat-pretrain", COMMANDS["nat-pretrain"])
bench = partial(run_command, "nat-bench", COMMANDS["nat-bench"])
