"""Local files: which ones (filters, ignore), what they are (scan, known), where they go (destination), and placing them
(local)."""
