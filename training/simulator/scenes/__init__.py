"""Kinds of scenes; `registry` names them."""
