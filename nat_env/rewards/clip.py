"""CLIP score: how well an image fits its prompt, or a sentence about its class (AdaNAT 4.3, B)."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nat_env.frozen.batches import in_batches
from nat_env.frozen.precision import full_float32, without_autocast
from nat_env.models.transformers_folder import load_whole
from nat_env.rewards.prompted import check_text
from nat_env.rewards.protocol import checked_scores

INTERPOLATIONS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""Torch's names of the resampling filters that image processors name by PIL's numbers."""

PROMPTS_KEPT = 4096
"""Prompts whose embedding is kept; the one that was not asked for longest makes room."""


class ClipScore:
    """`scale * max(cos(image, prompt), 0)` of a CLIP model's embeddings (Hessel et al. 2021).

    Any model that transformers loads as `CLIPModel` will do; PickScore v1 is one, trained on
    people's preferences. ImageReward, which the paper uses, is not: it is one pickled file, and
    transformers has no class for a BLIP with its reward head. Its own package's `score` is one of
    images and prompts, see `PromptReward`.

    A prompt is embedded when an image of it is first scored: a table may have many.

    Needs transformers (the extra `clip`), no torchvision: images are resized and normalised here,
    as the model's image processor says.
    """

    def __init__(
        self,
        path_or_id: str | Path,
        prompts: Sequence[str],
        device: str | torch.device = "cpu",
        scale: float = 100.0,
        batch_size: int = 64,
        text: str = "{}",
    ) -> None:
        """Load the model.

        Args:
            path_or_id: a folder or a Hugging Face id with model, tokenizer and image processor.
            prompts: of each condition, such as "a photo of a sandal".
            device: a torch device.
            scale: of the reward; Hessel et al. take 2.5, usual tables 100.
            batch_size: images of one pass.
            text: with {} for the prompt, "a photo of a {}" say: what the model is given.

        Raises:
            ValueError: no prompts or not a sequence of them, a text without {}, or nothing that
                loads as CLIP.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts: got {prompts!r}, allowed is one for each condition")
        check_text(text, "text")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, allowed is >= 1")
        self.model, processor = load_whole(
            "path_or_id", "the reward clip", "CLIPModel", path_or_id, {"CLIPProcessor": path_or_id}
        )
        self.model.to(device)
        self.prompts: tuple[str, ...] = tuple(prompts)
        self.scale = scale
        self.batch_size = batch_size
        self.text = text
        self.preparation = processor.image_processor.to_dict()
        self._tokenizer = processor.tokenizer
        self._embeddings: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def __call__(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Rewards [B] in 0 .. scale, of images [B, 1 or 3, H, W] in [0, 1], without TF32.

        Raises:
            ValueError: one that is not finite: the images are not, or the model is damaged.
        """
        device = self.model.device
        with full_float32():
            embeddings = in_batches(
                lambda i: (
                    self.model.get_image_features(pixel_values=self.prepared(i)).pooler_output
                ),
                images.to(device),
                batch_size=self.batch_size,
            )
        texts = self.embeddings_of([self.prompts[number] for number in conditions.tolist()])
        cosines = (F.normalize(embeddings, dim=1) * texts).sum(dim=1)
        scores = self.scale * cosines.clamp(min=0)
        return checked_scores(scores, len(images), "clip")

    def tell_names(self, names: Sequence[str]) -> None:
        """See `nat_env.rewards.protocol.tell_names`."""
        self.prompts = tuple(names)

    @torch.no_grad()
    def embeddings_of(self, prompts: Sequence[str]) -> Tensor:
        """Of prompts [B, width], of length 1; one that is too long is cut off."""
        wanted = dict.fromkeys(prompts)
        missing = [prompt for prompt in wanted if prompt not in self._embeddings]
        for start in range(0, len(missing), self.batch_size):
            batch = missing[start : start + self.batch_size]
            tokens = self._tokenizer(
                [self.text.replace("{}", prompt) for prompt in batch],
                padding="max_length",
                truncation=True,
                max_length=self.model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self.model.device)
            with without_autocast(self.model.device), full_float32():
                texts = self.model.get_text_features(**tokens).pooler_output
            self._embeddings |= zip(batch, F.normalize(texts, dim=1), strict=True)
        found = torch.stack([self._embeddings[prompt] for prompt in prompts])
        for prompt in wanted:
            self._embeddings.move_to_end(prompt)
        while len(self._embeddings) > PROMPTS_KEPT:
            self._embeddings.popitem(last=False)
        return found

    def prepared(self, images: Tensor) -> Tensor:
        """Images [B, 1 or 3, H, W] in [0, 1] as the model takes them: [B, 3, S, S], normalised."""
        images = images.float().expand(-1, 3, -1, -1)
        if self.preparation["do_resize"]:
            images = F.interpolate(
                images,
                self._resized(images.shape[2], images.shape[3]),
                mode=INTERPOLATIONS[self.preparation["resample"]],
                antialias=self.preparation["resample"] != 0,
            ).clamp(0, 1)  # a bicubic filter overshoots at edges
        if self.preparation["do_center_crop"]:
            crop = self.preparation["crop_size"]
            top = (images.shape[2] - crop["height"]) // 2
            left = (images.shape[3] - crop["width"]) // 2
            images = images[:, :, top : top + crop["height"], left : left + crop["width"]]
        if self.preparation["do_normalize"]:
            mean, std = (
                images.new_tensor(self.preparation[key])[:, None, None]
                for key in ("image_mean", "image_std")
            )
            images = (images - mean) / std
        return images

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width before the crop: given, or with the shorter edge given."""
        size = self.preparation["size"]
        if "shortest_edge" not in size:
            return size["height"], size["width"]
        edge, short = size["shortest_edge"], min(height, width)
        return edge * height // short, edge * width // short
