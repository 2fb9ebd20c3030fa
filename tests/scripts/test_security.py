"""What scripts/security.py asks the lattice estimator, and that it asks about the secrets that OpenFHE makes."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import numpy as np
import openfhe
import pytest

from lowmem_resnet20.native.keys import openfhe_files
from lowmem_resnet20.native.keys.archive import Reader
from lowmem_resnet20.native.keys.openfhe_files import FileKey, read_chain
from lowmem_resnet20.native.ring.chain import Chain
from lowmem_resnet20.openfhe.context import clear_rotation_keys, new_context, write_rotation_keys
from lowmem_resnet20.openfhe.library import BINARY
from lowmem_resnet20.openfhe.native_keys import _automorphism_key
from lowmem_resnet20.openfhe.secret import client_context, make_shared_bootstrapping_keys
from miniature import INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET, INSECURE_SET
from secretnumbers import coefficients, error_of_public_key, phase

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import security

#: Stands in for the estimator: notes what it is asked, and answers the sum of its numbers as a power of two.
STUB = """
from types import SimpleNamespace as Namespace

asked = []
ND = Namespace(SparseTernary=lambda p, m, n: (p, m, n), DiscreteGaussian=lambda deviation: deviation)
RC = Namespace(BDGL16="bdgl16", MATZOV="matzov")

def attack(name, bits):
    def cost(parameters, red_cost_model, **choices):
        asked.append((name, parameters, red_cost_model, choices))
        return {"rop": 2 ** (bits + parameters["q"].bit_length() % 100 + (red_cost_model == RC.MATZOV))}
    return cost

LWE = Namespace(
    Parameters=lambda **fields: fields,
    primal_hybrid=attack("primal_hybrid", 100),
    primal_usvp=attack("primal_usvp", 200),
    dual_hybrid=attack("dual_hybrid", 300),
)
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    (tmp_path / "estimator").mkdir()
    (tmp_path / "estimator" / "__init__.py").write_text(STUB)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "estimator", raising=False)
    yield tmp_path
    sys.modules.pop("estimator", None)


def test_every_shipped_set_is_estimated(checkout, capsys):
    security.main([str(checkout)])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and "log2 of" not in line]
    for name, set_ in security.SETS.items():
        main, *inner = [
            row for row in rows if name in row[0].replace("set ", "").removeprefix("inner secret of ").split(", ")
        ]
        ring = str(set_.log2_ring)
        assert main[1:5] == [ring, "192", "1.0", str(set_.log2_qp)]
        inners = [] if set_.engine == "native" else [[ring, "32", "3.19", str(set_.first_modulus_bits + 66)]]
        assert [row[1:5] for row in inner] == inners
        bits = (set_.log2_qp + 1) % 100
        costs = [float(start + bits + more) for start in (100, 200, 300) for more in (0, 1)]
        assert [float(cell) for cell in main[5:]] == [*costs, min(costs)]
    assert len({tuple(row[1:5]) for row in rows}) == len(rows)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert sum("raising the modulus fails" in line for line in lines) == 3
    assert {set_.engine for set_ in security.SETS.values()} == {"native", "openfhe"} and len(security.SETS) == 12


def test_what_the_estimator_is_asked(checkout, capsys):
    security.main([str(checkout), "--log2-ring", "15", "--log2-qp", "1685"])
    import estimator

    parameters = {"n": 32768, "q": 1 << 1685, "Xs": (96, 96, 32768), "Xe": 1.0, "tag": "a modulus"}
    hybrid = {"mitm": True, "babai": True}
    assert estimator.asked == [
        (name, parameters, model, choices)
        for name, choices in (("primal_hybrid", hybrid), ("primal_usvp", {}), ("dual_hybrid", {}))
        for model in ("bdgl16", "matzov")
    ]
    assert "commit unknown" in capsys.readouterr().out


def test_costs_beyond_a_float():
    """The inner secret's are: its modulus is so short that lattice reduction has no chance."""

    class Infinite:
        """As Sage's infinity is."""

        def __float__(self) -> float:
            return math.inf

    class Large(Infinite):
        """As Sage's real numbers are: float() of such gives infinity."""

        def log(self, base: int) -> float:
            return {2: 2770.25}[base]

    assert security.log2(Large()) == 2770.25
    assert security.log2(Infinite()) == math.inf
    assert security.log2(1 << 40) == 40


def test_a_folder_without_the_estimator(tmp_path):
    with pytest.raises(SystemExit, match="is no checkout of the lattice estimator"):
        security.main([str(tmp_path)])


def test_without_sage(checkout):
    (checkout / "estimator" / "__init__.py").write_text("import a_package_that_is_missing")
    with pytest.raises(SystemExit, match="pip install passagemath-standard"):
        security.main([str(checkout)])


@pytest.mark.parametrize(
    "set_", (INSECURE_SET, INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET), ids=("Chebyshev", "functional", "native")
)
def test_secrets_and_errors_are_openfhes(set_, tmp_path):
    """The weight of the main secret, and the errors that are met: those of switching keys are smaller than OpenFHE's
    parameter says, which holds for the public key."""
    context, n = client_context(new_context(set_)), set_.ring_dimension
    pair = context.KeyGen()
    secret_key = openfhe.Serialize(pair.secretKey, BINARY)
    main = coefficients(secret_key, n)
    assert np.count_nonzero(main) == security.MAIN.weight
    public = error_of_public_key(openfhe.Serialize(pair.publicKey, BINARY), secret_key, n)
    assert deviation(public) == pytest.approx(openfhe.CCParamsCKKSRNS().GetStandardDeviation(), rel=0.05)
    chain = read_chain(openfhe.Serialize(context, BINARY))
    for index in (5, 2 * n - 1):
        with _automorphism_key(context, pair.secretKey, index, chain, tmp_path) as key:
            under = permuted(main, pow(index, -1, 2 * n))  # results come back to the secret by the automorphism
            error = phase(*halves(key, -1), under, *key.primes[-1])  # modulo a prime of P there is nothing else
            assert deviation(error) == pytest.approx(security.MAIN.deviation, rel=0.05)


@pytest.mark.parametrize("set_", (INSECURE_SET, INSECURE_FUNCTIONAL_SET), ids=("Chebyshev", "functional"))
def test_the_inner_secret_is_openfhes(set_, tmp_path):
    """Its weight, which OpenFHE shows nobody but encrypts under the main one, its modulus, and both errors."""
    context, n = client_context(new_context(set_)), set_.ring_dimension
    pair = context.KeyGen()
    main = coefficients(openfhe.Serialize(pair.secretKey, BINARY), n)
    chain = read_chain(openfhe.Serialize(context, BINARY))
    make_shared_bootstrapping_keys(context, set_, pair.secretKey)
    write_rotation_keys(tmp_path / "keys", context, pair.secretKey.GetKeyTag())
    clear_rotation_keys()
    keys = foreign_keys((tmp_path / "keys").read_bytes(), chain)
    into, out = keys[2 * n - 4], keys[2 * n - 2]
    special = out.primes[-set_.special_towers :]
    error = phase(*halves(out, -1), main, *out.primes[-1])
    q0 = out.primes[0]
    inverse = pow(math.prod(prime.value for prime in special), -1, q0.value)
    hidden = (phase(*halves(out, 0), main, *q0) - error) * inverse % q0.value
    inner = np.where(hidden > 1, hidden - q0.value, hidden)
    assert set(inner) == {-1, 0, 1} and np.count_nonzero(inner) == security.INNER.weight
    assert into.primes[0].value.bit_length() == set_.first_modulus_bits
    assert sum(prime.value.bit_length() for prime in into.primes[1:]) == security.INNER_SPECIAL_BITS
    other = phase(*halves(into, -1), list(inner), *into.primes[-1])
    expected = [security.MAIN.deviation, security.INNER.deviation]
    assert [deviation(e) for e in (error, other)] == pytest.approx(expected, rel=0.05)


def foreign_keys(data: bytes, chain: Chain) -> dict[int, FileKey]:
    """A file's keys, of several pairs: the one into the inner secret bears its tag."""
    reader = Reader(data)
    openfhe_files._map_tag(reader)
    return reader.shared(lambda reader: openfhe_files._key_map(reader, chain))


def permuted(polynomial: list[int], g: int) -> list[int]:
    """Coefficients of a polynomial of X^g modulo X^N + 1."""
    n, result = len(polynomial), list(polynomial)
    for i, coefficient in enumerate(polynomial):
        turn, place = divmod(i * g % (2 * n), n)
        result[place] = -coefficient if turn else coefficient
    return result


def halves(key: FileKey, tower: int) -> list[np.ndarray]:
    return [key.residues(half, 0, tower) for half in "ba"]


def deviation(error: np.ndarray) -> float:
    return float(np.std(error.astype(float)))


def test_the_figures_on_failure_are_in_the_text():
    """Those of SECURITY.md, and that no picture fails more often than 2^-50."""
    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    lines = list(security.failures(security.SETS))
    assert len(lines) == 3  # OpenFHE's, and native ones in two rings
    for line in lines:
        once, most = (float(bits) for bits in re.findall(r"2\^(-[\d.]+)", line))
        assert most <= -50 and f"2^{once}" in text and f"2^{most}" in text, line


def test_the_texts_figures_are_of_the_sets_as_they_are():
    """The table of sets in SECURITY.md: number and engine, ring, log2 QP, and what each attack costs."""
    text = (ROOT / "SECURITY.md").read_text()
    row = r"^\| (?P<sets>\d(?: wide)?(?:, \d(?: wide)?)*)(?:, (?P<engine>engine openfhe|native))? \| (?P<ring>\d+) "
    row += r"\| (?P<bits>\d+) \|(?P<costs>(?: (?:[\d.]+|not run) \|){4})$"
    stated, costs = {}, {}
    for found in re.finditer(row, text, re.MULTILINE):
        engine, size = "native" if found["engine"] == "native" else "openfhe", (int(found["ring"]), int(found["bits"]))
        for name in found["sets"].split(", "):
            number, _, wide = name.partition(" ")
            stated[f"{number} {engine}{' ' * bool(wide)}{wide}"] = size
        costs[size] = [None if cost == "not run" else float(cost) for cost in found["costs"].strip(" |").split(" | ")]
    assert stated == {name: (set_.log2_ring, set_.log2_qp) for name, set_ in security.SETS.items()}
    assert min(cost for row in costs.values() for cost in row if cost) >= 128
    for ring in (15, 16):
        rows = [costs[size] for size in sorted(costs) if size[0] == ring]
        assert None not in rows[-1]  # of the longest modulus: a shorter one makes every attack dearer
        for column in zip(*rows, strict=True):
            known = [cost for cost in column if cost]
            assert known == sorted(known, reverse=True)
