import pytest

from utils.safe_load import Inert, UnsafeFile
from utils.safe_yaml import load_yaml

PACKAGES = ("good", "torch")


def load(tmp_path, text):
    (tmp_path / "h.yaml").write_text(text, encoding="utf-8")
    return load_yaml(tmp_path / "h.yaml", packages=PACKAGES)


def test_values_references_and_records(tmp_path):
    found = load(
        tmp_path,
        """
        number: 3
        real: [1.5, .inf, -2e3]
        flag: True
        text: "1"
        nothing: null
        day: 2024-01-31
        chain: !ref <number>
        made: !new:good.package.Thing
            size: !ref <chain>
            sizes: !ref <real>
            folder: !ref <text>/x
        listed: !new:torch.nn.ModuleList [[!ref <made>]]
        function: !name:torch.nn.Linear
        later: !PLACEHOLDER
        """,
    )
    made, listed, function, later = (found.pop(key) for key in ("made", "listed", "function", "later"))
    assert found == {
        "number": 3,
        "real": [1.5, float("inf"), -2000.0],
        "flag": True,
        "text": "1",
        "nothing": None,
        "day": "2024-01-31",
        "chain": 3,
    }
    assert made.name == "good.package.Thing"
    folder = made.attributes.pop("folder")
    assert made.attributes == {"size": 3, "sizes": found["real"]}
    assert (folder.name, folder.arguments) == ("!ref", ("<text>/x",))
    assert isinstance(listed.arguments[0][0], Inert) and listed.arguments[0][0].name == "good.package.Thing"
    assert (function.name, later.name) == ("torch.nn.Linear", "!PLACEHOLDER")


@pytest.mark.parametrize(
    "line",
    [
        "x: !apply:os.mkdir [ran]",
        "x: {a: [!apply:os.mkdir [ran]]}",
        "x: !new:os.mkdir [ran]",
        "x: !new:subprocess.Popen {args: mkdir ran}",
        "x: !name:os.mkdir [ran]",
        "x: !new:goodness.Thing",
        "x: !new:good",
        "x: !!python/object/apply:os.mkdir [ran]",
        "x: !!python/name:os.mkdir",
        "x: !include:other.yaml",
        "x: !module:os",
        "x: !!binary aGVsbG8=",
        "x: !ref {a: 1}",
        "? !apply:os.mkdir [ran]\n: 1",
        "? [a, b]\n: 1",
        "!apply:os.mkdir ran: 1",
    ],
)
def test_whatever_would_run_or_load_something_is_refused(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeFile, match=r"h\.yaml .*Nothing in it was run"):
        load(tmp_path, f"a: 1\n{line}\n")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "text",
        "a: [1, 2",
        "a: 1\n---\nb: 2",
        "a: 1\na: 2",
        "a: &x [*x]",
        "a: !ref <b>\nb: !ref <a>",
        "a: !ref <a>",
        "a: *unknown",
        "a: !!int text",
        "[" * 2000,
        "a0: [1]\n" + "".join(f"a{i + 1}: [!ref <a{i}>, !ref <a{i}>]\n" for i in range(40)),
        "a: &x0 [1]\n" + "".join(f"a{i + 1}: &x{i + 1} [*x{i}, *x{i}]\n" for i in range(40)),
        "a: \x00",
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_what_is_not_a_mapping_of_values_is_a_value_error(tmp_path, text):
    with pytest.raises(ValueError, match=r"h\.yaml cannot be read as settings"):
        load(tmp_path, text)


def test_files_that_are_missing_too_large_or_not_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.yaml"):
        load_yaml(tmp_path / "gone.yaml")
    with pytest.raises(ValueError, match="too large"):
        load(tmp_path, "a: " + "x" * 2_000_000)
    (tmp_path / "h.yaml").write_bytes(b"\xff\xfe\x00a: 1")
    with pytest.raises(ValueError, match="cannot be read as settings"):
        load_yaml(tmp_path / "h.yaml")
