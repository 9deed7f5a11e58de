"""Pocket language models: how the small models in `tests/data/pocket` were trained, and the tasks that test their skills.

They exist so that quantization is tested on weights that know something. Training is seeded and needs a CPU only:
`python -m measure.pocket.train tests/data/pocket/pocket-s --size s`.
"""
