"""Other packages and folders called as ours are."""

import subprocess
import sys
from pathlib import Path

import pytest

from nat_env.commands.collisions import check_packages

ROOT = Path(__file__).parents[3]


def installed(folder, distribution, *packages):
    """A folder of packages as pip makes one."""
    record = folder / f"{distribution}.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    lines = [f"{package}/__init__.py,sha256=x,1\n" for package in packages]
    record.write_text("".join(lines))
    for package in packages:
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").write_text(f"raise RuntimeError({distribution!r})")
    return folder


def test_ours_are_found_without_being_imported(tmp_path, monkeypatch):
    ours = installed(tmp_path / "site", "nat_env-0.1.0", "planted_agents", "planted_eval")
    monkeypatch.syspath_prepend(ours)
    check_packages(("planted_agents", "planted_eval"), ours)
    assert "planted_agents" not in sys.modules


def test_another_distribution_that_comes_first_is_named(tmp_path, monkeypatch):
    ours = installed(tmp_path / "clone", "nothing-0", "planted_agents")
    monkeypatch.syspath_prepend(ours)
    other = installed(tmp_path / "site", "openai_agents-0.4.2", "planted_agents")
    monkeypatch.syspath_prepend(other)
    with pytest.raises(ImportError, match=r"'planted_agents' of openai-agents 0\.4\.2 .*its own"):
        check_packages(("planted_agents",), ours)


@pytest.mark.parametrize("last", ["nat_env-0.1.0", "openai_agents-0.4.2"])
def test_two_distributions_that_wrote_the_same_file_are_found(tmp_path, monkeypatch, last):
    (first,) = {"nat_env-0.1.0", "openai_agents-0.4.2"} - {last}
    site = installed(tmp_path, first, "planted_agents")
    installed(site, last, "planted_agents")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(ImportError, match=r"shared with openai-agents 0\.4\.2.*its own"):
        check_packages(("planted_agents",), site)


def program(*words, cwd, **environment):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_a_folder_in_front_of_ours_is_named(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").touch()
    path = f"{tmp_path}:{ROOT}"
    code = "from nat_env.commands.entry import sample; sample()"
    found = program("-c", code, "--help", cwd=ROOT.parent, PYTHONPATH=path)
    assert found.returncode == 1
    assert found.stderr == (
        f"nat-sample: Python finds the folder {tmp_path / 'eval'} instead of nat-env's package "
        "'eval'; rename it, or take its parent off PYTHONPATH\n"
    )


def test_a_folder_in_the_working_directory_does_not_matter(tmp_path):
    for name in ("eval", "agents"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError")
    script = tmp_path / "bin" / "nat-sample"  # as pip writes it; its own folder comes first
    script.parent.mkdir()
    script.write_text("from nat_env.commands.entry import sample\nsample()\n")
    found = program(str(script), "--help", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("usage: nat-sample")
