"""Packages that only an extra of the distribution installs."""


def missing_extra(what: str, extra: str) -> ImportError:
    """The error of a package that is not there.

    Args:
        what: who needs which package.
        extra: the extra's name in pyproject.toml.

    Example:
        >>> print(missing_extra("nat-tune needs optuna", "tune"))
        nat-tune needs optuna: pip install 'nat-env[tune]', or in a clone pip install -e '.[tune]'
    """
    return ImportError(
        f"{what}: pip install 'nat-env[{extra}]', or in a clone pip install -e '.[{extra}]'"
    )
