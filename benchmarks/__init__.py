"""What users wait for, measured against the plain way of doing it with public parts."""

import os

# As in the programs, and before torch is imported: threads that wait sleep, and take no core from others by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
