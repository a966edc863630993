from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastinfer.measuring import Receipt
from fastinfer.preset_library import Preset, preset, presets

ROOT = Path(__file__).resolve().parents[2]


def of(name: str, kind: str) -> Preset:
    return preset(name, kind=kind)  # type: ignore[arg-type]


def test_the_receipts_are_what_the_results_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.receipts", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"run: python -m benchmarks.receipts\n{done.stderr}"


@pytest.mark.parametrize("built_in", presets(), ids=repr)
def test_every_built_in_preset_says_what_it_was_measured_at_where_and_how(built_in: Preset) -> None:
    assert built_in.receipts
    for receipt in built_in.receipts:
        assert isinstance(receipt, Receipt)
        assert receipt.kind == receipt.figures.kind == built_in.kind
        assert receipt.fingerprint == built_in.fingerprint
        assert receipt.figures.throughput > 0
        low, high = receipt.spread["throughput"]
        assert low <= receipt.figures.throughput <= high
        where = receipt.environment
        assert all((where.when, where.cpu, where.cores, where.commit, where.versions, receipt.command, receipt.model))
        assert Receipt.from_dict(json.loads(json.dumps(receipt.to_dict()))) == receipt


def test_those_for_gpus_were_measured_on_one() -> None:
    (prod,) = of("prod", "classify").receipts
    assert prod.environment.gpus == ("NVIDIA H200",)
    assert prod.environment.driver == "580.159.04"


def test_presets_with_the_same_values_share_receipts() -> None:
    assert of("prod", "chat").receipts == of("balanced", "chat").receipts


def test_receipts_are_no_part_of_a_preset_that_is_written() -> None:
    prod = of("prod", "classify")
    assert "receipts" not in prod.to_dict()
    assert Preset.from_dict(prod.to_dict()).receipts == prod.receipts


def test_explaining_shows_the_receipt_with_what_has_changed_since() -> None:
    explanation = of("prod", "classify").replace(quant_policy=8).explain()
    for text in (str(explanation), explanation._repr_html_()):
        flat = " ".join(text.split())
        assert "108 images/s (102.3 to 108.7)" in flat
        assert "NVIDIA H200, driver 580.159.04" in flat
        assert "commit b806471f" in flat
        assert "quant_policy 4 then, 8 in this preset" in flat
    (measured,) = explanation.measured
    assert measured.differs == ("quant_policy 4 then, 8 in this preset",)
    assert of("prod", "classify").explain().measured[0].differs == ()


def test_a_field_that_a_preset_had_not_yet_is_said_to_be_new() -> None:
    for item in presets():
        for measured in item.explain().measured:
            same = measured.receipt.fingerprint == item.fingerprint
            assert same == (measured.differs == ())


def test_a_users_own_preset_has_only_receipts_of_equal_values() -> None:
    Path("fastinfer.toml").write_text(
        '[classify.prod]\nextends = "prod"\nmax_batch_size = 64\n[classify.same]\nextends = "prod-exact"\n', "utf-8"
    )
    assert of("prod", "classify").receipts == ()
    assert [receipt.preset for receipt in of("same", "classify").receipts] == ["prod-exact"]
    assert "Measured" not in str(of("prod", "classify").explain())
