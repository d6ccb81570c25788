"""A bundle of the authors' files: a U-ViT and its tokenizer."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nat_env.bundles.bundle import check_parts
from nat_env.bundles.writer import check_replaceable, save_bundle
from nat_env.convert.arguments import ConvertNAT
from nat_env.convert.checkpoint_file import listed, read_state_dict
from nat_env.convert.nat_layouts import config_of, grid_of, layout_of, uvit_from
from nat_env.convert.prompt_table import prompt_table, text_encoder_of
from nat_env.convert.vqgan import read_tokenizer
from nat_env.frozen.conditions import Conditions
from nat_env.frozen.protocol import Tokenizer
from nat_env.models.uvit import UViT
from nat_env.storage.files import check_apart, check_writable_folder, sha256
from nat_env.text.encoder import TextEncoder


@dataclass(frozen=True)
class ConvertedNAT:
    """What the authors' files hold, in this library's form."""

    layout: str
    transformer: UViT
    tokenizer: Tokenizer
    conditions: Conditions
    text_encoder: TextEncoder | None


def convert_nat(options: ConvertNAT) -> ConvertedNAT:
    """Write a bundle of the authors' files: whole, or not at all.

    Everything is read and checked before anything is written.

    Returns:
        What the bundle holds.

    Raises:
        ValueError: a file that is missing, damaged, of another model or unsafe to read, with the
            names of tensors that do not fit; options that do not fit the file; a folder that cannot
            be written.
    """
    check_apart(out=options.out, file=options.file)
    if Path(options.tokenizer).exists():
        check_apart(out=options.out, tokenizer=Path(options.tokenizer))
    check_writable_folder(options.out)
    check_replaceable(options.out)
    found = read_nat(options)
    save_bundle(
        options.out,
        name=options.name or options.out.resolve().name,
        conditions=found.conditions,
        transformer=found.transformer,
        tokenizer=found.tokenizer,
        text_encoder=found.text_encoder,
        training={
            "converted_from": options.file.name,
            "sha256": sha256(options.file),
            "layout": found.layout,
            "tokenizer": Path(options.tokenizer).name,
        },
    )
    return found


def read_nat(options: ConvertNAT) -> ConvertedNAT:
    """What a bundle of the authors' files would hold; nothing is written.

    Raises:
        ValueError: see `convert_nat`.
    """
    tensors = read_state_dict(options.file, "file")
    layout = layout_of(tensors) if options.layout == "auto" else options.layout
    of_texts = {"conditions": True, "prompts": True, "text_encoder": True, "class_names": False}
    for name, of_text in of_texts.items():
        if getattr(options, name) is not None and of_text != (layout == "cc3m"):
            raise ValueError(
                f"{name}: got {str(getattr(options, name))!r}, allowed is none for the layout "
                f"{layout!r}, whose conditions are {'classes' if of_text else 'prompts'}"
            )
    grid = grid_of(tensors, layout, options.file)
    tokenizer = read_tokenizer(options.tokenizer, grid)
    encoder, prompts, length = text_encoder_of(options.text_encoder), None, 0
    if layout == "cc3m":
        prompts = prompt_table(options.conditions, options.prompts, encoder)
        length = prompts.context_length
    config = config_of(tensors, layout, grid, tokenizer.codebook_size, length, options.num_heads)
    uvit = uvit_from(tensors, layout, config, options.file)
    if prompts is None:
        conditions = Conditions(_class_names(options.class_names, config.num_classes))
    else:
        conditions = prompts.conditions()
    uvit = uvit.with_conditions(conditions)
    check_parts(conditions, uvit, tokenizer, None, None, None, None)
    return ConvertedNAT(layout, uvit, tokenizer, conditions, encoder)


def _class_names(path: Path | None, num_classes: int) -> tuple[str, ...]:
    """The classes' names: of a file, one a line; or their numbers.

    Raises:
        ValueError: the file cannot be read, or has another number of names.
    """
    if path is None:
        return tuple(map(str, range(num_classes)))
    try:
        names = tuple(path.read_text(encoding="utf-8").strip().splitlines())
    except (OSError, ValueError) as error:
        raise ValueError(f"class_names: {str(path)!r} cannot be read ({error})") from error
    names = tuple(name.strip() for name in names)
    if len(names) != num_classes or not all(names):
        raise ValueError(
            f"class_names: got {sum(map(bool, names))} names in {len(names)} lines of "
            f"{str(path)!r}, allowed are {num_classes}, one a line"
        )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:  # ImageNet has two cranes
        raise ValueError(
            f"class_names: got {listed(twice)} twice in {str(path)!r}, allowed is a name of its own"
            " for each class"
        )
    return names


def command(arguments: ConvertNAT) -> None:
    """Convert, and say what came out and what works with it."""
    found = convert_nat(arguments)
    config = found.transformer.config
    parameters = sum(weight.numel() for weight in found.transformer.parameters()) / 1e6
    height, width = found.tokenizer.image_size
    what = "classes" if config.num_classes else "prompts"
    print(
        f"{arguments.out}: a U-ViT of {config.depth} blocks {config.hidden_size} wide with "
        f"{config.num_heads} heads, {parameters:.1f} M parameters; {len(found.conditions)} {what}; "
        f"images of {height} x {width} pixels in {config.num_tokens} tokens.\n"
        "There are no judge, trunk and real images. Without them: nat-sample; with a reward of "
        "your own nat-search (--objective my_module:reward) and nat-train (--reward "
        "my_module:reward --eval-every 0). With --real-folder: nat-train's discriminator "
        "(--discriminator.trunk scratch --eval-every 0); with --inception and "
        "--inception-statistics, or --clip: nat-eval."
    )
