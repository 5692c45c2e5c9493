"""Test the directory of compiled programs."""

import jax
import pytest

from train.runtime.compilation_cache import enable_compilation_cache


@pytest.fixture(autouse=True)
def settings():
    """Restore the settings of JAX after each test."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_flag_overrides_the_setting_of_jax_which_overrides_the_default(tmp_path, monkeypatch):
    def directory():
        return jax.config.values["jax_compilation_cache_dir"]

    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert enable_compilation_cache(str(tmp_path / "flag")) == tmp_path / "flag"
    assert directory() == str(tmp_path / "flag")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert enable_compilation_cache(None) == tmp_path / "jax"
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert enable_compilation_cache(None) == tmp_path / "xdg" / "aff_jax" / "xla"
    assert directory() == str(tmp_path / "xdg" / "aff_jax" / "xla")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert enable_compilation_cache("~/cache") == tmp_path / "cache"
    assert enable_compilation_cache("") is None
    assert directory() is None


def test_the_flag_may_begin_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert enable_compilation_cache("~/cache") == tmp_path / "cache"


def test_bucket_is_passed_to_jax(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert enable_compilation_cache("gs://bucket/cache") is None
    assert jax.config.values["jax_compilation_cache_dir"] == "gs://bucket/cache"
    assert list(tmp_path.iterdir()) == []


def test_only_a_given_directory_must_be_writable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"--compilation_cache=.*file/xla: Not a directory"):
        enable_compilation_cache(str(tmp_path / "file" / "xla"))
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert enable_compilation_cache(None) is None
    assert jax.config.values["jax_compilation_cache_dir"] is None
