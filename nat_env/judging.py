"""The Frechet distance of images under a bundle's judge."""

from torch import Tensor

from nat_env.bundle import Bundle
from nat_env.models.classifier import features_of
from nat_env.statistics import GaussianStatistics, frechet_distance


def judge_frechet_distance(bundle: Bundle, images: Tensor) -> float:
    """FD between images [n, C, H, W] in [0, 1] and the bundle's training images.

    Always name the judge and n beside this number: it is no FID, and it falls as n grows.
    """
    features = features_of(bundle.judge, images.to(bundle.device))
    statistics = GaussianStatistics.from_features(features.cpu().numpy())
    return frechet_distance(statistics, bundle.statistics)
