"""What others report on the Libri2Mix clean test set, to set beside a result: quoted, not measured here."""

from __future__ import annotations

COLUMNS = ("SIG", "OVRL", "NISQA", "SpeechBERT", "dWER", "WavLM sim")
# The columns of ours that they correspond to.
KEYS = ("dnsmos_sig", "dnsmos_ovrl", "nisqa_mos", "speechbert", "dwer", "similarity")
ROWS = (
    ("mixture", None, 2.653, 2.453, 0.572, 0.792, None),
    ("SpEx+", 3.472, 3.186, 3.349, 0.878, 0.148, 0.973),
    ("WeSep (BSRNN)", 3.486, 3.118, 3.892, 0.895, 0.123, 0.980),
    ("USEF-TSE", 3.555, 3.272, 4.319, 0.935, 0.075, 0.988),
    ("TSELM-L", 3.489, 3.212, 3.961, 0.793, 0.297, 0.887),
    ("LauraTSE", 3.609, 3.336, 4.333, 0.908, 0.159, 0.974),
)
SOURCE = (
    "Quoted, on the 3,000 mixtures of Libri2Mix clean test: LauraTSE's row from its authors' model card "
    "(huggingface.co/Beilong/LauraTSE), the others as papers later than TSELM's repeat them; TSELM's own table "
    "we have not seen. Measured with those authors' scripts: compare with care, and only on that test set."
)


def as_dict() -> dict:
    return {"columns": list(COLUMNS), "keys": list(KEYS), "rows": [list(row) for row in ROWS], "source": SOURCE}
