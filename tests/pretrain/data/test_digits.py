"""The digits, and the package that has them."""

import sys

import numpy as np
import pytest

from pretrain.data.digits import digits


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, (pixels, targets) = digits(), load_digits(return_X_y=True)
    assert len(data.train_images) + len(data.test_images) == 1797
    assert len(data.test_images) == 360  # every fifth, from the first
    images = np.round(pixels * 255 / 16).reshape(-1, 1, 8, 8)
    np.testing.assert_array_equal(data.test_images, images[::5])
    np.testing.assert_array_equal(data.test_labels, targets[::5])
    np.testing.assert_array_equal(data.train_images[:4], images[1:5])
    np.testing.assert_array_equal(data.train_images[4], images[6])
    assert data.class_names == tuple("0123456789")


def test_the_digits_name_the_package_that_has_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"scikit-learn: pip install 'nat-env\[pretrain\]'"):
        digits()
