"""The engines: one small file per runtime behind one protocol; `engines.registry` loads them."""
