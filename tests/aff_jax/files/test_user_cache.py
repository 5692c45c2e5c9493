"""The cache directory is below the user's home, or where XDG_CACHE_HOME says."""

from aff_jax.files.user_cache import user_cache


def test_the_directory_is_below_the_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert user_cache("plans") == tmp_path / ".cache" / "aff_jax" / "plans"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert user_cache("xla") == tmp_path / "other" / "aff_jax" / "xla"
