"""Benchmarks refuse a folder without images in one sentence, before they compute anything."""

import pytest

from benchmarks import domain, real_files


@pytest.mark.parametrize("verb", ["fit", "measure", "compare", "quality"])
def test_the_domain_check_is_not_measured_on_nothing(verb, tmp_path, capsys):
    assert domain.main([verb, str(tmp_path)]) == 2
    assert f"domain: {tmp_path} h" in capsys.readouterr().err


def test_files_are_not_compared_where_there_are_none(tmp_path, capsys):
    assert real_files.main([str(tmp_path / "none"), "--json", str(tmp_path / "nodir" / "x.json")]) == 2
    assert "give folders that hold some" in capsys.readouterr().err
    (tmp_path / "a.png").write_bytes(b"no image")
    assert real_files.main([str(tmp_path), "--json", str(tmp_path / "nodir" / "x.json")]) == 0
    assert (tmp_path / "nodir" / "x.json").is_file()
