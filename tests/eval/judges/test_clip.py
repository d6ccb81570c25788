"""The CLIP score against cosines computed with transformers alone."""

from dataclasses import replace

import pytest
import torch

from eval.judges.clip import clip_agreement
from nat_env.frozen.conditions import Conditions

PROMPTS = ("a cat", "two dogs, 3 cats", "b" * 60)  # the last is cut off
NAMES = (*PROMPTS, *"cdefghi")


@pytest.fixture
def bundle(digits):
    return replace(digits, conditions=Conditions(NAMES), yardstick=None, reals=None)


def test_it_is_the_cosine_of_image_and_prompt(bundle, clip_folder):
    from transformers import CLIPModel, CLIPProcessor

    images = torch.rand(5, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    conditions = torch.tensor([0, 1, 2, 1, 0])
    found = clip_agreement(bundle, clip_folder)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor = CLIPProcessor.from_pretrained(clip_folder)
    statistics = processor.image_processor.to_dict()
    mean, std = (
        torch.tensor(statistics[key])[:, None, None] for key in ("image_mean", "image_std")
    )
    with torch.no_grad():
        pixels = (images.expand(-1, 3, -1, -1) - mean) / std
        seen = model.get_image_features(pixel_values=pixels).pooler_output
        read = torch.cat(
            [
                model.get_text_features(
                    **processor.tokenizer(
                        [prompt], return_tensors="pt", truncation=True, max_length=24
                    )
                ).pooler_output
                for prompt in PROMPTS
            ]
        )
    cosines = torch.nn.functional.cosine_similarity(seen, read[conditions])
    assert cosines.std() > 0.05
    torch.testing.assert_close(
        found.score(images, conditions), cosines.clamp(min=0), atol=1e-5, rtol=0
    )


def test_its_name_and_what_it_was_held_against_tell_weights_and_prompts(bundle, clip_folder):
    found = clip_agreement(bundle, clip_folder)
    other = clip_agreement(bundle, clip_folder, "a photo of {}")
    assert found.name == other.name and found.name.startswith("clip@")
    assert found.description.startswith("10 prompts, SHA-256 ")
    assert found.description != other.description
