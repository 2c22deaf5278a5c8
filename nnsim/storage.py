"""NOTICE, not code: the file that stood here was overwritten by mistake and must be written again by its author."""

raise ImportError(
    "nnsim/storage.py (class Storage: open, writer, save, saved_step, close) was overwritten by mistake at 06:26 by the "
    "helper that writes trajectory.py and checkpoint.py; no copy was found; its author must write it again"
)
