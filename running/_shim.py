import os
from data.scp import _parse, output_path, read_aligned
def read_lists(lists, optional=(), texts=()):
    lists = {r: p for r, p in lists.items() if r not in optional or os.path.exists(p)}
    return {n: {r: os.fspath(p) for r, p in d.items()} for n, d in read_aligned(lists)}, {}
def output_paths(folder, names, suffix):
    out, owners = {}, {}
    for n in names:
        p = os.fspath(output_path(folder, n, suffix))
        if p in owners:
            raise ValueError(f"{owners[p]} and {n} would both be written to {p}")
        owners[p] = n
        out[n] = p
    return out
def require_writable(path): pass
