"""A text-to-image model of a few numbers, whose images can be told from a prompt by hand."""

import copy

import torch
from torch import nn

from nat_env.frozen.protocol import NATOutput

WORDS = 4
"""Of a prompt at most: places of an image."""


class ToyTextEncoder:
    """Of each word how many letters it has and how many of them are a; of a prompt their sums."""

    kind = "toy"
    max_length = WORDS
    fingerprint = "toy"

    def __init__(self):
        self.encoded = []

    def lengths(self, prompts):
        return [len(prompt.split()) for prompt in prompts]

    def encode(self, prompts):
        context = torch.zeros(len(prompts), WORDS, 2)
        for row, prompt in enumerate(prompts):
            words = prompt.split()
            if len(words) > WORDS:
                raise ValueError(f"prompts: got {prompt!r} of {len(words)} words, allowed are 4")
            for place, word in enumerate(words):
                context[row, place] = torch.tensor([len(word), word.count("a")])
        self.encoded += prompts
        return context, context.sum(dim=1)

    def to(self, device):
        return self

    def save(self, folder):
        (folder / "words.txt").write_text("letters")
        return {}

    @classmethod
    def load(cls, folder, config, conditions):
        assert (folder / "words.txt").read_text() == "letters"
        return cls()


class ToyTextTransformer(nn.Module):
    """Is sure that place n is code "letters of the n-th word mod 4", and of nothing without one."""

    kind = "toy-text"
    num_tokens, codebook_size, mask_id, feature_size = WORDS, 4, 9, 2
    feature_grid = (2, 2)

    def __init__(self, conditions):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))
        self.context = conditions.context

    def with_conditions(self, conditions):
        other = copy.copy(self)
        other.context = conditions.context
        return other

    def forward(self, ids, condition):
        context = self.context[condition.cpu()].to(self.scale)
        codes = context[:, :, 0].long() % 4
        some = (context[:, :, :1] > 0).any(dim=1, keepdim=True)
        sure = nn.functional.one_hot(codes, 4) * self.scale * some
        known = (ids != 9).to(self.scale)
        return NATOutput(sure, torch.stack([known, context[:, :, 1]], dim=2))

    def save(self, folder):
        return {}

    @classmethod
    def load(cls, folder, config, conditions):
        return cls(conditions)


class Squares:
    """A grey level for each code, two pixels wide and high."""

    kind = "squares"
    image_size, channels, grid, codebook_size = (4, 4), 1, (2, 2), 4

    def encode(self, images):
        return (images[:, 0, ::2, ::2].flatten(1) * 3).round().long()

    def decode(self, ids):
        grey = (ids.float() / 3).view(-1, 1, 2, 2)
        return grey.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def to(self, device):
        return self

    def save(self, folder):
        return {}

    @classmethod
    def load(cls, folder, config, conditions):
        return cls()


def matcher(seed=0, widths=(4, 6)):
    """A model of these images and pooled vectors with random weights, without a table."""
    from nat_env.text.matcher import Matcher, MatcherConfig

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Matcher(MatcherConfig(1, 2, widths)).eval().requires_grad_(False)


def drawn(prompt):
    """The image [1, 4, 4] that the transformer is sure of."""
    codes = [len(word) % 4 for word in prompt.split()] + [0] * WORDS
    return Squares().decode(torch.tensor([codes[:WORDS]]))[0]


def darkness(images, prompts):
    """A model of image and text: how dark an image is for each letter of its prompt."""
    assert all(isinstance(prompt, str) for prompt in prompts)
    letters = torch.tensor([float(len(prompt)) for prompt in prompts])
    return (1 - images).mean(dim=(1, 2, 3)) * letters


def light(images, conditions):
    return images.mean(dim=(1, 2, 3))


class ToySentences:
    """Of a description, letters and vowels of its words; of its style a number of its own."""

    kind = "toy-sentences"
    max_length = WORDS

    def __init__(self, styles=("oil", "ink")):
        self.styles = tuple(styles)
        self.fingerprint = f"toy-sentences {self.styles}"
        self.encoded = []

    def lengths(self, prompts):
        return [len(prompt.split()) for prompt in prompts]

    def encode(self, prompts):
        from nat_env.text.sentences import STYLE_SIZE, styled

        pooled = torch.zeros(len(prompts), 4 + len(self.styles))
        for row, prompt in enumerate(prompts):
            described, style = styled(prompt)
            pooled[row, :4] = torch.tensor([described.count(letter) - 1.0 for letter in "aeio"])
            if style:
                pooled[row, 4 + self.styles.index(style)] = STYLE_SIZE
        self.encoded += prompts
        return pooled[:, None], pooled

    def to(self, device):
        return self

    def save(self, folder):
        return {"styles": list(self.styles)}

    @classmethod
    def load(cls, folder, config, conditions):
        return cls(config["styles"])
