"""The client's list of encryptions: what a power cut or a full disk left of a line spoils no other."""

import pytest

from lowmem_resnet20.client import encryptions as registry
from lowmem_resnet20.client.encryptions import FILE_NAME, Entry, read_entries, record
from lowmem_resnet20.errors import EnvironmentFault


def entry(number: int) -> Entry:
    return Entry(f"id {number}", f"digest {number}", f"{number}.png")


def test_entries_are_read_back(tmp_path):
    assert read_entries(tmp_path) == {}
    for number in range(3):
        record(tmp_path, entry(number))
    assert read_entries(tmp_path) == {f"id {number}": entry(number) for number in range(3)}
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept", [1, 10, -1])
def test_a_line_that_was_cut_off_costs_that_one_alone(tmp_path, kept):
    """Without its line end alone, it is whole."""
    record(tmp_path, entry(0))
    record(tmp_path, entry(1))
    first, second = (tmp_path / FILE_NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE_NAME).write_bytes(first + second[:kept])
    record(tmp_path, entry(2))
    whole = {0, 2} | ({1} if kept == -1 else set())
    assert set(read_entries(tmp_path)) == {f"id {number}" for number in whole}


def test_a_disk_that_takes_half_a_line_is_told_of(tmp_path, monkeypatch):
    opened = open

    def half(*given, **named):
        file = opened(*given, **named)

        class Half:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, line):
                return file.write(line[: len(line) // 2])

        return Half()

    monkeypatch.setattr(registry, "open", half, raising=False)
    with pytest.raises(EnvironmentFault, match="No space left") as caught:
        record(tmp_path, entry(0))
    assert caught.value.hint == "free some disk space"
    assert read_entries(tmp_path) == {}
